"""From an image to its `OccupancyField`: preprocessing, windows and encoding with one trained model."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from swipe_core.checkpoints import Checkpoint, CheckpointContent, load_checkpoint
from swipe_core.devices import choose_device
from swipe_core.images import MedicalImage
from swipe_core.inference.config import InferenceConfig
from swipe_core.inference.field import OccupancyField
from swipe_core.inference.windows import EncodedWindow, place_windows
from swipe_core.model.swipe import Embeddings, Swipe
from swipe_core.preprocessing import preprocess
from swipe_core.progress import Progress, finish


class Predictor:
    """A trained model that is ready to encode images.

    Parameters
    ----------
    model
        Any state; a copy for inference is made.
    content
        What the model was trained for.
    config
        Settings of inference; the checkpoint's own by default.
    """

    def __init__(
        self,
        model: Swipe,
        content: CheckpointContent,
        *,
        device: torch.device | str = "cpu",
        config: InferenceConfig | None = None,
    ) -> None:
        self.content = content
        self.device = torch.device(device)
        self.config = config or content.inference
        self.model = model.for_inference().to(self.device)

    @classmethod
    def load(
        cls,
        checkpoint: str | Path | Checkpoint,
        *,
        device: str = "auto",
        config: InferenceConfig | None = None,
    ) -> Predictor:
        """From a checkpoint file.

        Raises
        ------
        CheckpointError
            When the file cannot be used.
        DeviceError
            When this machine has no such device.
        """
        loaded = checkpoint if isinstance(checkpoint, Checkpoint) else load_checkpoint(checkpoint)
        return cls(loaded.build(), loaded.content, device=choose_device(device), config=config)

    def field(self, image: MedicalImage) -> OccupancyField:
        """Encode an image; from then on everything is a sample of the returned field.

        Raises
        ------
        ImageError
            When the image does not suit the model.
        """
        return finish(self.iter_field(image))

    def iter_field(self, image: MedicalImage) -> Generator[Progress, None, OccupancyField]:
        """`field`, a batch of windows at a time: yields progress and returns the field."""
        prepared = preprocess(image, self.content.preprocessing)
        blocks = place_windows(prepared.shape, self.content.preprocessing.crop_size, self.config.overlap)
        windows: list[EncodedWindow] = []
        for start in range(0, len(blocks), self.config.window_batch):
            batch = blocks[start : start + self.config.window_batch]
            crops = torch.stack([prepared.tensor[(slice(None), *block.slices)] for block in batch])
            encoded = self._encode(crops)
            windows += [EncodedWindow(block, _one_of(encoded, index)) for index, block in enumerate(batch)]
            yield Progress("Encoding", len(windows), len(blocks))
        return OccupancyField(
            model=self.model,
            windows=tuple(windows),
            grid=prepared.grid,
            image_grid=image.grid,
            unit=image.unit,
            class_names=self.content.labels.class_names,
            config=self.config,
        )

    @torch.inference_mode()
    def _encode(self, images: Float[Tensor, "batch channels *shape"]) -> Embeddings:
        return self.model.encode(images.to(self.device))


def _one_of(embeddings: Embeddings, index: int) -> Embeddings:
    """One image of an encoded batch, as a batch of one."""
    part = slice(index, index + 1)
    return Embeddings(
        patch=embeddings.patch[part],
        image=embeddings.image[part],
        projected=embeddings.projected[part],
        attention=None if embeddings.attention is None else embeddings.attention[part],
        image_shape=embeddings.image_shape,
        patch_size=embeddings.patch_size,
    )
