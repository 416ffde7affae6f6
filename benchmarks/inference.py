"""From a file to a label map: SwIPE against U-Net and UNETR on the same image and the same threads."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from benchmarks import networks
from benchmarks.floor import counted
from benchmarks.networks import VoxelNetwork
from benchmarks.plan import Plan, sample, untrained
from benchmarks.stopwatch import Timings, Work, take_turns
from benchmarks.table import Ratio, Table, figure, times
from studies.cost import parameter_count
from swipe_core.checkpoints.file import CheckpointContent, load_checkpoint
from swipe_core.checkpoints.library import find_checkpoint
from swipe_core.images import MedicalImage, read_image, write_image
from swipe_core.inference.config import InferenceConfig
from swipe_core.inference.windows import place_windows
from swipe_core.networks.segmenter import Segmenter
from swipe_core.prediction.predictor import Predictor
from swipe_core.progress import Notice, Progress

SWIPE = "SwIPE"
FINE = 4  # times finer than the input
POLYP = {True: ((192, 192), (96, 96)), False: ((384, 384), (192, 192))}  # image and window, quick or not
HIPPOCAMPUS_WINDOW = (16, 32, 32)
CUBE = {True: (48, 48, 48), False: (96, 96, 96)}


@dataclass(frozen=True)
class Way:
    """How an image is taken in and put out.

    Attributes
    ----------
    overlap
        Of sliding windows; None: the image as a whole.
    factor
        Voxels of the label map along an axis, for each of the image.
    """

    name: str
    overlap: float | None
    factor: int = 1


WHOLE = Way("whole", None)
OVERLAPPING = Way("windows, 75 % overlap", 0.75)
TILES = Way("windows, no overlap", 0.0)
FINE_WHOLE, FINE_TILES = Way(f"whole, {FINE}x", None, FINE), Way(f"windows, no overlap, {FINE}x", 0.0, FINE)
WAYS = (WHOLE, OVERLAPPING, TILES, FINE_WHOLE, FINE_TILES)


@dataclass(frozen=True)
class InferenceCost:
    """A network used in one way.

    Attributes
    ----------
    multiply_adds
        Of the network on one window, or on the whole; of SwIPE that of encoding.
    windows
        How many there are; 1 where the image is taken as a whole.
    to_swipe
        Seconds over those of SwIPE in the same way.
    """

    image: str
    network: str
    way: str
    parameters: int
    multiply_adds: int
    windows: int
    seconds: float
    to_swipe: float


@dataclass(frozen=True)
class InferenceResult:
    """All networks in all ways.

    Attributes
    ----------
    left_out
        What was not measured and why, in a sentence; empty where nothing was left out.
    """

    costs: tuple[InferenceCost, ...]
    left_out: str

    def table(self) -> Table:
        header = ("image", "network", "way", "M parameters", "G multiply-adds", "windows", "s", "/ SwIPE s")
        rows = tuple(
            (
                cost.image,
                cost.network,
                cost.way,
                figure(cost.parameters / 1e6),
                figure(cost.multiply_adds / 1e9),
                str(cost.windows),
                figure(cost.seconds),
                figure(cost.to_swipe),
            )
            for cost in self.costs
        )
        told = (
            "From reading the file to labels at the input's size, or at "
            f"{FINE}x (SwIPE renders; the others' logits are interpolated). Multiply-adds are those of one "
            "window, or of the whole. SwIPE renders by MISE and blends patches; no mirroring; the weights of "
            "`bcv` are random. The others have random weights, the memory format that suits convolutions, "
            "and MONAI's sliding window."
        )
        return Table("Inference", header, rows, (told, self.left_out) if self.left_out else (told,))

    def ratios(self) -> tuple[Ratio, ...]:
        return tuple(
            Ratio(f"{cost.image}, {cost.way}: {cost.network} / SwIPE, seconds", cost.to_swipe)
            for cost in self.costs
            if cost.network != SWIPE
        )


@dataclass(frozen=True, eq=False)
class _Contest:
    """An image in a file, SwIPE's network for it, the window that slides, and what is compared."""

    name: str
    path: Path
    model: Segmenter
    content: CheckpointContent
    shape: tuple[int, ...]
    window: tuple[int, ...]
    ways: tuple[Way, ...]

    def predictor(self, way: Way, device: torch.device) -> Predictor:
        crop = None if way.overlap is None else self.window
        preprocessing = self.content.preprocessing.model_copy(update={"crop_size": crop})
        content = self.content.model_copy(update={"preprocessing": preprocessing})
        config = InferenceConfig(overlap=way.overlap or 0.0)
        return Predictor(self.model, content, device=device, config=config)

    def network(self, name: str, device: torch.device) -> VoxelNetwork:
        classes = self.content.labels.classes
        return VoxelNetwork.built(name, self.content.preprocessing, classes, self.window, device)

    def ways_of(self, network: str) -> list[Way]:
        """UNETR takes images of the window's shape alone, and is enlarged window by window."""
        if network == "UNETR" and self.shape != self.window:
            return [way for way in self.ways if way.overlap is not None]
        return [way for way in self.ways if way != FINE_TILES]

    def taken_in(self, way: Way) -> tuple[int, ...]:
        """The shape that a network sees at once."""
        return self.shape if way.overlap is None else self.window

    def windows(self, way: Way) -> int:
        size = None if way.overlap is None else self.window
        return len(place_windows(self.shape, size, way.overlap or 0.0))


def measure_inference(plan: Plan) -> Generator[Progress | Notice, None, InferenceResult]:
    """Time a polyp in 2D, the hippocampus in 3D, and a window of the paper's 3D set-up, `bcv`."""
    left_out = networks.left_out()
    if left_out:
        yield Notice(left_out)
    costs: list[InferenceCost] = []
    with TemporaryDirectory() as folder:
        for contest in _contests(plan, Path(folder)):
            costs += yield from _measure(plan, contest, networks.available(len(contest.shape)))
    return InferenceResult(tuple(costs), left_out)


def _contests(plan: Plan, folder: Path) -> list[_Contest]:
    """The networks that come with the package know what they see; one of the paper's size is random."""
    shape, window = POLYP[plan.quick]
    polyp = _trained("polyp", sample("polyp", shape).image(2), window, folder / "polyp.png")
    volume = sample("hippocampus").image(3)
    hippocampus = _trained("hippocampus", volume, HIPPOCAMPUS_WINDOW, folder / "hippocampus.nii.gz")
    cube = CUBE[plan.quick]
    random = untrained("bcv", cube)
    path = _written(random.image, folder / "cube.nii.gz")
    content = random.config.checkpoint_content()
    bcv = _Contest(f"bcv {times(cube)}", path, random.model, content, cube, cube, (WHOLE,))
    return [polyp, hippocampus, bcv]


def _trained(name: str, image: MedicalImage, window: tuple[int, ...], path: Path) -> _Contest:
    """A network that comes with the package, on an image that it sees as it is."""
    checkpoint = load_checkpoint(find_checkpoint(name))
    size = image.shape if checkpoint.content.preprocessing.size is not None else None
    preprocessing = checkpoint.content.preprocessing.model_copy(update={"size": size})
    content = checkpoint.content.model_copy(update={"preprocessing": preprocessing})
    title = f"{name} {times(image.shape)}"
    written = _written(image, path)
    return _Contest(title, written, checkpoint.build(), content, image.shape, window, WAYS)


def _written(image: MedicalImage, path: Path) -> Path:
    write_image(path, image)
    return path


def _measure(
    plan: Plan, contest: _Contest, others: Sequence[str]
) -> Generator[Progress, None, list[InferenceCost]]:
    works: dict[str, Work] = {}
    built = {name: contest.network(name, plan.device) for name in others}
    compared = {way for name in built for way in contest.ways_of(name)} or set(contest.ways_of(SWIPE))
    rows = [(SWIPE, way) for way in contest.ways if way in compared]
    rows += [(name, way) for name in built for way in contest.ways_of(name)]
    ndim = len(contest.shape)
    for name, way in rows:
        if name == SWIPE:
            predictor = contest.predictor(way, plan.device)
            works[_key(name, way)] = partial(_segmented, predictor, contest.path, ndim, way.factor)
        else:
            window = None if way.overlap is None else contest.window
            works[_key(name, way)] = partial(
                built[name].labels, contest.path, way.factor, window, way.overlap or 0.0
            )
    timings = yield from take_turns(works, plan.repeats, plan.device, f"Inference, {contest.name}")
    return [_cost(contest, name, way, built.get(name), timings) for name, way in rows]


def _segmented(predictor: Predictor, path: Path, ndim: int, factor: int) -> object:
    return predictor.field(read_image(path, ndim=ndim)).render(factor=factor)


def _cost(
    contest: _Contest, name: str, way: Way, other: VoxelNetwork | None, timings: Timings
) -> InferenceCost:
    network = contest.model if other is None else other.network
    device = next(network.parameters()).device
    seen = torch.zeros(1, contest.content.preprocessing.channels, *contest.taken_in(way), device=device)
    work = partial(contest.model.eval().encode, seen) if other is None else partial(network, seen)
    return InferenceCost(
        image=contest.name,
        network=name,
        way=way.name,
        parameters=parameter_count(network),
        multiply_adds=counted(work),
        windows=contest.windows(way),
        seconds=timings.median(_key(name, way)),
        to_swipe=timings.ratio(_key(name, way), _key(SWIPE, way)),
    )


def _key(name: str, way: Way) -> str:
    return f"{name}, {way.name}"
