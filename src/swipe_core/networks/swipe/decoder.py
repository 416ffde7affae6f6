"""The decoders D^P and D^I: a small MLP from an embedding and coordinates to class logits (Sec. 2.2)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

PointNormalisation = Literal["batch", "layer", "none"]


@dataclass(frozen=True, eq=False)
class PatchQuery:
    """Pairs of a patch and a point, in any order; a point may be decoded from any number of patches."""

    projected: Float[Tensor, "patches projected"]
    """What `PointDecoder.project` makes of all patches, the images of a batch one after the other."""
    patches: Int[Tensor, " pairs"]
    """The row of `projected` of each pair."""
    coordinates: Float[Tensor, "pairs coordinate"]
    """What D^P is given of the point beside the embeddings of that patch."""
    points: Int[Tensor, " pairs"]
    """The number of the point."""
    weights: Float[Tensor, " pairs"] | None
    """What the logits are multiplied with; None for 1 each."""
    features: Float[Tensor, "seen features"] | None
    """What D^P reads at each point, whatever the patch; None where it reads nothing there."""
    rows: Int[Tensor, " pairs"]
    """The row of `features` of each pair."""

    def renumbered(self, points: Int[Tensor, " points"], weights: Float[Tensor, " points"]) -> PatchQuery:
        """Return the same for points that have other numbers elsewhere, and whose logits a weight there."""
        own = weights[self.points]
        total = own if self.weights is None else self.weights * own
        return replace(self, points=points[self.points], weights=total)

    def add(self, logits: Float[Tensor, "pairs outputs"], total: Float[Tensor, "points outputs"]) -> None:
        """Add the logits of all pairs, each times its weight, to those of the points."""
        if self.weights is not None:
            logits = logits * self.weights[:, None].to(logits.dtype)
        total.index_add_(0, self.points, logits)


class FourierFeatures(nn.Module):
    """A coordinate in [-1, 1] and its sines and cosines at frequencies pi/2, pi, 2 pi, ...

    The lowest period is two patches wide, so that a point in a neighbouring patch cannot be taken
    for one at home. Mildenhall et al. 2020; METHOD: 6 frequencies are 24 numbers in 2D.
    """

    frequencies: Tensor

    def __init__(self, ndim: int, frequencies: int) -> None:
        super().__init__()
        self.ndim = ndim
        self.outputs = ndim * (1 + 2 * frequencies)
        values = [0.5 * math.pi * 2.0**k for k in range(frequencies)]
        self.register_buffer("frequencies", torch.tensor(values), persistent=False)

    def forward(self, points: Float[Tensor, "*points ndim"]) -> Float[Tensor, "*points outputs"]:
        phase = (points[..., None] * self.frequencies).flatten(-2)
        return torch.cat([points, phase.sin(), phase.cos()], dim=-1)


class PointDecoder(nn.Module):
    """An MLP over (condition, coordinates, features) that reads its input again at its second layer.

    The condition (embeddings) is the same for all points of a patch, and the features at a point for all
    patches that it is decoded from. Their products with the two layers that read them are therefore computed
    once per patch and once per point, by `project` and `project_features`, and `forward` only adds them: the
    same result for about a third of the multiplications.

    `condition_width`, `coordinate_width` and `feature_width`: sizes of the three parts of the input.
    `hidden`: widths of the hidden layers, at least two.
    `norm`: normalisation after each hidden layer, over the points (``batch``, folded into the weights for
    inference), over the channels (``layer``), or ``none``.
    `has_interior`: whether there is one output more, after those of the classes: the logit of how deep inside
    its own object a point lies.
    """

    def __init__(
        self,
        condition_width: int,
        coordinate_width: int,
        hidden: Sequence[int],
        classes: int,
        *,
        norm: PointNormalisation,
        feature_width: int = 0,
        has_interior: bool = False,
    ) -> None:
        super().__init__()
        inputs = condition_width + coordinate_width + feature_width
        self.condition_width, self.coordinate_width = condition_width, coordinate_width
        self.feature_width = feature_width
        self.hidden = tuple(hidden)
        widths = [inputs, hidden[0] + inputs, *hidden[1:-1]]
        self.layers = nn.ModuleList(nn.Linear(i, o) for i, o in zip(widths, hidden, strict=True))
        self.norms = nn.ModuleList(_point_norm(norm, width) for width in hidden)
        self.output = nn.Linear(hidden[-1], classes)
        self.interior = nn.Linear(hidden[-1], 1) if has_interior else None

    def project(self, condition: Float[Tensor, "*patches condition"]) -> Float[Tensor, "*patches projected"]:
        """Return the condition's share of the first two layers, their biases included."""
        first, second = self._input_layers()
        bias = torch.cat([first.bias, second.bias])
        return functional.linear(condition, self._weights_of(0, self.condition_width), bias)

    def project_features(
        self, features: Float[Tensor, "*points features"]
    ) -> Float[Tensor, "*points projected"]:
        """Return the share of the features at the points."""
        start = self.condition_width + self.coordinate_width
        return functional.linear(features, self._weights_of(start, self.feature_width))

    def forward(
        self,
        projected: Float[Tensor, "*#points projected"],
        coordinates: Float[Tensor, "*#points coordinate"],
    ) -> Float[Tensor, "*#points outputs"]:
        """Return logits from what each point's patch (or all) and its features project, and coordinates."""
        _, second = self._input_layers()
        weight = self._weights_of(self.condition_width, self.coordinate_width)
        inputs = projected + functional.linear(coordinates, weight)
        activations = self._activate(0, inputs[..., : self.hidden[0]])
        activations = functional.linear(activations, second.weight[:, : self.hidden[0]])
        activations = self._activate(1, activations + inputs[..., self.hidden[0] :])
        for index in range(2, len(self.layers)):
            activations = self._activate(index, self.layers[index](activations))
        return self._answer(activations)

    def plain(
        self,
        condition: Float[Tensor, "*points condition"],
        coordinates: Float[Tensor, "*points coordinate"],
        features: Float[Tensor, "*points features"] | None = None,
    ) -> Float[Tensor, "*points outputs"]:
        """Return logits by the definition, without economy: what the paper's figures count."""
        inputs = torch.cat([condition, coordinates, *([] if features is None else [features])], dim=-1)
        activations = self._activate(0, self.layers[0](inputs))
        activations = self._activate(1, self.layers[1](torch.cat([activations, inputs], dim=-1)))
        for index in range(2, len(self.layers)):
            activations = self._activate(index, self.layers[index](activations))
        return self._answer(activations)

    def at(self, queries: Sequence[PatchQuery]) -> Float[Tensor, "all_pairs outputs"]:
        """Return the logits of all pairs, query after query."""
        projected = []
        for query in queries:
            own = query.projected.index_select(0, query.patches)
            if query.features is not None:
                own = own + self.project_features(query.features).index_select(0, query.rows)
            projected.append(own)
        return self(torch.cat(projected), torch.cat([query.coordinates for query in queries]))

    def _input_layers(self) -> tuple[nn.Linear, nn.Linear]:
        """The two layers that read the input."""
        first, second = self.layers[0], self.layers[1]
        assert isinstance(first, nn.Linear) and isinstance(second, nn.Linear)
        return first, second

    def _weights_of(self, start: int, width: int) -> Float[Tensor, "projected width"]:
        """What both layers multiply a part of the input with."""
        first, second = self._input_layers()
        again = self.hidden[0] + start
        return torch.cat([first.weight[:, start : start + width], second.weight[:, again : again + width]])

    def _answer(self, activations: Float[Tensor, "*points hidden"]) -> Float[Tensor, "*points outputs"]:
        logits: Tensor = self.output(activations)
        return logits if self.interior is None else torch.cat([logits, self.interior(activations)], dim=-1)

    def _activate(self, index: int, values: Tensor) -> Tensor:
        return functional.relu(self.norms[index](values))


class PointBatchNorm(nn.BatchNorm1d):
    """Batch normalisation over every axis but the last."""

    def forward(self, values: Tensor) -> Tensor:
        return super().forward(values.reshape(-1, values.shape[-1])).reshape(values.shape)

    def scale_and_shift(self) -> tuple[Tensor, Tensor]:
        """Return what it does in evaluation mode: values * scale + shift."""
        assert self.running_mean is not None and self.running_var is not None
        scale = self.weight * torch.rsqrt(self.running_var + self.eps)
        return scale, self.bias - self.running_mean * scale


def _point_norm(kind: PointNormalisation, width: int) -> nn.Module:
    if kind == "batch":
        return PointBatchNorm(width)
    return nn.LayerNorm(width) if kind == "layer" else nn.Identity()
