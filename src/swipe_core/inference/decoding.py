"""One answer at each point, from the windows that hold it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from swipe_core.coordinates import image_to_voxel, voxel_to_image, voxel_to_patch
from swipe_core.inference.windows import EncodedWindow, blending_weight

Answer = Callable[[np.ndarray], Tensor]
"""Points (points, ndim) in the voxel frame of the encoded image to what is said there."""
WindowAnswer = Callable[[EncodedWindow, Tensor, Tensor], Tensor]
"""What a window says, (points, width), at points of its image frame, given in the source frame too."""


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
    windows: Sequence[EncodedWindow],
    shape: Sequence[int],
    points_voxel: Float[np.ndarray, "points ndim"],
    answer: WindowAnswer,
    width: int,
) -> Float[Tensor, "points width"]:
    """The answer of the only window, or the weighted mean of those that hold each point.

    Parameters
    ----------
    shape
        Of the image that the windows cover.
    points_voxel : (points, ndim)
        At least one point, in the voxel frame of that image.
    """
    device = windows[0].embeddings.projected.device
    points = torch.tensor(points_voxel, dtype=torch.float32, device=device)
    source = voxel_to_image(points, shape)
    if len(windows) == 1:
        return answer(windows[0], source, source)
    # Beyond the image no window answers: there the nearest point of the image does.
    points = torch.minimum(points.clamp(min=-0.5), torch.tensor(shape, device=device) - 0.5)
    total, weights = points.new_zeros(len(points), width), points.new_zeros(len(points), 1)
    for window in _windows_near(windows, shape, points_voxel):
        inside_frame = window.to_image(points)
        weight = blending_weight(inside_frame)
        seen = weight.nonzero()[:, 0]
        if len(seen):
            said = answer(window, inside_frame[seen], window.mirror(source[seen]))
            total.index_add_(0, seen, weight[seen, None] * said)
            weights.index_add_(0, seen, weight[seen, None])
    return total / weights


def _windows_near(
    windows: Sequence[EncodedWindow], shape: Sequence[int], points_voxel: np.ndarray
) -> list[EncodedWindow]:
    """Windows that meet the bounding box of the points."""
    edge = np.asarray(shape) - 0.5
    low = np.clip(points_voxel.min(axis=0), -0.5, edge)
    high = np.clip(points_voxel.max(axis=0), -0.5, edge)
    return [
        window
        for window in windows
        if np.all(np.asarray(window.block.start) - 0.5 <= high)
        and np.all(np.add(window.block.start, window.block.shape) - 0.5 >= low)
    ]


def patch_attention(
    window: EncodedWindow, points_image: Float[Tensor, "points ndim"], points_source: Tensor
) -> Float[Tensor, "points 4"]:
    """The attention weights of the patch that holds each point, or is nearest to it."""
    embeddings = window.embeddings
    assert embeddings.attention is not None
    points_voxel = image_to_voxel(points_image, embeddings.image_shape)
    index = voxel_to_patch(points_voxel, embeddings.patch_size, embeddings.patch_grid)
    return embeddings.attention[0].movedim(0, -1)[index.unbind(-1)]
