"""Logits at any points, from the windows that hold them."""

import functools
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from swipe_core.blocks import Block
from swipe_core.coordinates import voxel_to_image
from swipe_core.inference.windows import EncodedWindow, blending_weight
from swipe_core.networks.segmenter import Blending, Segmenter, WindowQuery

PointFunction = Callable[[np.ndarray], Tensor]
"""Points (points, ndim) in the voxel frame of the encoded image to values there."""


def in_chunks(
    function: PointFunction,
    points_voxel: Float[np.ndarray, "points ndim"],
    size: int,
    width: tuple[int, ...],
    dtype: type,
) -> Shaped[np.ndarray, "points *width"]:
    """Evaluate a function at no more than `size` points at once; its values have the shape `width`."""
    # Small results that stay, one after each chunk, would keep the heap from using its gaps again.
    values: np.ndarray = np.empty((len(points_voxel), *width), dtype)
    for start in range(0, len(points_voxel), size):
        chunk = slice(start, start + size)
        values[chunk] = function(points_voxel[chunk]).cpu().numpy()
    return values


def smoothly(
    function: PointFunction,
    points_voxel: Float[np.ndarray, "points ndim"],
    shape: Sequence[int],
    radius: float,
) -> Tensor:
    """Return the mean of a function over the `stencil` of each point; beyond the image its border counts."""
    if not radius:
        return function(points_voxel)
    weights, offsets = stencil(len(shape), radius)
    around = np.clip(points_voxel + offsets[:, None], -0.5, np.asarray(shape) - 0.5)
    values = function(around.reshape(-1, len(shape))).unflatten(0, around.shape[:2])
    return torch.tensordot(values.new_tensor(weights), values, dims=1)


def stencil(ndim: int, radius: float) -> tuple[Float[np.ndarray, " moved"], Float[np.ndarray, "moved ndim"]]:
    """Return weights and offsets of the points over which is averaged; a radius of 0 has one.

    Half the weight is the point's own, the rest is shared by the points at `radius` along each axis.
    Mean and covariance, radius^2 / (2 ndim) along every axis, are those of a round Gaussian. With less
    weight at the centre fine detail could turn into its opposite: a wave of frequency f (per axis) is
    multiplied by 1/2 + the mean over the axes of cos(2 pi f radius) / 2, which is never negative.
    """
    if not radius:
        return np.ones(1), np.zeros((1, ndim))
    steps = radius * np.concatenate([np.zeros((1, ndim)), np.eye(ndim), -np.eye(ndim)])
    return np.array([0.5] + [0.25 / ndim] * (2 * ndim)), steps


@torch.inference_mode()
def decode_windows(
    model: Segmenter,
    windows: Sequence[EncodedWindow],
    shape: Sequence[int],
    points_voxel: Float[np.ndarray, "points ndim"],
    blending: Blending | None,
) -> Float[Tensor, "points outputs"]:
    """Return the logits of the window that is the image, or the weighted mean over all that hold each point.

    All windows and patches are decoded in one go. Where there is no window, since only those of a region were
    encoded, the logits are not a number, and the background decides.

    `shape`: of the image that the windows cover.
    `points_voxel` (points, ndim): at least one point, in the voxel frame of that image.
    """
    count = len(points_voxel)
    queries = list(window_queries(windows, shape, points_voxel))
    total = torch.zeros(count, device=windows[0].encoding.device)
    for query in queries:
        total.index_add_(0, query.points, query.weights)
    if not queries:
        return total.new_full((count, model.outputs), torch.nan)
    return model.decode_windows(queries, count, blending) / total[:, None]


@torch.inference_mode()
def attention_of_windows(
    windows: Sequence[EncodedWindow],
    stages: int,
    shape: Sequence[int],
    points_voxel: Float[np.ndarray, "points ndim"],
) -> Float[Tensor, "points stages"]:
    """Return the attention weights of the patch of each point, averaged over windows as the logits are."""
    device = windows[0].encoding.device
    mean, total = torch.zeros(2, len(points_voxel), stages, device=device)
    for query in window_queries(windows, shape, points_voxel):
        own = query.weights[:, None] * query.encoding.stage_weights_at(query.points_image)
        mean.index_add_(0, query.points, own)
        total.index_add_(0, query.points, query.weights[:, None].expand_as(own))
    return mean / total


def window_queries(
    windows: Sequence[EncodedWindow], shape: Sequence[int], points_voxel: Float[np.ndarray, "points ndim"]
) -> Iterator[WindowQuery]:
    """Yield what each window that sees some of the points has to decode; the weights do not sum to 1.

    A window that covers the image sees all. Beyond the image others see the nearest point of it instead.
    The source coordinate (p^S) is that of the image as it lies, for mirrored windows too: so it is trained,
    where a crop is mirrored and its source is not.
    """
    device = windows[0].encoding.device
    points = torch.tensor(points_voxel, dtype=torch.float32, device=device)
    source = voxel_to_image(points, shape)
    if len(windows) == 1 and windows[0].block.shape == tuple(shape):
        ones = torch.ones(len(points), device=device)
        yield WindowQuery(windows[0].encoding, torch.arange(len(points), device=device), ones, source, source)
        return
    points = torch.minimum(points.clamp(min=-0.5), torch.tensor(shape, device=device) - 0.5)
    spans = _Spans(points)
    for window in windows:
        seen = spans.inside(window.block)
        if seen is not None:
            inside_frame = window.to_image(points[seen])
            weights = blending_weight(inside_frame)
            yield WindowQuery(window.encoding, seen, weights, inside_frame, source[seen])


class _Spans:
    """Finds the points that lie in a block; the ends that windows share along an axis are looked at once."""

    def __init__(self, points_voxel: Float[Tensor, "points ndim"]) -> None:
        self._axes = points_voxel.unbind(dim=-1)
        self._known: dict[tuple[int, int, int], Bool[Tensor, " points"] | None] = {}

    def inside(self, block: Block) -> Int[Tensor, " inside"] | None:
        """The numbers of the points within a block; None where there are none."""
        masks = []
        for axis, (start, length) in enumerate(zip(block.start, block.shape, strict=True)):
            mask = self._along(axis, start, length)
            if mask is None:
                return None
            masks.append(mask)
        found = functools.reduce(torch.logical_and, masks).nonzero()[:, 0]
        return found if len(found) else None

    def _along(self, axis: int, start: int, length: int) -> Bool[Tensor, " points"] | None:
        key = axis, start, length
        if key not in self._known:
            positions = self._axes[axis]
            mask = (positions >= start - 0.5) & (positions <= start + length - 0.5)
            self._known[key] = mask if mask.any() else None
        return self._known[key]
