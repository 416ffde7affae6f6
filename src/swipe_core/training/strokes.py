"""Learning from strokes in seconds: images are encoded once, and only the decoder is trained."""

import copy
import math
from collections.abc import Generator, Hashable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor
from torch.nn import functional

from swipe_core.blocks import Block
from swipe_core.checkpoints.file import Checkpoint, CheckpointContent
from swipe_core.checkpoints.summary import Provenance, TrainingSummary
from swipe_core.compute.memory import out_of_memory_as
from swipe_core.coordinates import Grid, voxel_to_image
from swipe_core.data.labelled import LabelledImage
from swipe_core.data.labels import BACKGROUND, IGNORED, LabelConfig
from swipe_core.data.preprocessing import PreparedImage, PreprocessingConfig, preprocess
from swipe_core.errors import DataError, ImageError
from swipe_core.images import MedicalImage
from swipe_core.inference.config import InferenceConfig
from swipe_core.inference.field import OccupancyField
from swipe_core.inference.windows import EncodedWindow
from swipe_core.networks.encoding import CorrectedMaps, FeatureMaps
from swipe_core.networks.pixel_classifier import PixelClassifier, PixelClassifierConfig
from swipe_core.networks.registry import build_network
from swipe_core.prediction.predictor import Predictor
from swipe_core.progress import Progress
from swipe_core.training.forest import grow_forest
from swipe_core.training.start import start_pretrained, stated
from swipe_core.training.suggestion import APART, preprocessing_for, summarise

STEPS, FURTHER_STEPS = {2: 60, 3: 120}, 30  # from nothing, and from the decoder of the strokes before
RATE, DECAY = 4e-3, 1e-2  # of AdamW
POINTS = 128  # of each class, a step
GROWTH = {2: 1.0, 3: 1.5}  # of the paint, with which a decoder begins anew
MOST_POINTS = 2**13  # of each class of an image, that are learned from
TREES, MOST_GROWN = 50, 2**10  # of a forest, and points of each class that it grows from
ANYWHERE = 2**13  # random voxels of a volume
REACH, DOUBT = 0.1, 0.02  # of strokes in volumes: a share of the diagonal; a probability added to all
PULL, PULLED = 6.0, 0.05  # of corrections: a logit, and how far it reaches, a share of the diagonal
STEPS_AT_ONCE = 10  # between two reports
MOST_VOXELS = 2**25  # of an image: its features take some 50 bytes a voxel
SOFT_TISSUE = (-160.0, 240.0)  # Hounsfield units: in a wider window organs are hardly told apart
WINDOWS = {2: (2048, 2048), 3: (128, 512, 512)}  # that a model of strokes segments larger images in
OVERLAP = 0.125  # of these windows
SMOOTHING = 2.0  # in volumes, where features are those of single slices
DEPTH = {2: {"stages": 2, "octaves": 4}, 3: {"stages": 3, "octaves": 5}}  # of the features

Painted = UInt8[np.ndarray, "*shape"]
"""The class of every voxel of an image as it was stored, `IGNORED` where nobody painted."""


def stroke_content(images: Iterable[LabelledImage], labels: LabelConfig, name: str) -> CheckpointContent:
    """Return what a model of strokes on such images is made for: images are taken at their own resolution.

    Raises
    ------
    ConfigError
        When there is no image, or they are of several kinds.
    """
    images = list(images)
    summary = summarise(images, labels.ignore_label)
    fields = preprocessing_for(summary, None)
    if fields["intensity"] == "standardise":  # which depends on how much of an image is bright
        fields["intensity"] = "range"
    if summary.is_ct:
        fields["window"] = SOFT_TISSUE
    preprocessing = PreprocessingConfig(ndim=summary.ndim, channels=summary.channels, **fields)
    preprocessing = preprocessing.model_copy(
        update={"crop_size": WINDOWS[summary.ndim]} | stated(images[0].image, preprocessing)
    )
    return CheckpointContent(
        name=name,
        model=PixelClassifierConfig(
            ndim=summary.ndim,
            channels=summary.channels,
            classes=labels.classes,
            position=images[0].image.ndim == 3 and images[0].image.space.is_anatomical,
            **DEPTH[summary.ndim],
        ),
        preprocessing=preprocessing,
        labels=labels,
        inference=_inference(summary.ndim, labels),
    )


def _inference(ndim: int, labels: LabelConfig) -> InferenceConfig:
    smoothing = SMOOTHING if ndim == 3 else 0.0
    apart = APART if labels.instances else {}
    return InferenceConfig(overlap=OVERLAP, smoothing=smoothing, **apart)


@dataclass(frozen=True, eq=False)
class _Encoded:
    """An encoded image: where it lies, its features, and these at what is painted.

    Attributes
    ----------
    features
        None once they were released.
    voxels, points, classes
        Each painted voxel of the stored image that is learned from, the features there, and its class.
    places, anywhere
        Random voxels, and the features there.
    painted
        All that is painted.
    corrected
        The voxels that had another answer when they were painted, as indices of the flattened image.
    """

    prepared: PreparedImage
    image_grid: Grid
    features: FeatureMaps | None
    voxels: Int[np.ndarray, "points ndim"]
    points: Float[Tensor, "points features"]
    classes: Int[Tensor, " points"]
    places: Int[np.ndarray, "places ndim"]
    anywhere: Float[Tensor, "anywhere features"]
    painted: Painted
    corrected: Int[np.ndarray, " corrected"]


class StrokeLearner:
    """Encoded images, and a decoder that learns from what is painted on them.

    Parameters
    ----------
    content
        What the model is for, as `stroke_content` has it.
    seed
        All randomness follows from it and from what was learned before.

    Attributes
    ----------
    steps
        That were learned so far; 0: there is no decoder yet.
    """

    def __init__(self, content: CheckpointContent, seed: int = 0) -> None:
        self.content, self.seed, self.steps = content, seed, 0
        self._encoded: dict[Hashable, _Encoded] = {}
        self._points = 0  # that the decoder began with
        self._model = self._fresh()
        self._encoder: PixelClassifier = self._model.for_inference()  # type: ignore[assignment]

    def _fresh(self) -> PixelClassifier:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            model: PixelClassifier = build_network(self.content.model)  # type: ignore[assignment]
        start_pretrained(model, self.content.preprocessing)
        return model

    def _begin(self, points: Float[Tensor, "points features"]) -> None:
        """Take a fresh decoder, with the scale of the features at these points."""
        self._model, self.steps, self._points = self._fresh(), 0, len(points)
        self._model.standardise(points)

    def set_labels(self, labels: LabelConfig) -> None:
        """Learn other classes from now on; another number of them begins anew, what is encoded stays."""
        model = self.content.model.model_copy(update={"classes": labels.classes})
        is_new = model != self.content.model
        inference = _inference(model.ndim, labels)
        changes = {"labels": labels, "model": model, "inference": inference}
        self.content = self.content.model_copy(update=changes)
        if is_new:
            self._model, self.steps, self._points = self._fresh(), 0, 0

    # Images and what is painted on them

    def iter_encode(self, name: Hashable, image: MedicalImage) -> Generator[Progress, None, None]:
        """Encode an image, once for all that will be painted on it; yields progress.

        Raises
        ------
        ImageError
            When the image is of another kind than the others, or too large.
        """
        yield Progress("Encoding", 0, 1)
        prepared = preprocess(image, self.content.preprocessing)
        voxels = math.prod(prepared.shape)
        if voxels > MOST_VOXELS:
            raise ImageError(
                f"{image.name} has {voxels:.3g} voxels, and strokes are answered at once on images of up to "
                f"{MOST_VOXELS:.2g}: crop it, or press Train."
            )
        with out_of_memory_as(f"Memory does not hold the features of {image.name}: crop it, or press Train."):
            features = yield from _iter_features(self._encoder, prepared.tensor[None])
        prepared = replace(prepared, tensor=prepared.tensor[:, :0])  # the features say it all
        nothing, none = torch.empty(0, self._model.decoder.inputs), torch.empty(0, dtype=torch.long)
        rng = np.random.default_rng(self.seed)
        anywhere = ANYWHERE if self._model.ndim == 3 else 0  # images are learned from the strokes alone
        places = np.stack([rng.integers(0, n, anywhere) for n in image.shape], axis=-1)
        encoded = _Encoded(
            prepared,
            image.grid,
            features,
            voxels=places[:0],
            points=nothing,
            classes=none,
            places=places,
            anywhere=nothing,
            painted=np.full(image.shape, IGNORED, np.uint8),
            corrected=np.empty(0, np.intp),
        )
        self._encoded[name] = replace(encoded, anywhere=self._features_at(encoded, places))

    def knows(self, name: Hashable) -> bool:
        """Return whether an image is encoded."""
        return name in self._encoded

    def paint(self, name: Hashable, painted: Painted) -> None:
        """Learn from this paint on an encoded image from now on, in place of what was there before.

        At most `MOST_POINTS` voxels of each class are drawn.
        """
        rng, flat = np.random.default_rng(self.seed), painted.reshape(-1)
        where = np.flatnonzero(flat != IGNORED)
        members = [where[flat[where] == number] for number in np.unique(flat[where])]
        drawn = [rng.choice(m, MOST_POINTS, replace=False) if len(m) > MOST_POINTS else m for m in members]
        chosen = np.concatenate([*drawn, np.empty(0, np.intp)]).astype(np.intp)
        encoded = self._encoded[name]
        voxels = np.stack(np.unravel_index(chosen, painted.shape), axis=-1)
        classes = torch.from_numpy(flat[chosen]).long()
        points = self._features_at(encoded, voxels)
        corrected = encoded.corrected
        if self.steps:
            is_new = flat[chosen] != encoded.painted.reshape(-1)[chosen]
            is_wrong = is_new & (self._answers(points) != classes).numpy()
            corrected = np.union1d(corrected, chosen[is_wrong])
        self._encoded[name] = replace(
            encoded,
            voxels=voxels,
            points=points,
            classes=classes,
            painted=painted.copy(),
            corrected=corrected[flat[corrected] != IGNORED],
        )

    @torch.inference_mode()
    def _answers(self, points: Float[Tensor, "points features"]) -> Int[Tensor, " points"]:
        """Return the class of each point by the decoder of the moment."""
        return self._model.eval().decoder(points).argmax(dim=-1)

    @torch.inference_mode()
    def _features_at(
        self, encoded: _Encoded, points_voxel: Int[np.ndarray, "points ndim"]
    ) -> Float[Tensor, "points features"]:
        """Return the features at voxels of the image as it was stored."""
        assert encoded.features is not None, "released"
        to_encoded = encoded.prepared.affine.inverse() @ encoded.image_grid.affine
        shape = encoded.features.image_shape
        points = voxel_to_image(to_encoded.apply(points_voxel.astype(np.float64)), shape)
        return self._encoder.features(encoded.features, torch.from_numpy(points).float()[None])[0]

    def release(self, name: Hashable) -> None:
        """Free the memory of an image; what is painted on it is learned from still."""
        self._encoded[name] = replace(self._encoded[name], features=None)

    def keep_only(self, names: Iterable[Hashable]) -> None:
        """Drop all other images, and what is painted on them."""
        kept = set(names)
        self._encoded = {name: each for name, each in self._encoded.items() if name in kept}

    @property
    def painted(self) -> dict[str, int]:
        """The voxels that are learned from, by the name of their class."""
        names = (BACKGROUND, *self.content.labels.class_names)
        numbers = torch.cat([torch.empty(0).long(), *(each.classes for each in self._encoded.values())])
        counts = torch.bincount(numbers, minlength=len(names)).tolist()
        return {name: count for name, count in zip(names, counts, strict=True) if count}

    # Learning

    def iter_learn(self, steps: int | None = None) -> Generator[Progress, None, None]:
        """Learn from all that is painted; yields progress. Stopped in between, what was learned stays.

        Parameters
        ----------
        steps
            None: some from nothing, and fewer where an earlier decoder goes on. It does so unless there is
            much more paint, or much less.

        Raises
        ------
        DataError
            When fewer than two classes are painted.
        """
        if len(self.painted) < 2:
            raise DataError("Paint at least two classes, the background being one: a stroke of each will do.")
        images = self._encoded.values()
        points, classes = (torch.cat([getattr(i, part) for i in images]) for part in ("points", "classes"))
        members = [torch.nonzero(classes == number)[:, 0] for number in classes.unique()]
        growth = GROWTH[self._model.ndim]
        if not self._points / growth < len(points) < self._points * growth:
            self._begin(points)
        decoder, generator = (
            self._model.decoder.train(),
            torch.Generator().manual_seed(self.seed + self.steps),
        )
        anywhere, expected = self._expected(points, classes, members, generator)
        steps = steps or (FURTHER_STEPS if self.steps else STEPS[self._model.ndim])
        optimiser = torch.optim.AdamW(decoder.parameters(), RATE, weight_decay=DECAY)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
        for step in range(steps):
            chosen = torch.cat([m[torch.randint(len(m), (POINTS,), generator=generator)] for m in members])
            with torch.random.fork_rng(devices=[]):  # of the dropout
                torch.manual_seed(self.seed + self.steps)
                loss = functional.cross_entropy(decoder(points[chosen]), classes[chosen])
                if len(anywhere):
                    drawn = torch.randint(len(anywhere), (len(chosen),), generator=generator)
                    loss = loss + functional.cross_entropy(decoder(anywhere[drawn]), expected[drawn])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            self.steps += 1
            if (step + 1) % STEPS_AT_ONCE == 0:
                yield Progress("Learning", step + 1, steps)

    def _expected(
        self, points: Tensor, classes: Tensor, members: Sequence[Tensor], generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Return random voxels of volumes, and what trees that grew from the strokes make of them.

        They generalise better from few slices than a network does, which learns it from them: it is quicker
        and continuous. Where the network reads positions, it learns besides that a class is the rarer the
        farther from its strokes. Images have none of it.
        """
        if self._model.ndim == 2:
            return points[:0], points[:0]
        images = [image for image in self._encoded.values() if len(image.classes)]
        found = torch.cat([image.anywhere for image in images])
        likelihood = torch.cat([_near_strokes(image, self._model) for image in images])
        chosen = torch.randperm(len(found), generator=generator)[:ANYWHERE]
        found, likelihood = found[chosen], likelihood[chosen]
        grown = torch.cat([m[torch.randperm(len(m), generator=generator)[:MOST_GROWN]] for m in members])
        forest = grow_forest(points[grown], classes[grown], self._model.classes, TREES, generator)
        # What the trees rule out by a few strokes may be so all the same.
        expected = (forest.probabilities(found) + DOUBT) * likelihood
        return found, expected / expected.sum(dim=1, keepdim=True)

    # What was learned

    def field(self, name: Hashable) -> OccupancyField:
        """Return the answer on an encoded image, by the decoder of the moment."""
        encoded = self._encoded[name]
        prepared, features = encoded.prepared, encoded.features
        assert features is not None, "released"
        grid = Grid(features.image_shape, prepared.affine)
        predictor = Predictor(copy.deepcopy(self._model).eval(), self.content)
        field = predictor.empty_field(grid, encoded.image_grid, prepared.unit, prepared.space)
        window = EncodedWindow(Block((0,) * grid.ndim, grid.shape), features)
        return replace(field, windows=(window,))

    def quick_field(self, name: Hashable) -> OccupancyField:
        """Return the answer while somebody paints: `field`, but that corrections weigh more near themselves.

        Where a stroke was painted on another answer, the logit of its class is greater by `PULL`, which falls
        off as a Gaussian: what is wrong there is put right by a stroke or two, and elsewhere little changes.
        There is no smoothing, which in volumes takes several times as long.
        """
        field, encoded = self.field(name), self._encoded[name]
        maps = encoded.features
        assert maps is not None
        corrected = CorrectedMaps(
            image_shape=maps.image_shape,
            padded_shape=maps.padded_shape,
            maps=maps.maps,
            correction=_pull(encoded, field.grid, self._model.classes),
        )
        config = field.config.model_copy(update={"smoothing": 0.0})
        return replace(field, windows=(replace(field.windows[0], encoding=corrected),), config=config)

    def checkpoint(self, provenance: Provenance | None = None) -> Checkpoint:
        """Return the model of the moment, encoder and decoder, as any other is kept."""
        known = {} if provenance is None else provenance.model_dump()
        summary = TrainingSummary(
            **known | {"painted_voxels": self.painted, "started_from": "ImageNet"},
            description="Learned from strokes, with the features of an encoder that was trained on ImageNet.",
            step=self.steps,
            training_cases=sum(len(each.classes) > 0 for each in self._encoded.values()),
        )
        content = self.content.model_copy(update={"summary": summary})
        return Checkpoint(content, copy.deepcopy(self._model.state_dict()))


def _distances(
    grid: Grid, voxels: Int[np.ndarray, "strokes ndim"], points: Float[np.ndarray, "points ndim"]
) -> Float[Tensor, " points"]:
    """Return how far points of the world lie from the nearest of some voxels, as shares of the diagonal."""
    from scipy.spatial import cKDTree

    diagonal = np.linalg.norm(grid.affine.linear @ np.array(grid.shape))
    return torch.from_numpy(cKDTree(grid.affine.apply(voxels)).query(points)[0] / diagonal)


def _near_strokes(image: _Encoded, model: PixelClassifier) -> Float[Tensor, "places classes"]:
    """Return how likely each class is at the random voxels, by the distance to the nearest stroke of it.

    It falls by half every fourteenth of the image's diagonal. Background may be anywhere, and so may a class
    that is painted in a single slice, which does not say how far it goes; and a network that reads no
    positions could not tell near from far.
    """
    grid, likelihood = image.image_grid, torch.ones(len(image.places), model.classes)
    places = grid.affine.apply(image.places)
    for number in range(1, model.classes if model.position else 1):
        strokes = image.voxels[(image.classes == number).numpy()]
        if len(strokes) and (np.ptp(strokes, axis=0) > 0).all():
            likelihood[:, number] = torch.exp(-_distances(grid, strokes, places) / REACH)
    return likelihood


def _pull(image: _Encoded, grid: Grid, classes: int) -> Float[Tensor, "1 classes *lattice"]:
    """Return what corrections add to the logits, on a lattice of cells half as wide as they reach."""
    lengths = np.array(grid.shape) * grid.affine.spacing
    cells = np.ceil(lengths / (PULLED / 2 * np.linalg.norm(lengths))).astype(int)
    coarse = grid.resized(np.minimum(cells, grid.shape).tolist())
    pull = torch.zeros(classes, coarse.voxels)
    corrections = image.painted.reshape(-1)[image.corrected]
    for number in np.unique(corrections):
        flat = image.corrected[corrections == number]
        voxels = np.stack(np.unravel_index(flat, image.painted.shape), axis=-1)
        distances = _distances(image.image_grid, voxels, coarse.centres_world())
        pull[number] = PULL * torch.exp(-0.5 * (distances / PULLED) ** 2)
    return pull.reshape(1, classes, *coarse.shape)


@torch.inference_mode()
def _iter_features(encoder: PixelClassifier, images: Tensor) -> Generator[Progress, None, FeatureMaps]:
    return (yield from encoder.iter_encode(images))
