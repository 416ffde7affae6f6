"""Stochastic Patch Overreach: asking a point's neighbouring patches about it (Sec. 2.2)."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from jaxtyping import Int
from torch import Tensor


def neighbour_offsets(ndim: int, connectivity: int) -> Int[Tensor, "neighbours ndim"]:
    """Offsets of the patches that count as neighbours.

    Parameters
    ----------
    connectivity
        4 or 8 in 2D; 6, 18 or 26 in 3D: patches that share a face, also an edge, also a corner.
    """
    reach = {2: {4: 1, 8: 2}, 3: {6: 1, 18: 2, 26: 3}}[ndim][connectivity]
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
    """For each point, `count` neighbouring patches, uniformly among those that exist.

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
