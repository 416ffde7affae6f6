"""Cases to batches: every batch is a pure function of the seed and the step.

No random state is carried from batch to batch, so a resumed run sees exactly the batches that an
unbroken one would have seen, whatever the number of workers.
"""

import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from swipe_core.coordinates import image_to_voxel
from swipe_core.data.augmentation import (
    AugmentationConfig,
    SpatialTransform,
    draw_appearance,
    draw_spatial,
)
from swipe_core.data.batch import UNLABELLED, Batch, centres_image, class_map_of, classes_at_voxels
from swipe_core.data.cases import Case
from swipe_core.data.census import LabelCensus
from swipe_core.data.labelled import (
    LabelledImage,
    parted,
    photograph_notice,
    read_classes,
    read_labelled,
)
from swipe_core.data.labels import LabelConfig
from swipe_core.data.preprocessing import PreprocessingConfig, preprocess
from swipe_core.data.sampling import PointPool, SamplingConfig, draw_points, interior_at, sample_points
from swipe_core.errors import DataError, SwipeError
from swipe_core.progress import Notice, Progress

NAMED_AT_MOST = 3


class BatchConfig(BaseModel):
    """The contents of one training step.

    Corrected voxels weigh more than others by how many points are drawn from them, and so not in whole
    masks, which hold every voxel once; crops are made to hold corrections with either.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    size: int = Field(12, ge=1, description="images per step")
    supervision: Literal["points", "masks"] = Field(
        "points",
        description=(
            "what a network learns from: points drawn from the labels, or whole masks, the classes at all "
            "voxels of a crop, as raster networks are trained"
        ),
    )
    points: int = Field(
        1000, ge=1, description="points drawn per image and step; without effect on whole masks"
    )
    foreground_probability: float = Field(
        0.75, ge=0, le=1, description="share of random crops made to hold foreground or a correction"
    )
    pairs: int = Field(
        0, ge=0, description="pairs of neighbouring points per image, labelled or not: for the likeness loss"
    )
    pair_distance: float = Field(
        4.0, gt=0, description="how far apart the points of a pair are, in voxels along each axis"
    )
    workers: Annotated[int, Field(ge=0)] | Literal["auto"] = Field(
        "auto", description="processes that prepare batches; auto: none on a CPU, 4 beside a GPU"
    )
    memory_gb: float = Field(8.0, gt=0, description="data sets up to this size are held in memory")


@dataclass(frozen=True, eq=False)
class TrainingCase:
    """A preprocessed image and the points sampled from its labels."""

    name: str
    image: Float[Tensor, "channels *shape"]
    """(channels, *shape) float32"""
    pool: PointPool
    """In the image frame; the source frame of every crop that is cut from the image."""
    spacing: tuple[float, ...]
    """World units per voxel of `image`."""
    class_map: Int[Tensor, "*labels"] | None = None
    """(*labels) or None: As `class_map_of` makes it, where whole masks are cut from it."""

    @property
    def nbytes(self) -> int:
        """Memory of the image and its classes, beside which that of the points is small."""
        return self.image.nbytes + (0 if self.class_map is None else self.class_map.nbytes)


@dataclass(frozen=True, eq=False)
class _LabelledPoints:
    """Points in the frames of a crop and of its image, and which are inside of the crop and have a class."""

    points_image: Float[Tensor, "points ndim"]
    points_source: Float[Tensor, "points ndim"]
    classes: Int[Tensor, " points"]
    labelled: Int[Tensor, " labelled"]
    interior: Float[Tensor, " points"] | None = None


class TrainingSet(Dataset[Batch]):
    """The training batches of a run, indexed by step.

    Call `load` once before use; it reads the cases that fit into memory, the others are read anew
    whenever a batch needs them. It also leaves out the cases without any labelled voxel, which have
    nothing to teach; `cases` still holds them. Of every batch only `rows` are made, for a training in
    several processes. With `interior` points carry how deep inside their objects they lie.
    """

    def __init__(
        self,
        cases: Sequence[Case],
        *,
        preprocessing: PreprocessingConfig,
        labels: LabelConfig,
        sampling: SamplingConfig,
        augmentation: AugmentationConfig | None,
        batch: BatchConfig,
        seed: int,
        rows: slice = slice(None),
        interior: bool = False,
    ) -> None:
        self.cases = list(cases)
        self.preprocessing = preprocessing
        self.labels = labels
        self.sampling = sampling
        self.augmentation = augmentation
        self.batch = batch
        self.seed = seed
        self.rows = rows
        self.interior = interior
        self._used = list(range(len(self.cases)))  # of the cases, by index, those that batches are made of
        self._loaded: dict[int, TrainingCase] = {}
        self._pools: dict[int, PointPool] = {}

    def load(self) -> Iterator[Progress | Notice]:
        """Read the cases into memory, as many as `BatchConfig.memory_gb` holds.

        Yields progress, and a notice where cases are left out, where a class is in no case, and where masks
        of black and white are read as the only class. Where there may be such cases or classes, the label
        maps of the cases that do not fit into memory are read too. Raises `SwipeError` when a case cannot be
        read, its files do not fit together, or no case has a voxel of any class.
        """
        room, read = self.batch.memory_gb * 2**30, 0
        unlabelled: list[int] = []
        census = LabelCensus(self.labels)
        first: dict[bool, str] = {}  # an image that states an orientation, and one that does not
        for index in range(len(self.cases)):
            labelled, read = self._read_labelled(index), index + 1
            first.setdefault(labelled.image.space.is_anatomical, labelled.image.name)
            if not census.add(labelled.labels.array, labelled.white):
                unlabelled.append(index)
            else:
                case = self._prepare(index, labelled)
                room -= case.nbytes
                if room < 0:
                    break
                self._loaded[index] = case
            yield Progress("Reading cases", read, len(self.cases))
        for index in range(read, len(self.cases)):
            if self.labels.ignore_label is None and not census.missing:
                break
            label_map, white = read_classes(self.cases[index], self.preprocessing.ndim, self.labels)
            if not census.add(label_map.array, white):
                unlabelled.append(index)
            yield Progress("Reading label maps", index + 1, len(self.cases))
        if len(first) > 1 and self.preprocessing.ndim == 3:
            yield Notice(
                f"{first[True]} states where right, front and head of the patient are, and {first[False]} "
                "does not: the axes of images that do not are taken as they are stored."
            )
        photograph = next(filter(None, map(photograph_notice, self.cases[:read])), None)
        if photograph is not None:
            yield photograph
        yield from self._leave_out(unlabelled)
        yield from census.notices(len(self.cases))

    def __getitem__(self, step: int) -> Batch:
        positions = range(step * self.batch.size, (step + 1) * self.batch.size)[self.rows]
        samples = [self._sample(self._case_at(p), _generator(self.seed, 1, p)) for p in positions]
        shapes = {tuple(sample.images.shape[2:]) for sample in samples}
        if len(shapes) > 1:
            raise DataError(
                f"The images of a batch must have one size; got {sorted(shapes)}: set preprocessing.size "
                "to train on whole images, or preprocessing.crop_size to train on crops."
            )
        return Batch.join(samples)

    def loader(self, start: int, stop: int, *, workers: int, pin_memory: bool) -> Iterator[Batch]:
        """Yield the batches of the steps from `start` up to `stop`, prepared ahead by `workers` processes."""
        loader: DataLoader[Batch | SwipeError] = DataLoader(
            _FaultsAsItems(self),
            batch_size=None,
            sampler=range(start, stop),
            num_workers=workers,
            pin_memory=pin_memory,
            collate_fn=None,
            worker_init_fn=_leave_ctrl_c_to_the_run,
        )
        for item in loader:
            if isinstance(item, SwipeError):
                raise item
            yield item

    def _case_at(self, position: int) -> TrainingCase:
        epoch, rank = divmod(position, len(self._used))
        order = torch.randperm(len(self._used), generator=_generator(self.seed, 0, epoch))
        index = self._used[int(order[rank])]
        return self._loaded[index] if index in self._loaded else self._read(index)

    def _leave_out(self, unlabelled: Sequence[int]) -> Iterator[Notice]:
        if not unlabelled:
            return
        names = [self.cases[index].label_path.name for index in unlabelled[:NAMED_AT_MOST]]
        some = ", ".join(names) + (", ..." if len(unlabelled) > NAMED_AT_MOST else "")
        count = f"{len(unlabelled)} of {len(self.cases)} label maps"
        held = f"{count} ({some}) hold nothing but the ignore label {self.labels.ignore_label}"
        if len(unlabelled) == len(self.cases):
            raise DataError(f"{held}: label some voxels, or correct labels.ignore_label if these are labels.")
        self._used = [index for index in self._used if index not in set(unlabelled)]
        yield Notice(f"{held}: these cases are left out.")

    def _read(self, index: int) -> TrainingCase:
        return self._prepare(index, self._read_labelled(index))

    def _read_labelled(self, index: int) -> LabelledImage:
        are_strokes = self.labels.instances and self.labels.ignore_label is not None
        case, ndim = self.cases[index], self.preprocessing.ndim
        found = read_labelled(case, ndim, self.labels, objects=self.interior or are_strokes)
        if not are_strokes or found.objects is None:
            return found
        classes = parted(found.labels.array, found.objects)
        return replace(found, labels=replace(found.labels, array=classes))

    def _prepare(self, index: int, case: LabelledImage) -> TrainingCase:
        case = case.oriented(self.preprocessing.orientation)
        prepared = preprocess(case.image, self.preprocessing)
        if index not in self._pools:
            self._pools[index] = self._sample_pool(index, case)
        masks = self.batch.supervision == "masks"
        class_map = class_map_of(case.labels.array, self.labels) if masks else None
        return TrainingCase(
            case.name, prepared.tensor, self._pools[index], prepared.affine.spacing, class_map
        )

    def _sample_pool(self, index: int, case: LabelledImage) -> PointPool:
        generator = _generator(self.seed, 2, index)
        try:
            pool = sample_points(
                case.labels.array,
                self.labels.classes,
                self.sampling,
                generator,
                self.labels.ignore_label,
                case.corrected,
            )
        except DataError as error:
            raise DataError(f"{self.cases[index].label_path}: {error}") from error
        if case.objects is None or not self.interior:
            return pool
        return replace(pool, interior=interior_at(pool.points_image, case.objects, case.labels.spacing))

    def _sample(self, case: TrainingCase, generator: torch.Generator) -> Batch:
        """One crop with its points, as a batch of one."""
        source_shape = tuple(case.image.shape[1:])
        output_shape = self.preprocessing.crop_size or source_shape
        centre = self._draw_centre(case, source_shape, output_shape, generator)
        spatial = draw_spatial(self.augmentation, source_shape, output_shape, centre, case.spacing, generator)
        appearance = draw_appearance(self.augmentation, self.preprocessing.channel_kinds.is_colour, generator)
        points = _labelled_points(spatial, case)
        if not len(points.labelled):  # sparse labels: a crop that meets none of them teaches nothing
            centre = _random_point(case.pool.points_image, source_shape, generator)
            spatial = draw_spatial(None, source_shape, output_shape, centre, case.spacing, generator)
            points = _labelled_points(spatial, case)
        masks = case.class_map is not None
        chosen = slice(None) if masks else draw_points(points.labelled, self.batch.points, generator)
        pairs_image = self._draw_pairs(output_shape, generator)
        return Batch(
            images=appearance.apply(spatial.apply_image(case.image))[None].contiguous(),
            points_image=points.points_image[None, chosen],
            points_source=points.points_source[None, chosen],
            classes=points.classes[None, chosen],
            pairs_image=pairs_image[None],
            pairs_source=spatial.to_source_image(pairs_image)[None],
            names=(case.name,),
            interior=None if points.interior is None else points.interior[None, chosen],
            lattice=spatial.output_shape if masks else None,
        )

    def _draw_pairs(
        self, shape: Sequence[int], generator: torch.Generator
    ) -> Float[Tensor, "pairs two ndim"]:
        """Points anywhere in a crop, each with one at a normally distributed distance, in its image frame."""
        if not self.batch.pairs:
            return torch.zeros(0, 2, len(shape))
        size = torch.tensor(shape, dtype=torch.float32)
        first = 2 * torch.rand(self.batch.pairs, len(shape), generator=generator) - 1
        step = torch.randn(self.batch.pairs, len(shape), generator=generator)
        second = (first + step * self.batch.pair_distance * 2 / size).clamp(-1, 1)
        return torch.stack([first, second], dim=1)

    def _draw_centre(
        self,
        case: TrainingCase,
        source_shape: Sequence[int],
        output_shape: Sequence[int],
        generator: torch.Generator,
    ) -> np.ndarray:
        """Centre of the crop: the image's own where the crop covers it, else random.

        Often it is chosen about a point of foreground or of a correction, which may be background.
        """
        size, crop = np.asarray(source_shape, float), np.asarray(output_shape, float)
        lowest, highest = (crop - 1) / 2, size - 1 - (crop - 1) / 2
        centre = lowest + (highest - lowest) * torch.rand(len(size), generator=generator).numpy()
        shown = ((case.pool.classes > 0) | case.pool.corrected).nonzero()[:, 0]
        guaranteed = float(torch.rand((), generator=generator)) < self.batch.foreground_probability
        if guaranteed and len(shown):
            point = _random_point(case.pool.points_image[shown], source_shape, generator)
            shift = torch.rand(len(size), generator=generator).numpy() - 0.5
            centre = np.clip(point + 0.5 * shift * crop, lowest, highest)
        return np.where(highest > lowest, centre, (size - 1) / 2)


def _labelled_points(spatial: SpatialTransform, case: TrainingCase) -> _LabelledPoints:
    """The points of the pool of a case; or, where it has whole masks, the centres of a crop's voxels."""
    if case.class_map is None:
        points_image = spatial.to_output_image(case.pool.points_image)
        inside = (points_image.abs() <= 1).all(dim=-1).nonzero()[:, 0]
        pool = case.pool
        return _LabelledPoints(points_image, pool.points_image, pool.classes, inside, pool.interior)
    centres = centres_image(spatial.output_shape)
    classes = classes_at_voxels(spatial, case.class_map)
    labelled = (classes != UNLABELLED).nonzero()[:, 0]
    return _LabelledPoints(centres, spatial.to_source_image(centres), classes, labelled)


def _random_point(
    points_image: Float[Tensor, "points ndim"], shape: Sequence[int], generator: torch.Generator
) -> Float[np.ndarray, " ndim"]:
    """One of the points, in the voxel frame."""
    pick = torch.randint(len(points_image), (), generator=generator)
    return image_to_voxel(points_image[pick].double(), shape).numpy()


class _FaultsAsItems(Dataset[Batch | SwipeError]):
    """A training set whose faults come as items: a worker process would bury them in its traceback."""

    def __init__(self, batches: TrainingSet) -> None:
        self.batches = batches

    def __getitem__(self, step: int) -> Batch | SwipeError:
        try:
            return self.batches[step]
        except SwipeError as error:
            return error


def _leave_ctrl_c_to_the_run(worker: int) -> None:
    """A terminal sends Ctrl-C to all processes: a worker must live until the run ends by its own order."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _generator(*key: int) -> torch.Generator:
    """A generator that depends on all numbers of the key."""
    state = np.random.SeedSequence(key).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state) & (2**63 - 1))
