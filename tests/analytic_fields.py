"""Fields whose answer at every point is known."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from swipe_core.blocks import Block
from swipe_core.coordinates import Grid, image_to_voxel
from swipe_core.inference.config import InferenceConfig
from swipe_core.inference.field import OccupancyField
from swipe_core.inference.windows import EncodedWindow
from swipe_core.networks.swipe.embeddings import Embeddings
from swipe_core.networks.swipe.swipe import Swipe

PATCH_SIZE = 4

AnalyticField = Callable[..., OccupancyField]


class AnalyticModel(Swipe):
    """A decoder whose logits are a given function of the voxel frame of the whole image."""

    def __init__(self, logits: Callable[[Tensor], Tensor], shape: Sequence[int]) -> None:
        nn.Module.__init__(self)
        self.logits, self.shape = logits, shape
        self.backbone = SimpleNamespace(strides=(4, 8, 16, 32))
        self.asked = 0

    def decode_windows(self, queries, count, blending=None):
        self.asked += sum(len(query.points) for query in queries)
        parts = [self.logits(image_to_voxel(query.points_source, self.shape)) for query in queries]
        total = torch.zeros(count, parts[0].shape[-1])
        for query, part in zip(queries, parts, strict=True):
            total.index_add_(0, query.points, part * query.weights[:, None])
        return total


def spheres(centres, radius):
    """Logits of balls that may touch, and of how deep inside of the deepest a point lies."""

    def outputs(points_voxel):
        centre = torch.tensor(centres, dtype=points_voxel.dtype)
        inside = radius - torch.cdist(points_voxel, centre)
        depth = inside.amax(dim=-1)
        interior = torch.logit((depth / radius).clamp(1e-4, 1 - 1e-4))
        return torch.stack([torch.zeros_like(depth), 3 * depth, interior], dim=-1)

    return outputs


@pytest.fixture
def analytic_field() -> AnalyticField:
    """A function from logits and a grid, encoded whole by default, to a field."""

    def build(
        logits: Callable[[Tensor], Tensor],
        grid: Grid,
        *,
        class_names: tuple[str, ...] = ("one",),
        blocks: Sequence[Block] | None = None,
        attention: Callable[[int], Tensor | None] = lambda window: None,
        **config: object,
    ) -> OccupancyField:
        blocks = blocks or [Block((0,) * grid.ndim, grid.shape)]
        windows = [
            EncodedWindow(block, _embeddings(block.shape, attention(i))) for i, block in enumerate(blocks)
        ]
        return OccupancyField(
            model=AnalyticModel(logits, grid.shape),
            windows=tuple(windows),
            grid=grid,
            image_grid=grid,
            unit="millimeter",
            class_names=class_names,
            config=InferenceConfig(**config),
        )

    return build


def _embeddings(shape: Sequence[int], attention: Tensor | None) -> Embeddings:
    patch_grid = tuple(-(-n // PATCH_SIZE) for n in shape)
    if attention is not None:
        attention = attention.expand(1, -1, *patch_grid)
    return Embeddings(
        projected=torch.zeros(1, int(np.prod(patch_grid)), 1),
        attention=attention,
        image_shape=tuple(shape),
        patch_size=PATCH_SIZE,
        patch_grid=patch_grid,
    )


@pytest.fixture
def ball() -> Callable[..., Callable[[Tensor], Tensor]]:
    """A function from centre and radius, in voxels, to logits: the distance within and beyond the sphere."""

    def build(centre: Sequence[float], radius: float, sharpness: float = 1.0) -> Callable[[Tensor], Tensor]:
        def logits(points_voxel: Tensor) -> Tensor:
            inside = radius - (points_voxel - torch.tensor(centre)).norm(dim=-1)
            return torch.stack([torch.zeros_like(inside), sharpness * inside], dim=-1)

        return logits

    return build
