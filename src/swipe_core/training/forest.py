"""Extremely randomised trees (Geurts et al. 2006), which learn from few points more surely than a network."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

DEEPEST = 24  # levels of a tree


@dataclass(frozen=True, eq=False)
class Forest:
    """Trees whose nodes are numbered through, the roots first.

    Attributes
    ----------
    feature, threshold, child : (nodes,)
        What a node looks at, and the first of its two children: the second one is for what lies above the
        threshold. A leaf is its own child, and nothing lies above its threshold.
    shares : (nodes, classes)
        Of the classes in a node, as if all classes were equally frequent at the root.
    """

    trees: int
    depth: int
    feature: Int[Tensor, " nodes"]
    threshold: Float[Tensor, " nodes"]
    child: Int[Tensor, " nodes"]
    shares: Float[Tensor, "nodes classes"]

    @torch.no_grad()
    def probabilities(self, features: Float[Tensor, "points features"]) -> Float[Tensor, "points classes"]:
        """Return the mean of the trees' answers."""
        node = torch.arange(self.trees).expand(len(features), -1)
        for _ in range(self.depth):
            is_above = features.gather(1, self.feature[node]) > self.threshold[node]
            node = self.child[node] + is_above
        return self.shares[node].mean(dim=1)


@torch.no_grad()
def grow_forest(
    features: Float[Tensor, "points features"],
    classes: Int[Tensor, " points"],
    count: int,
    trees: int,
    generator: torch.Generator,
) -> Forest:
    """Grow trees until their leaves are pure, all of them at once, level by level.

    Every node chooses among the square root of all features, at one random threshold each, what lessens the
    Gini impurity most.

    Parameters
    ----------
    classes
        In [0, `count`); each weighs as much as any other.
    """
    width = features.shape[1]
    weights = 1 / torch.bincount(classes, minlength=count).clamp(min=1).float()
    weighted = functional.one_hot(classes, count) * weights
    flat = features.flatten()
    point = torch.arange(len(classes)).repeat(trees)
    node = torch.arange(trees).repeat_interleave(len(classes))
    levels: list[tuple[Tensor, ...]] = []
    first, nodes = 0, trees  # of this level
    while nodes:
        shares = torch.zeros(nodes, count).index_add_(0, node, weighted[point])
        is_mixed = ((shares > 0).sum(dim=1) > 1) & (len(levels) < DEEPEST)
        tried = torch.randint(width, (nodes, max(1, round(width**0.5))), generator=generator)
        is_kept = is_mixed[node]
        point, node = point[is_kept], node[is_kept]
        values = flat.take(width * point[:, None] + tried[node])
        everywhere = node[:, None].expand_as(values)
        low, high = (
            torch.zeros(tried.shape).scatter_reduce_(0, everywhere, values, way, include_self=False)
            for way in ("amin", "amax")
        )
        thresholds = low + torch.rand(tried.shape, generator=generator) * (high - low)
        is_above = values > thresholds[node]
        cell = torch.arange(tried.numel()).reshape(tried.shape)[node] * count + classes[point][:, None]
        there = is_above * weights[classes[point]][:, None]
        above = torch.bincount(cell.flatten(), there.flatten(), tried.numel() * count)
        above = above.float().reshape(*tried.shape, count)  # of no points bincount gives whole numbers
        best, chosen = _purity(above, shares[:, None] - above).masked_fill(low >= high, -1).max(dim=1)
        is_split = is_mixed & (best >= 0)
        child = first + torch.arange(nodes)
        child[is_split] = first + nodes + 2 * torch.arange(int(is_split.sum()))
        feature, threshold = (each.gather(1, chosen[:, None])[:, 0] for each in (tried, thresholds))
        threshold[~is_split] = torch.inf
        levels.append((feature, threshold, child, shares / shares.sum(dim=1, keepdim=True)))
        goes_on = is_split[node]
        side = is_above.gather(1, chosen[node][:, None])[:, 0]
        node = (child[node] - first - nodes + side)[goes_on]
        point, first, nodes = point[goes_on], first + nodes, 2 * int(is_split.sum())
    return Forest(trees, len(levels), *(torch.cat(each) for each in zip(*levels, strict=True)))


def _purity(above: Float[Tensor, "*nodes classes"], below: Float[Tensor, "*nodes classes"]) -> Tensor:
    """Return what is greatest where a split lessens the Gini impurity most."""
    return sum((side**2).sum(-1) / side.sum(-1).clamp(min=1e-12) for side in (above, below))  # type: ignore
