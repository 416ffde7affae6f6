"""From an image to its `OccupancyField`: preprocessing, windows and encoding with one trained model."""

from __future__ import annotations

import copy
import itertools
import math
import warnings
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from swipe_core.blocks import Block
from swipe_core.checkpoints.file import Checkpoint, CheckpointContent, load_checkpoint, model_digest
from swipe_core.checkpoints.library import find_checkpoint
from swipe_core.compute.devices import choose_device
from swipe_core.compute.memory import is_out_of_memory
from swipe_core.coordinates import Grid
from swipe_core.data.preprocessing import PreparedImage, preprocess
from swipe_core.errors import ConfigError, ImageError
from swipe_core.images import MedicalImage, Space
from swipe_core.images.channels import Channels
from swipe_core.images.orientation import UNDECIDED
from swipe_core.inference.config import InferenceConfig
from swipe_core.inference.field import OccupancyField
from swipe_core.inference.stack import Frame, StackField
from swipe_core.inference.windows import (
    CPU,
    LogitMosaic,
    Oriented,
    WindowList,
    orientations,
    place_windows,
    windows_intersecting,
)
from swipe_core.networks.encoding import Encoding
from swipe_core.networks.segmenter import Segmenter
from swipe_core.progress import EachNoticeOnce, Notice, Progress, finish, map_reports, nested_progress

# Of the windows that are encoded at once: enough to keep the device busy, few enough to be stopped soon.
CPU_BATCH_VOXELS = 2**18
GPU_BATCH_VOXELS = 2**22


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
    digest
        Gives the digest of the model, where that is known; else it is computed when it is needed.

    Raises
    ------
    ConfigError
        When the settings name an axis that the model does not have.
    """

    def __init__(
        self,
        model: Segmenter,
        content: CheckpointContent,
        *,
        device: torch.device | str = "cpu",
        config: InferenceConfig | None = None,
        digest: Callable[[], str] | None = None,
    ) -> None:
        self.content = content
        self.device = torch.device(device)
        self.config = config or content.inference
        _check_axes(self.config, content.model.ndim)
        self._digest = digest or (lambda: model_digest(content, model.state_dict()))
        self.model = model.for_inference().to(self.device)

    @classmethod
    def load(
        cls,
        checkpoint: str | Path | Checkpoint,
        *,
        device: str = "auto",
        config: InferenceConfig | None = None,
    ) -> Predictor:
        """Load a checkpoint from a file, or by the name of one that ships with the package.

        Raises
        ------
        CheckpointError
            When the file cannot be used.
        DeviceError
            When this machine has no such device.
        """
        if not isinstance(checkpoint, Checkpoint):
            checkpoint = load_checkpoint(find_checkpoint(checkpoint))
        return cls(
            checkpoint.build(),
            checkpoint.content,
            device=choose_device(device),
            config=config,
            digest=lambda: checkpoint.digest,
        )

    def with_config(self, config: InferenceConfig) -> Predictor:
        """The same model with other settings of inference; nothing is loaded or copied."""
        _check_axes(config, self.content.model.ndim)
        other = copy.copy(self)
        other.config = config
        return other

    @cached_property
    def digest(self) -> str:
        """The digest of the model, as `Checkpoint.digest`: it takes a while, and few predictors need it."""
        return self._digest()

    def field(self, image: MedicalImage) -> OccupancyField:
        """Encode an image; from then on everything is a sample of the returned field.

        Warns of what `iter_field` yields a notice of: memory of the GPU, and axes that are taken as stored.

        Raises
        ------
        ImageError
            When the image does not suit the model, or does not fit into memory.
        """
        return finish(self.iter_field(image), _warn)

    def iter_field(self, image: MedicalImage) -> Generator[Progress | Notice, None, OccupancyField]:
        """`field`, a batch of windows at a time: yields progress and returns the field.

        Where memory runs out, fewer windows are encoded at once; where a single one does not fit on the
        GPU, the rest of the image is encoded on the CPU, and the field is there. What is encoded
        already is kept, and a notice says what happened. The next image starts as this one did.

        Where the model or the image does not say how its axes lie in the patient, and the other one does,
        a notice says that they are taken as they are stored; and of an X-ray image, if its lengths are not
        those in the patient.
        """
        yield from space_notices(self.content, image.space)
        return (yield from self.iter_encoded(preprocess(image, self.content.preprocessing), image.grid))

    def iter_stack(
        self, frames: Sequence[Frame], image: Callable[[Frame], MedicalImage]
    ) -> Generator[Progress | Notice, None, StackField]:
        """Encode the frames of a stack one after the other; `image` gives each when its turn comes.

        Each notice comes once.
        """
        fields, each_once = dict[Frame, OccupancyField](), EachNoticeOnce()
        for number, frame in enumerate(frames):
            given = image(frame)
            if not fields:
                yield from notices_of_channels(given.channel_kinds, self.content)
            work = map_reports(self.iter_field(given), each_once)
            fields[frame] = yield from nested_progress(work, number, len(frames))
        return StackField(fields)

    def iter_encoded(
        self, prepared: PreparedImage, image_grid: Grid, region: Grid | None = None
    ) -> Generator[Progress | Notice, None, OccupancyField]:
        """`iter_field` of an image that was preprocessed before, or of a part of it.

        Parameters
        ----------
        image_grid
            Of the image as it was stored.
        region
            Encode only the windows that this part of the world needs; elsewhere the field says nothing
            of use.
        """
        blocks = place_windows(prepared.shape, self.content.preprocessing.crop_size, self.config.overlap)
        if region is not None:
            blocks = windows_intersecting(
                blocks, (prepared.grid.affine.inverse() @ region.affine), region.shape
            )
        windows = list(itertools.product(blocks, orientations(self.config.mirrored_axes)))
        kept = self._aggregate(prepared, windows)
        model = yield from self.iter_windows(prepared, windows, kept, as_logits=isinstance(kept, LogitMosaic))
        field = self.empty_field(prepared.grid, image_grid, prepared.unit, prepared.space)
        return replace(field, model=model, windows=kept.kept())

    def empty_field(self, grid: Grid, image_grid: Grid, unit: str, space: Space) -> OccupancyField:
        """The field of an image of which no window is encoded yet.

        Parameters
        ----------
        grid, image_grid
            Of the image as it is encoded, and as it was stored.
        unit, space
            Of the world, as in `OccupancyField`.
        """
        return OccupancyField(
            model=self.model,
            windows=(),
            grid=grid,
            image_grid=image_grid,
            unit=unit,
            space=space,
            class_names=self.content.labels.class_names,
            config=self.config,
            temperature=self.content.temperature,
        )

    def iter_windows(
        self,
        prepared: PreparedImage,
        windows: Sequence[Oriented],
        kept: WindowList | LogitMosaic,
        *,
        as_logits: bool,
    ) -> Generator[Progress | Notice, None, Segmenter]:
        """Encode windows of a preprocessed image, as many at once as memory holds, and put them into `kept`.

        Returns the model that decodes them, which is on the CPU where the GPU did not hold a window.

        Parameters
        ----------
        as_logits
            Keep the logits of each voxel instead of the encoding.
        """
        model, device, done = self.model, self.device, 0
        size = noticed = self.windows_at_once(windows[0][0])
        while done < len(windows):
            batch = windows[done : done + size]
            encoded = _encoded(model, device, prepared, batch, as_logits)
            if encoded is not None:
                kept.put(batch, encoded)
                done += len(batch)
                if size < noticed:
                    noticed = size
                    yield Notice(_fewer(size, device))
                yield Progress("Encoding", done, len(windows))
            elif len(batch) > 1:
                size = len(batch) // 2
            elif device.type != "cpu":
                kept.move_to_cpu(len(windows) - done)
                yield Notice(f"The memory of {device} does not hold a window: going on with the CPU.")
                model, device, size, noticed = _on_cpu(model), CPU, 1, 1
            else:
                raise ImageError(_too_large(prepared, batch[0][0]))
        return model

    def _aggregate(self, prepared: PreparedImage, windows: Sequence[Oriented]) -> WindowList | LogitMosaic:
        """Make what the windows of an image are put into."""
        if self.model.keeps_windows or len(windows) == 1:
            return WindowList(len(windows), self.device)
        try:
            return LogitMosaic(windows, self.model.outputs, self.device)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            raise ImageError(
                f"Memory does not hold the answers for every voxel of {prepared.name}: close other programs, "
                "or segment a region of it."
            ) from error

    def windows_at_once(self, window: Block) -> int:
        """Return the configured number; on a CPU, which gains nothing from more, at most that of `auto`."""
        on_cpu, batch = self.device.type == "cpu", self.config.window_batch
        fitting = max(1, (CPU_BATCH_VOXELS if on_cpu else GPU_BATCH_VOXELS) // math.prod(window.shape))
        if batch == "auto":
            return fitting
        return min(batch, fitting) if on_cpu else batch


def _check_axes(config: InferenceConfig, ndim: int) -> None:
    fault = config.unknown_axes(ndim)
    if fault is not None:
        raise ConfigError(f"{fault}.")


def space_notices(content: CheckpointContent, space: Space) -> list[Notice]:
    """Return notices on the world of an image; the same for all images."""
    if not space.lengths:
        return _orientation_notices(content, space)
    text = f"Sizes are those {space.lengths}, as files state them; in the patient they are mostly smaller."
    return [Notice(text), *_orientation_notices(content, space)]


def _orientation_notices(content: CheckpointContent, space: Space) -> list[Notice]:
    """Return a notice where axes that matter cannot be brought to the model's; the same for all images."""
    orientation = content.preprocessing.orientation
    if content.model.ndim == 2 or orientation is None or space.is_anatomical == (orientation != UNDECIDED):
        return []
    if orientation == UNDECIDED:
        return [
            Notice(
                f"{content.name} was trained by an earlier version and does not say where right, front and "
                "head were in its images: the axes of images are taken as they are stored."
            )
        ]
    return [
        Notice(
            f"{content.name} was trained on volumes with the orientation {orientation}; the axes of images "
            "that do not state where right, front and head of the patient are, are taken as they are stored."
        )
    ]


def notices_of_channels(given: Channels, content: CheckpointContent) -> Iterator[Notice]:
    """Tell of channels that are taken for those of a model though they are called otherwise."""
    expected = content.preprocessing.channel_kinds
    is_renamed = given.axis not in (expected.axis, "colour")
    if given.count == expected.count > 1 and given.fits(expected) and is_renamed:
        yield Notice(
            f"The {given} of an image are taken for the {expected} of {content.name}, in this order."
        )


def _encoded(
    model: Segmenter,
    device: torch.device,
    image: PreparedImage,
    windows: Sequence[Oriented],
    as_logits: bool,
) -> Encoding | None:
    """Encode a batch of windows, or their logits at each voxel; None where memory does not hold it.

    What the failed attempt had allocated is free by then, since the error and its frames are gone.
    """
    try:
        crops = [
            image.tensor[(slice(None), *block.slices)].flip([1 + axis for axis in axes])
            for block, axes in windows
        ]
        with torch.inference_mode():
            encoding = _embed(model, device, torch.stack(crops))
            return model.logit_map(encoding) if as_logits else encoding
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
    return None


def _embed(
    model: Segmenter, device: torch.device, images: Float[Tensor, "batch channels *shape"]
) -> Encoding:
    return model.encode(images.to(device))


def _on_cpu(model: Segmenter) -> Segmenter:
    """A copy on the CPU, made without memory of the GPU; fields of earlier images keep their model."""
    moved: dict[int, object] = {id(buffer): buffer.to(CPU) for buffer in model.buffers()}
    moved |= {id(p): nn.Parameter(p.to(CPU), requires_grad=False) for p in model.parameters()}
    return copy.deepcopy(model, moved)


def _fewer(size: int, device: torch.device) -> str:
    windows = f"{size} window{'s' * (size > 1)}"
    return f"The memory of {device} holds {windows} at once and not more: going on with that, more slowly."


def _too_large(image: PreparedImage, block: Block) -> str:
    shape = " x ".join(map(str, block.shape))
    return (
        f"{image.name} does not fit into memory, even in windows of {shape} voxels one by one: close other "
        "programs, or segment a region of it."
    )


def _warn(report: Progress | Notice) -> None:
    if isinstance(report, Notice):
        warnings.warn(report.message, stacklevel=4)
