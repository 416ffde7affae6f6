"""A network as graphs of plain tensors, of fixed size, which other programs can run: written as ONNX."""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from swipe_core.coordinates import voxel_centres, voxel_to_image
from swipe_core.data.preprocessing import OUTLIER_PERCENTILES, PreprocessingConfig
from swipe_core.errors import CheckpointError
from swipe_core.images.decoding import extra_library
from swipe_core.networks.encoding import Encoding
from swipe_core.networks.segmenter import Segmenter

OPSET = 20  # the first in which volumes are sampled at points
POINTS = 2**14  # of a lattice that are decoded at once: memory is bounded by them
TINY = 1e-12  # instead of a range of 0
TOLERANCE = 1e-3  # between torch and ONNX Runtime, in logits or probabilities


def for_graphs(model: Segmenter) -> Segmenter:
    """Return a network, changed for good, with normalisations of its maps folded in: half as many nodes."""
    model.eval().requires_grad_(False)
    Segmenter.fold(model)
    return model.requires_grad_(False)


class Encoder(nn.Module):
    """Image (1, channels, *shape) to all that is kept of it."""

    def __init__(self, model: Segmenter) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: Float[Tensor, "1 channels *shape"]) -> tuple[Tensor, ...]:
        return tuple(self.model.encode(image).for_decoding().tensors)


class Decoder(nn.Module):
    """Points (1, N, ndim) of the image frame, and what is kept of an image, to logits (1, N, outputs).

    `encoding`: of any image of the size; its tensors are replaced.
    """

    def __init__(self, model: Segmenter, encoding: Encoding) -> None:
        super().__init__()
        self.model, self.encoding = model, encoding

    def forward(
        self, points: Float[Tensor, "1 points ndim"], tensors: Sequence[Tensor]
    ) -> Float[Tensor, "1 points outputs"]:
        given = iter(tensors)
        return self.model.decode_all(self.encoding.mapped(lambda _: next(given)), points)


class WholeImage(nn.Module):
    """Image (1, channels, *shape) to the probabilities (1, classes, *lattice) of background and classes.

    `config`: how intensities are brought to the range that the network takes, which is done here; those of 8
    bits with ``"unit"``.
    `lattice`: voxels of the result along each axis; they cover what the image covers.
    """

    centres: Tensor

    def __init__(self, model: Segmenter, config: PreprocessingConfig, lattice: Sequence[int]) -> None:
        super().__init__()
        self.model, self.config, self.lattice = model, config, tuple(lattice)
        centres = torch.tensor(voxel_to_image(voxel_centres(lattice), lattice), dtype=torch.float32)
        self.register_buffer("centres", centres[None])

    def forward(self, image: Float[Tensor, "1 channels *shape"]) -> Float[Tensor, "1 classes *lattice"]:
        encoding = self.model.encode(_scaled(image, self.config)).for_decoding()
        logits = [self.model.decode_all(encoding, part) for part in self.centres.split(POINTS, dim=1)]
        classes = torch.cat(logits, dim=1)[..., : self.model.classes]
        return classes.softmax(dim=-1).transpose(1, 2).unflatten(2, self.lattice)


def _scaled(
    image: Float[Tensor, "1 channels *shape"], config: PreprocessingConfig
) -> Float[Tensor, "1 channels *shape"]:
    """What `swipe_core.data.preprocessing.scaled` does, in operations that a graph can hold."""
    if config.window is not None:
        low, high = config.window
        return ((image - low) / (high - low)).clamp(0, 1)
    if config.intensity == "unit":
        return image * (2 / 255) - 1
    values = image.flatten(2)
    ordered = values.sort(dim=2).values
    least, greatest = (_percentile(ordered, percent) for percent in OUTLIER_PERCENTILES)
    values = torch.minimum(torch.maximum(values, least), greatest)
    if config.intensity == "range":
        values = 2 * (values - least) / (greatest - least).clamp(min=TINY) - 1
    else:
        values = values - values.mean(dim=2, keepdim=True)
        values = values / values.square().mean(dim=2, keepdim=True).sqrt().clamp(min=TINY)
    return values.reshape(image.shape)


def _percentile(ordered: Float[Tensor, "1 channels values"], percent: float) -> Float[Tensor, "1 channels 1"]:
    place = percent / 100 * (ordered.shape[2] - 1)
    below = int(place)
    return torch.lerp(ordered[..., below : below + 1], ordered[..., below + 1 : below + 2], place - below)


def write_graph(
    path: Path,
    graph: nn.Module,
    inputs: Sequence[Any],
    names: tuple[Sequence[str], Sequence[str]],
    *,
    any_length: str | None = None,
) -> float:
    """Write a graph as ONNX, run it with ONNX Runtime, and return the largest difference from torch.

    Raises `ImageError` when the packages of the extra ``onnx`` are missing, and `CheckpointError` when the
    network cannot be written so, or differs.

    `inputs`: an example, tensors and lists of tensors, with which both are compared.
    `names`: of the tensors that go in, and of those that come out.
    `any_length`: what to call the second axis of the first input where it may have any length; None: it has
    that one.
    """
    for package in ("onnxscript", "onnxruntime"):
        extra_library(package, "onnx", path)
    shapes = [[None] * len(given) if isinstance(given, list) else None for given in inputs]
    dynamic = None if any_length is None else ({1: torch.export.Dim(any_length, min=1)}, *shapes[1:])
    try:
        with _silent_exporter():
            torch.onnx.export(
                graph,
                tuple(inputs),
                path,
                input_names=names[0],
                output_names=names[1],
                dynamic_shapes=dynamic,
                opset_version=OPSET,
                dynamo=True,
                external_data=False,
                verbose=False,
            )
    except torch.onnx.OnnxExporterError as error:
        first = str(error.__cause__ or error).splitlines()[0]
        raise CheckpointError(f"This network cannot be written as ONNX: {first}") from error
    if any_length is not None:  # compared at another length
        inputs = [inputs[0][:, 1:], *inputs[1:]]
    difference = _difference(path, graph, inputs, names)
    if not difference <= TOLERANCE:
        raise CheckpointError(
            f"{path.name} differs by {difference:.2g} from the network, so that it must not be used: use "
            "the versions of torch and onnxruntime that constraints.txt names."
        )
    return difference


@contextlib.contextmanager
def _silent_exporter() -> Iterator[None]:
    """What the exporter says of itself, and of packages that it does without, is not the user's concern."""
    logger = logging.getLogger("torch.onnx._internal.exporter._registration")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _difference(
    path: Path,
    graph: nn.Module,
    inputs: Sequence[Any],
    names: tuple[Sequence[str], Sequence[str]],
) -> float:
    from onnxruntime import InferenceSession

    with torch.inference_mode():
        expected = graph(*inputs)
    flat = [tensor for given in inputs for tensor in (given if isinstance(given, list) else [given])]
    given = {name: tensor.numpy() for name, tensor in zip(names[0], flat, strict=True)}
    session = InferenceSession(path, providers=["CPUExecutionProvider"])
    found = session.run(list(names[1]), given)
    wanted = [expected] if isinstance(expected, Tensor) else expected
    return max(float(np.abs(one - other.numpy()).max()) for one, other in zip(found, wanted, strict=True))
