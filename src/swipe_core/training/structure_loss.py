"""The structure loss, by which PraNet learns from whole masks: boundaries and thin parts weigh most.

Wei et al. 2020, "F3Net: Fusion, Feedback and Focus for Salient Object Detection".
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

BOUNDARY_WEIGHT = 5.0  # gamma of Wei et al. 2020
BOUNDARY_WINDOW = 31  # voxels along each axis; the width that PraNet is trained with


def structure_loss(
    logits: Float[Tensor, "batch *lattice classes"], classes: Int[Tensor, "batch *lattice"]
) -> Float[Tensor, ""]:
    """Return weighted cross entropy plus weighted intersection over union of whole masks, as in PraNet.

    A voxel weighs 1 + 5 |mean of the mask in a window about it - mask|, so that boundaries and thin parts
    weigh most. Each foreground class is one mask against all else, its probability that of the softmax; the
    mean is over images and foreground classes. The mean in a window is over its valid voxels inside of the
    image.

    `classes`: voxels of a negative class are left out of weights and sums; an image of nothing else costs 0.
    """
    foreground = torch.arange(1, logits.shape[-1], device=classes.device)
    masks = (classes[..., None] == foreground).float()
    weights = _structure_weights(masks, (classes >= 0)[..., None].float())
    log_inside, log_outside = (part[..., 1:] for part in _log_one_against_rest(logits.float()))
    inside = log_inside.exp()
    axes = tuple(range(1, classes.ndim))

    entropy = -(weights * (masks * log_inside + (1 - masks) * log_outside)).sum(dim=axes)
    overlap = (weights * inside * masks).sum(dim=axes)
    union = (weights * (inside + masks - inside * masks)).sum(dim=axes)
    # A valid voxel weighs 1 at least, so 1 is no limit but where there is none.
    return (entropy / weights.sum(dim=axes).clamp(min=1) + 1 - (overlap + 1) / (union + 1)).mean()


def _structure_weights(
    masks: Float[Tensor, "batch *lattice foreground"], valid: Float[Tensor, "batch *lattice 1"]
) -> Float[Tensor, "batch *lattice foreground"]:
    """Return how much each voxel counts for a mask: most near its boundary, and not at all where invalid."""
    mean = _window_sums(masks) / _window_sums(valid).clamp(min=1)
    return valid * (1 + BOUNDARY_WEIGHT * (mean - masks).abs())


def _window_sums(values: Float[Tensor, "batch *lattice kinds"]) -> Float[Tensor, "batch *lattice kinds"]:
    """Return sums over the window about each voxel, cut at the border: as differences of running sums.

    Of zeros and ones these are whole numbers, which float32 holds exactly, and work that does not grow
    with the window.
    """
    for axis in range(1, values.ndim - 1):
        places = torch.arange(values.shape[axis], device=values.device)
        first = (places - BOUNDARY_WINDOW // 2).clamp(min=0)
        last = (places + BOUNDARY_WINDOW // 2).clamp(max=values.shape[axis] - 1)
        running = values.cumsum(dim=axis)
        before = running - values
        values = running.index_select(axis, last) - before.index_select(axis, first)
    return values


def _log_one_against_rest(logits: Float[Tensor, "*points classes"]) -> tuple[Tensor, Tensor]:
    """Return the logarithms of each class's probability and of that of all other classes together."""
    log_one = logits.log_softmax(dim=-1)
    top = torch.zeros_like(log_one, dtype=torch.bool).scatter_(-1, log_one.argmax(dim=-1, keepdim=True), True)
    # Where a class is nearly certain, 1 - p would be rounded away: there the others are added up.
    beside_top = log_one.masked_fill(top, -torch.inf).logsumexp(dim=-1, keepdim=True)
    beside_other = torch.log1p(-log_one.exp().masked_fill(top, 0))
    return log_one, torch.where(top, beside_top, beside_other)
