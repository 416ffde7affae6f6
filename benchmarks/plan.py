"""What is to be measured, and on which images with which networks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from swipe_core.coordinates import Affine
from swipe_core.data.preprocessing import resampled
from swipe_core.images import MedicalImage, read_image
from swipe_core.inference.config import InferenceConfig
from swipe_core.networks.swipe.build import SwipeConfig, build_swipe
from swipe_core.networks.swipe.swipe import Swipe
from swipe_core.prediction.predictor import Predictor
from swipe_core.samples import SAMPLES
from swipe_core.training.config import ExperimentConfig, load_config


@dataclass(frozen=True)
class Subject:
    """A trained network and an image to use it on; plain enough to be sent to another process.

    Attributes
    ----------
    checkpoint
        A file, or the name of one that comes with the package.
    shape
        Bring the image to this many voxels before anything else; None: as it is.
    """

    name: str
    checkpoint: str
    image_path: Path
    shape: tuple[int, ...] | None = None

    def predictor(self, device: torch.device) -> Predictor:
        """The network, ready to encode."""
        return Predictor.load(self.checkpoint, device=str(device))

    def image(self, ndim: int) -> MedicalImage:
        """The image, read and resized."""
        image = read_image(self.image_path, ndim=ndim)
        return image if self.shape is None else resampled(image, image.grid.resized(self.shape))


def sample(name: str, shape: tuple[int, ...] | None = None) -> Subject:
    """An image that comes with the package, and the network for it."""
    chosen = SAMPLES[name]
    return Subject(name, chosen.model, chosen.image_path, shape)


@dataclass(frozen=True)
class Plan:
    """How to measure.

    Attributes
    ----------
    repeats
        Turns of all works that are compared; medians count.
    quick
        Small sizes: to see that it works, and for tests.
    subject
        In place of the samples, where one is given.
    factors
        Of rendering, in place of the usual ones.
    batch
        Images per training step, in place of the preset's.
    """

    device: torch.device
    repeats: int = 5
    quick: bool = False
    subject: Subject | None = None
    factors: tuple[float, ...] | None = None
    batch: int | None = None

    def subjects(self, *samples: Subject) -> tuple[Subject, ...]:
        """What was asked for, or else the samples."""
        return (self.subject,) if self.subject is not None else samples


@dataclass(frozen=True, eq=False)
class Untrained:
    """A preset with random weights, and an image that is not resampled for it."""

    config: ExperimentConfig
    model: Swipe
    image: MedicalImage

    def predictor(self, device: torch.device) -> Predictor:
        """The network, ready to encode."""
        content = self.config.checkpoint_content()
        return Predictor(self.model, content, device=device, config=InferenceConfig())


def untrained(preset: str, shape: Sequence[int]) -> Untrained:
    """A preset for whole images of a shape, and noise of that shape.

    Such a network draws boundaries about as long as organs have them, always the same ones.
    """
    size = "null" if load_config(preset).preprocessing.size is None else str(list(shape))
    config = load_config(preset, [("preprocessing.size", size), ("preprocessing.crop_size", "null")])
    torch.manual_seed(0)
    assert isinstance(config.model, SwipeConfig)
    return Untrained(config, build_swipe(config.model), noise(config, shape))


def noise(config: ExperimentConfig, shape: Sequence[int]) -> MedicalImage:
    """An image of noise on the lattice that a preset wants."""
    values = np.random.default_rng(0).integers(0, 256, (*shape, config.model.channels))
    spacing = config.preprocessing.spacing or (1.0,) * config.model.ndim
    dtype = np.uint8 if config.model.ndim == 2 else np.int16
    axis = config.preprocessing.channel_kinds.axis
    return MedicalImage(values.astype(dtype), Affine.from_spacing(spacing), "millimeter", channel_axis=axis)
