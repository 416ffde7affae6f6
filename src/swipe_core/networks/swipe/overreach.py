"""Stochastic Patch Overreach: decoding a point from its neighbouring patches too (Sec. 2.2).

In training some are drawn; at inference those that were trained so are blended.
"""

import itertools
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor


def reach_of(ndim: int, connectivity: int) -> int:
    """Return along how many axes at once the patches lie apart that count as neighbours.

    `connectivity`: 4 or 8 in 2D; 6, 18 or 26 in 3D: patches that share a face, also an edge, also a corner.
    """
    return {2: {4: 1, 8: 2}, 3: {6: 1, 18: 2, 26: 3}}[ndim][connectivity]


def neighbour_offsets(ndim: int, connectivity: int) -> Int[Tensor, "neighbours ndim"]:
    """Return the offsets of the patches that count as neighbours; see `reach_of`."""
    reach = reach_of(ndim, connectivity)
    offsets = [
        offset for offset in itertools.product((-1, 0, 1), repeat=ndim) if 0 < sum(map(abs, offset)) <= reach
    ]
    return torch.tensor(offsets)


def draw_neighbours(
    patch_index: Int[Tensor, "batch points ndim"],
    patch_grid: Sequence[int],
    count: int,
    connectivity: int,
    generator: torch.Generator | None = None,
) -> Int[Tensor, "batch points count ndim"]:
    """Draw `count` neighbouring patches for each point, uniformly among those that exist.

    At the border fewer exist, so that a point never stays in its own patch. The draw is made on the
    generator's device (the CPU without one). A grid of one single patch has no neighbours: the
    point's own patch stands in.
    """
    device = patch_index.device
    offsets = neighbour_offsets(patch_index.shape[-1], connectivity).to(device)
    candidates = patch_index[..., None, :] + offsets
    last = torch.as_tensor(tuple(patch_grid), device=device) - 1
    exists = ((candidates >= 0) & (candidates <= last)).all(dim=-1)
    lonely = ~exists.any(dim=-1, keepdim=True)
    # A uniform rank among the existing candidates, then the candidate that has this rank.
    draw_device = generator.device if generator is not None else device
    uniform = torch.rand(*patch_index.shape[:-1], count, generator=generator, device=draw_device).to(device)
    number = exists.sum(dim=-1, keepdim=True)
    rank = torch.minimum((uniform * number).long(), (number - 1).clamp(min=0))
    order = exists.cumsum(dim=-1) - 1
    hit = exists[..., None, :] & (order[..., None, :] == rank[..., None])
    chosen = hit.int().argmax(dim=-1)
    picked = torch.gather(candidates, -2, chosen[..., None].expand(*chosen.shape, candidates.shape[-1]))
    return torch.where(lonely[..., None], patch_index[..., None, :], picked)


def blending_weights(
    upper_share: Float[Tensor, "points ndim"], reach: int
) -> Float[Tensor, "corners points"]:
    """Return how much each of the patches around a point counts: the corners of a cell, in C order.

    Linear weights are products over the axes, of t for the patch across the nearer border and of 1 - t for
    the point's own, t being at most 1/2. With v = t / (1/2 - t), these are in the ratio of v to 2 + v, and
    the product of the sums over all axes is a polynomial in all v. Of that only the terms up to the degree
    `reach` are kept, and all is divided by what is left. So patches further away, which were never trained
    on such points, have no weight, and where no more axes than `reach` are near a border nothing changes.
    Across a border, where v is infinite, both sides keep the same terms: the weights are continuous. They
    cannot be where more borders than `reach` meet, since no patch is trained for all that meet there.

    `upper_share`: of the upper of two patches along each axis, in [0, 1], were there no other axis.
    `reach`: along how many axes at once patches lie apart that are trained on each other's points.

    Returns
    -------
    weights
        None is negative; those of a point sum to 1.
    """
    ndim = upper_share.shape[-1]
    corners = torch.tensor(list(itertools.product((False, True), repeat=ndim)), device=upper_share.device)
    if reach >= ndim:
        return torch.where(corners[:, None], upper_share, 1 - upper_share).prod(dim=-1)
    is_upper = upper_share >= 0.5
    across = corners[:, None] != is_upper
    share = torch.where(is_upper, 1 - upper_share, upper_share)
    # The terms of each degree; times 1/2 - t along each axis, they are finite.
    terms = [torch.ones_like(across[..., 0], dtype=share.dtype), *[torch.zeros(())] * reach]
    for axis in range(ndim):
        nearby, constant = share[:, axis], (1 - 2 * share[:, axis]) * ~across[..., axis]
        lower = [torch.zeros_like(nearby), *terms]
        terms = [own * constant + below * nearby for own, below in zip(terms, lower, strict=False)]
    weights = torch.stack(terms).sum(dim=0)
    total = weights.sum(dim=0)
    own_patch = (~across).all(dim=-1).to(weights)
    return torch.where(total > 0, weights / total.clamp(min=torch.finfo(total.dtype).tiny), own_patch)
