"""One answer at each point, from the windows that hold it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from swipe_core.blocks import Block
from swipe_core.coordinates import image_to_voxel, voxel_to_image, voxel_to_patch
from swipe_core.inference.windows import EncodedWindow, blending_weight
from swipe_core.networks.encoding import Encoding
from swipe_core.networks.segmenter import Asked, Blending, Segmenter
from swipe_core.networks.swipe.backbone import STAGES
from swipe_core.networks.swipe.embeddings import Embeddings

Answer = Callable[[np.ndarray], Tensor]
"""Points (points, ndim) in the voxel frame of the encoded image to what is said there."""


def in_chunks(
    answer: Answer,
    points_voxel: Float[np.ndarray, "points ndim"],
    size: int,
    width: tuple[int, ...],
    dtype: type,
) -> Shaped[np.ndarray, "points *width"]:
    """Ask at most `size` points at once; what is said of each has the shape `width`."""
    # Small results that stay, one after each chunk, would keep the heap from using its gaps again.
    answers: np.ndarray = np.empty((len(points_voxel), *width), dtype)
    for start in range(0, len(points_voxel), size):
        chunk = slice(start, start + size)
        answers[chunk] = answer(points_voxel[chunk]).cpu().numpy()
    return answers


def smoothly(
    answer: Answer, points_voxel: Float[np.ndarray, "points ndim"], shape: Sequence[int], radius: float
) -> Tensor:
    """The mean of the answers around each point, over its `stencil`; beyond the image its border answers."""
    if not radius:
        return answer(points_voxel)
    weights, offsets = stencil(len(shape), radius)
    around = np.clip(points_voxel + offsets[:, None], -0.5, np.asarray(shape) - 0.5)
    said = answer(around.reshape(-1, len(shape))).unflatten(0, around.shape[:2])
    return torch.tensordot(said.new_tensor(weights), said, dims=1)


def stencil(ndim: int, radius: float) -> tuple[Float[np.ndarray, " moved"], Float[np.ndarray, "moved ndim"]]:
    """Weights and offsets of the points over which an answer is averaged; a radius of 0 has one.

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
def ask_windows(
    model: Segmenter,
    windows: Sequence[EncodedWindow],
    shape: Sequence[int],
    points_voxel: Float[np.ndarray, "points ndim"],
    blending: Blending | None,
) -> Float[Tensor, "points classes"]:
    """The logits of the window that is the image, or the weighted mean of those of all that hold each point.

    All windows and patches are asked in one go. Where there is no window, since only those of a region were
    encoded, the logits are not a number, and the background decides.

    Parameters
    ----------
    shape
        Of the image that the windows cover.
    points_voxel : (points, ndim)
        At least one point, in the voxel frame of that image.
    """
    count = len(points_voxel)
    asked = list(views(windows, shape, points_voxel))
    total = torch.zeros(count, device=windows[0].encoding.device)
    for one in asked:
        total.index_add_(0, one.points, one.weights)
    if not asked:
        return total.new_full((count, model.classes), torch.nan)
    return model.answer(asked, count, blending) / total[:, None]


@torch.inference_mode()
def attention_of_windows(
    windows: Sequence[EncodedWindow], shape: Sequence[int], points_voxel: Float[np.ndarray, "points ndim"]
) -> Float[Tensor, "points 4"]:
    """The attention weights of the patch that holds each point, averaged over windows as the logits are."""
    device = windows[0].encoding.device
    said, total = torch.zeros(2, len(points_voxel), STAGES, device=device)
    for view in views(windows, shape, points_voxel):
        own = view.weights[:, None] * _patch_attention(view.encoding, view.points_image)
        said.index_add_(0, view.points, own)
        total.index_add_(0, view.points, view.weights[:, None].expand_as(own))
    return said / total


def views(
    windows: Sequence[EncodedWindow], shape: Sequence[int], points_voxel: Float[np.ndarray, "points ndim"]
) -> Iterator[Asked]:
    """What each window that sees some of the points is asked; the weights of all windows do not sum to 1.

    One that covers the image sees all. Beyond the image others see the nearest point of the image instead.
    The source coordinate (p^S) is that of the image as it lies, for mirrored windows too: so it is trained,
    where a crop is mirrored and its source is not.
    """
    device = windows[0].encoding.device
    points = torch.tensor(points_voxel, dtype=torch.float32, device=device)
    source = voxel_to_image(points, shape)
    if len(windows) == 1 and windows[0].block.shape == tuple(shape):
        ones = torch.ones(len(points), device=device)
        yield Asked(windows[0].encoding, torch.arange(len(points), device=device), ones, source, source)
        return
    points = torch.minimum(points.clamp(min=-0.5), torch.tensor(shape, device=device) - 0.5)
    spans = _Spans(points)
    for window in windows:
        seen = spans.inside(window.block)
        if seen is not None:
            inside_frame = window.to_image(points[seen])
            weights = blending_weight(inside_frame)
            yield Asked(window.encoding, seen, weights, inside_frame, source[seen])


class _Spans:
    """Which of some points lie in a block; the ends that windows share along an axis are looked at once."""

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


def _patch_attention(
    encoding: Encoding, points_image: Float[Tensor, "points ndim"]
) -> Float[Tensor, "points 4"]:
    assert isinstance(encoding, Embeddings)
    assert encoding.attention is not None
    points_voxel = image_to_voxel(points_image, encoding.image_shape)
    index = voxel_to_patch(points_voxel, encoding.patch_size, encoding.patch_grid)
    return encoding.attention[0].movedim(0, -1)[index.unbind(-1)]
