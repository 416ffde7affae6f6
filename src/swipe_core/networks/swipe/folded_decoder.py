"""A point decoder for inference: the same function, with less to do at every point."""

import bisect
import itertools
import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from swipe_core.networks.swipe.decoder import PatchQuery, PointBatchNorm, PointDecoder

# What is computed at once: on each core of a CPU as many numbers of a layer as stay in its cache with their
# weights, on a GPU as many as keep all of it busy.
CPU_NUMBERS = 2**18
GPU_NUMBERS = 2**26


class FoldedDecoder(PointDecoder):
    """A `PointDecoder` in evaluation mode whose normalisations are part of the linear layers.

    Batch normalisation vanishes altogether. Of layer normalisation, (x - mean) / deviation * gain + shift
    before a ReLU, only the deviation depends on the point. The mean goes, since the layer before can
    have its outputs' mean taken out of its weights. The gain goes, since ReLU(gain * y) = |gain| *
    ReLU(+-y): its sign is a sign of the weights before, its size a factor of the weights behind.

    It has no gradients, and works in place on what it allocates itself, chunk by chunk.
    """

    coordinate_weight: Tensor
    feature_weight: Tensor

    @torch.no_grad()
    def __init__(self, decoder: PointDecoder) -> None:
        # The interior is one more row of the last layer, which is folded into as it is.
        heads = [decoder.output, *([] if decoder.interior is None else [decoder.interior])]
        last = {n: torch.cat([head.get_parameter(n) for head in heads]) for n in ("weight", "bias")}
        super().__init__(
            decoder.condition_width,
            decoder.coordinate_width,
            decoder.hidden,
            len(last["bias"]),
            norm="none",
            feature_width=decoder.feature_width,
        )
        layers = {n: t for n, t in decoder.state_dict().items() if n.startswith("layers.")}
        self.load_state_dict(layers | {f"output.{n}": t for n, t in last.items()})
        self.eval().requires_grad_(False)
        behind = [*self.layers[1:], self.output]
        for index, (layer, norm, following) in enumerate(
            zip(self.layers, decoder.norms, behind, strict=True)
        ):
            assert isinstance(layer, nn.Linear) and isinstance(following, nn.Linear)
            if isinstance(norm, PointBatchNorm):
                scale, shift = norm.scale_and_shift()
                _scale_outputs(layer, scale)
                layer.bias.add_(shift)
            elif isinstance(norm, nn.LayerNorm):
                self.norms[index] = _fold_layer_norm(layer, norm, following)
        # One product serves both layers that read the input.
        for name, start, width in (
            ("coordinate_weight", self.condition_width, self.coordinate_width),
            ("feature_weight", self.condition_width + self.coordinate_width, self.feature_width),
        ):
            self.register_buffer(name, self._weights_of(start, width).T.contiguous(), persistent=False)

    @torch.no_grad()
    def at(self, queries: Sequence[PatchQuery]) -> Float[Tensor, "all_pairs outputs"]:
        ends = list(itertools.accumulate(len(query.patches) for query in queries))
        rows, some = ends[-1], queries[0].coordinates
        numbers = CPU_NUMBERS * torch.get_num_threads() if some.device.type == "cpu" else GPU_NUMBERS
        size = min(max(1, numbers // max(self.hidden)), rows)
        logits = some.new_empty(rows, self.output.out_features)
        inputs = some.new_empty(size, self.hidden[0] + self.hidden[1])
        of_points = [None if q.features is None else q.features @ self.feature_weight for q in queries]
        for start in range(0, rows, size):
            end = min(start + size, rows)
            for number in range(bisect.bisect_right(ends, start), bisect.bisect_left(ends, end) + 1):
                query = queries[number]
                begin = ends[number] - len(query.patches)
                own = slice(max(start - begin, 0), min(end, ends[number]) - begin)
                part = inputs[begin + own.start - start : begin + own.stop - start]
                torch.index_select(query.projected, 0, query.patches[own], out=part)
                part.addmm_(query.coordinates[own], self.coordinate_weight)
                shared = of_points[number]
                if shared is not None:
                    part.add_(shared.index_select(0, query.rows[own]))
            logits[start:end] = self._decode(inputs[: end - start])
        return logits

    def _decode(self, inputs: Float[Tensor, "rows projected"]) -> Float[Tensor, "rows outputs"]:
        """Logits from the shares of the first two layers that their inputs give, which are overwritten."""
        _, second = self._input_layers()
        activations = self._activate(0, inputs[:, : self.hidden[0]])
        again = inputs[:, self.hidden[0] :].addmm_(activations, second.weight[:, : self.hidden[0]].T)
        activations = self._activate(1, again)
        for index in range(2, len(self.layers)):
            activations = self._activate(index, self.layers[index](activations))
        return self.output(activations)

    def _activate(self, index: int, values: Tensor) -> Tensor:
        return self.norms[index](values).relu_()


def folded(decoder: PointDecoder) -> FoldedDecoder:
    """Return a copy of a decoder for inference; one that is folded already is returned as it is."""
    return decoder if isinstance(decoder, FoldedDecoder) else FoldedDecoder(decoder)


class _Standardise(nn.Module):
    """What is left of a layer normalisation: x / sqrt(sum(x^2) + eps) + shift, in place."""

    shift: Tensor

    def __init__(self, shift: Float[Tensor, " width"], eps: float) -> None:
        super().__init__()
        self.register_buffer("shift", shift)
        self.eps = eps

    def forward(self, values: Float[Tensor, "*points width"]) -> Float[Tensor, "*points width"]:
        norm = torch.linalg.vector_norm(values, dim=-1, keepdim=True)
        scale = norm.square_().add_(self.eps).rsqrt_()
        return torch.addcmul(self.shift, values, scale, out=values)


def _fold_layer_norm(layer: nn.Linear, norm: nn.LayerNorm, following: nn.Linear) -> _Standardise:
    """Change the layers before and behind a layer normalisation (and its ReLU) so that this is left of it."""
    gain, shift = norm.weight.detach().double(), norm.bias.detach().double()
    width = len(gain)
    sizes = gain.abs() * math.sqrt(width)  # the sum of squares stands for their mean
    weight, bias = layer.weight.double(), layer.bias.double()
    layer.weight.copy_(weight - weight.mean(dim=0))
    layer.bias.copy_(bias - bias.mean())
    _scale_outputs(layer, torch.where(gain < 0, -1.0, 1.0))
    # Without a gain the output is the same everywhere, and so a part of the bias behind.
    is_constant = gain == 0
    read = following.weight[:, :width].double()
    following.bias.add_((read @ torch.where(is_constant, shift.relu(), 0.0)).to(following.bias))
    following.weight[:, :width] = (read * sizes).to(following.weight)
    left = torch.where(is_constant, 0.0, shift / torch.where(is_constant, 1.0, sizes))
    return _Standardise(left.to(layer.bias), norm.eps * width)


def _scale_outputs(layer: nn.Linear, scale: Float[Tensor, " width"]) -> None:
    layer.weight.mul_(scale[:, None].to(layer.weight))
    layer.bias.mul_(scale.to(layer.bias))
