"""Laws of training batches: a function of seed and step, whose points, classes and images fit together."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage

from swipe_core.coordinates import image_to_voxel, sample_at
from swipe_core.data import sampling
from swipe_core.data.augmentation import AugmentationConfig
from swipe_core.data.batch import Batch
from swipe_core.data.cases import Case
from swipe_core.data.dataset import BatchConfig, TrainingSet
from swipe_core.data.labelled import read_labelled
from swipe_core.data.labels import LabelConfig
from swipe_core.data.preprocessing import PreprocessingConfig
from swipe_core.data.sampling import SamplingConfig
from swipe_core.errors import DataError
from swipe_core.progress import Notice, Progress

EVERYTHING = AugmentationConfig(
    flip=0.5, rotation=1, rotation_degrees=60, scale=1, scale_range=(0.8, 1.4), colour=1, intensity=1
)
MANY = 10**6  # points: as many as asked for, of however few voxels
TWO_CLASSES = LabelConfig(class_names=("ellipse", "box"), ignore_label=255)
# Source shape, preprocessing: whole images, resized ones, crops, and crops larger than the image.
SET_UPS = [
    pytest.param((40, 53), {}, id="2D-whole"),
    pytest.param((40, 53), {"size": (32, 64)}, id="2D-resized"),
    pytest.param((60, 70), {"crop_size": (40, 32)}, id="2D-crop"),
    pytest.param((40, 53), {"crop_size": (64, 32)}, id="2D-crop-and-pad"),
    pytest.param((30, 36, 40), {}, id="3D-whole"),
    pytest.param((30, 36, 40), {"crop_size": (24, 24, 32)}, id="3D-crop"),
    pytest.param((30, 36, 40), {"spacing": (1.0, 1.0, 2.0)}, id="3D-respaced"),
]


def true_classes(shape: Sequence[int]) -> np.ndarray:
    """Background, an ellipse of class 1 and a box of class 2, different along every axis."""
    position = [(i + 0.5) / n for i, n in zip(np.indices(shape), shape, strict=True)]
    centre = (0.35, 0.35, 0.45)[: len(shape)]
    ellipse = sum((p - c) ** 2 for p, c in zip(position, centre, strict=True)) < 0.25**2
    box = np.all([(p > 0.55) & (p < 0.95) for p in position], axis=0)
    return np.where(box, 2, ellipse).astype(np.uint8)


def unlabelled(shape: Sequence[int]) -> np.ndarray:
    """A slab of the image that runs through all classes."""
    return np.abs(np.indices(shape)[0] - 0.6 * shape[0]) < 2


def save_case(folder: Path, name: str, image: np.ndarray, labels: np.ndarray) -> Case:
    """A pair of PNG files in 2D; of NIfTI files with a spacing of 2 x 1 x 1 in 3D."""
    suffix = ".png" if image.ndim == 2 else ".nii.gz"
    paths = [folder / kind / f"{name}{suffix}" for kind in ("images", "labels")]
    for path, array in zip(paths, (image, labels), strict=True):
        save_array(path, array)
    return Case(name, *paths)


def save_array(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(exist_ok=True)
    if array.ndim == 2:
        Image.fromarray(array).save(path)
    else:
        nibabel.Nifti1Image(array.T, np.diag([1.0, 1.0, 2.0, 1.0])).to_filename(path)


def with_corrections(case: Case, corrected: np.ndarray) -> Case:
    """The same case with a file of corrections, in which 3 marks what was corrected."""
    path = case.image_path.parents[1] / "corrections" / case.image_path.name
    save_array(path, np.where(corrected, 3, 0).astype(np.uint8))
    return dataclasses.replace(case, corrections_path=path)


def write_set(folder: Path, shape: Sequence[int], count: int = 3) -> list[Case]:
    """Cases whose intensity is their class, mirrored in turn, with an unlabelled slab."""
    cases = []
    for index in range(count):
        classes = true_classes(shape)
        classes = classes[::-1] if index % 2 else classes
        labels = np.where(unlabelled(shape), 255, classes).astype(np.uint8)
        cases.append(save_case(folder, f"case{index}", np.ascontiguousarray(classes), labels))
    return cases


def training_set(
    cases: Sequence[Case],
    ndim: int = 2,
    *,
    load: bool = True,
    labels: LabelConfig = TWO_CLASSES,
    augmentation: AugmentationConfig | None = EVERYTHING,
    seed: int = 0,
    batch: Mapping[str, Any] | None = None,
    corrected_share: float = 0.5,
    **preprocessing: Any,
) -> TrainingSet:
    """Batches of four images with 200 points each, in the intensities of the files (0 to 2 as 0 to 1)."""
    settings = {"ndim": ndim, "channels": 1, "intensity": "window", "window": (0.0, 2.0)}
    result = TrainingSet(
        cases,
        preprocessing=PreprocessingConfig(**(settings | preprocessing)),
        labels=labels,
        sampling=SamplingConfig(
            foreground_points=300,
            background_points=300,
            boundary_width=3.0,
            corrected_share=corrected_share,
        ),
        augmentation=augmentation,
        batch=BatchConfig(**({"size": 4, "points": 200} | dict(batch or {}))),
        seed=seed,
    )
    if load:
        list(result.load())
    return result


def assert_same(first: Batch, second: Batch) -> None:
    for field in dataclasses.fields(Batch):
        one, two = getattr(first, field.name), getattr(second, field.name)
        assert torch.equal(one, two) if isinstance(one, torch.Tensor) else one == two, field.name


def source_voxels(points_source: torch.Tensor, shape: Sequence[int]) -> tuple[np.ndarray, ...]:
    """The voxels of the stored label map that hold points, as an index."""
    position = image_to_voxel(points_source.double().numpy(), shape)
    voxels = np.floor(position + 0.5).astype(int).clip(0, np.array(shape) - 1)
    return tuple(voxels.T)


# --- Seed and step ------------------------------------------------------------------------------


@pytest.mark.parametrize(("shape", "geometry"), SET_UPS[2:3] + SET_UPS[5:6])
def test_a_batch_is_a_function_of_seed_and_step_alone(tmp_path, shape, geometry):
    cases = write_set(tmp_path, shape)
    in_order, at_once = (training_set(cases, len(shape), **geometry) for _ in range(2))
    for step in (7, 2, 0):
        at_once[step]
    for step in range(4):
        assert_same(in_order[step], at_once[step])


def test_other_steps_and_other_seeds_give_other_batches(tmp_path):
    cases = write_set(tmp_path, (40, 53))
    first, other = training_set(cases), training_set(cases, seed=1)
    for batch in (first[1], other[0]):
        assert not torch.equal(batch.images, first[0].images)
        assert not torch.equal(batch.points_source, first[0].points_source)


def test_a_loader_with_two_workers_gives_the_same_batches_from_any_step_on(tmp_path):
    cases = write_set(tmp_path, (40, 53))
    plain = training_set(cases)
    # Nothing is held here, so that the workers read the files and sample the points themselves.
    lazy = training_set(cases, batch={"memory_gb": 1e-9}, load=False)
    loaded = list(lazy.loader(3, 7, workers=2, pin_memory=False))
    assert len(loaded) == 4
    for step, batch in zip(range(3, 7), loaded, strict=True):
        assert_same(batch, plain[step])


@pytest.mark.parametrize("memory_gb", [1e-9, 1.5 * 40 * 53 * 4 / 2**30])
def test_a_set_that_is_read_lazily_equals_the_one_held_in_memory(tmp_path, memory_gb):
    cases = write_set(tmp_path, (40, 53))
    held, lazy = training_set(cases), training_set(cases, batch={"memory_gb": memory_gb})
    for step in range(3):
        assert_same(held[step], lazy[step])


def test_every_case_comes_once_in_an_epoch_and_in_another_order_in_the_next(tmp_path):
    cases = write_set(tmp_path, (12, 12), count=7)
    data = training_set(cases, batch={"size": 2, "points": 4})
    names = [name for step in range(21) for name in data[step].names]
    epochs = [names[start : start + 7] for start in range(0, 42, 7)]
    assert all(sorted(epoch) == [case.name for case in cases] for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 1


def test_loading_reports_every_case(tmp_path):
    data = training_set(write_set(tmp_path, (12, 12)), load=False)
    assert list(data.load()) == [Progress("Reading cases", done, 3) for done in (1, 2, 3)]


# --- Points, classes and images -----------------------------------------------------------------


@pytest.mark.parametrize(("shape", "geometry"), SET_UPS)
def test_a_point_carries_the_class_that_the_label_map_holds_at_its_source_position(tmp_path, shape, geometry):
    cases = write_set(tmp_path, shape)
    data = training_set(cases, len(shape), **geometry)
    stored = {case.name: true_classes(shape)[:: -1 if i % 2 else 1] for i, case in enumerate(cases)}
    for step in range(3):
        batch = data[step]
        for name, source, classes in zip(batch.names, batch.points_source, batch.classes, strict=True):
            np.testing.assert_array_equal(classes.numpy(), stored[name][source_voxels(source, shape)])
        assert set(batch.classes.unique().tolist()) == {0, 1, 2}


@pytest.mark.parametrize(("shape", "geometry"), SET_UPS)
def test_no_point_is_unlabelled_and_none_of_the_ignore_label(tmp_path, shape, geometry):
    data = training_set(write_set(tmp_path, shape), len(shape), **geometry)
    for step in range(3):
        batch = data[step]
        assert int(batch.classes.max()) == 2
        for source in batch.points_source:
            assert not unlabelled(shape)[source_voxels(source, shape)].any()


@pytest.mark.parametrize(("shape", "geometry"), SET_UPS)
def test_the_image_at_a_point_shows_the_class_of_the_point_whatever_the_augmentation(
    tmp_path, shape, geometry
):
    cases = write_set(tmp_path, shape)
    data = training_set(cases, len(shape), **geometry)
    classes = true_classes(shape)
    # Well inside a class: neither interpolation nor the anti-aliasing of a resize reaches the boundary.
    interior = np.any([ndimage.binary_erosion(classes == k, iterations=3) for k in range(3)], axis=0)
    clear = {case.name: interior[:: -1 if i % 2 else 1] for i, case in enumerate(cases)}
    checked, wrong = 0, 0
    for step in range(6):
        batch = data[step]
        for row, name in enumerate(batch.names):
            kept = torch.from_numpy(clear[name][source_voxels(batch.points_source[row], shape)])
            kept &= (batch.points_image[row].abs() < 1).all(dim=-1)
            values = sample_at(batch.images[row], batch.points_image[row], "border")[0]
            wrong += _misplaced(values[kept], batch.classes[row][kept])
            checked += int(kept.sum())
    assert checked > 1000
    assert wrong / checked < 0.005


def _misplaced(values: torch.Tensor, classes: torch.Tensor) -> int:
    """How many values lie nearer to another class's median: gamma and contrast keep the order of classes."""
    present = classes.unique()
    medians = torch.stack([values[classes == k].median() for k in present])
    assert (medians.diff() > 0).all()
    return int((present[(values[:, None] - medians).abs().argmin(dim=1)] != classes).sum())


@pytest.mark.parametrize(("shape", "geometry"), SET_UPS)
def test_points_moved_by_a_voxel_fit_the_image_less_well(tmp_path, shape, geometry):
    data = training_set(write_set(tmp_path, shape), len(shape), **geometry)
    batches = [data[step] for step in range(6)]
    size = torch.tensor(batches[0].images.shape[2:])
    one_voxel = torch.diag(2 / size)
    misfit = sum(_misfit(batch, batch.points_image) for batch in batches)
    for step in (*one_voxel, *-one_voxel):
        assert sum(_misfit(batch, batch.points_image + step) for batch in batches) > 1.3 * misfit


def _by_class(values: torch.Tensor, classes: torch.Tensor) -> list[torch.Tensor]:
    return [values[classes == k] for k in classes.unique()]


def _misfit(batch: Batch, points_image: torch.Tensor) -> float:
    """Squared differences between the image at points and the median of their class."""
    total = 0.0
    for image, points, classes in zip(batch.images, points_image, batch.classes, strict=True):
        values = sample_at(image, points, "border")[0]
        total += sum(float((v - v.median()).square().sum()) for v in _by_class(values, classes))
    return total


@pytest.mark.parametrize(("shape", "geometry"), SET_UPS)
def test_images_have_the_asked_size_and_every_number_the_right_shape(tmp_path, shape, geometry):
    ndim = len(shape)
    batch = training_set(write_set(tmp_path, shape), ndim, **geometry)[0]
    expected = geometry.get("size") or geometry.get("crop_size") or shape
    if "spacing" in geometry:  # the files have 2 x 1 x 1
        expected = (60, 36, 20)
    assert len(batch) == 4
    assert batch.images.shape == (4, 1, *expected)
    assert batch.points_image.shape == batch.points_source.shape == (4, 200, ndim)
    assert batch.classes.shape == (4, 200)
    assert batch.images.isfinite().all()
    assert batch.points_image.abs().max() <= 1


# --- Crops --------------------------------------------------------------------------------------


@pytest.mark.parametrize("probability", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("place", [(80, 45), (1, 98)], ids=["inside", "corner"])
def test_a_crop_holds_foreground_with_the_asked_probability(tmp_path, probability, place):
    labels = np.zeros((100, 100), np.uint8)
    labels[tuple(slice(p - 1, p + 2) for p in place)] = 1
    case = save_case(tmp_path, "speck", 2 * labels, labels)
    data = training_set(
        [case],
        augmentation=None,
        crop_size=(16, 16),
        batch={"size": 100, "points": 5, "foreground_probability": probability},
    )
    crops = torch.cat([data[step].images for step in range(4)])
    found = float((crops.amax(dim=(1, 2, 3)) > 0.5).double().mean())
    # By chance alone a crop of 16 pixels meets the speck at no more than 18 x 18 of its 85 x 85 places.
    by_chance = (1 - probability) * (18 / 85) ** 2
    assert probability - 0.09 <= found <= probability + by_chance + 0.09
    if probability == 1:
        assert found == 1


@pytest.mark.parametrize("probability", [0.0, 1.0])
def test_crops_lie_inside_the_image_and_reach_every_part_of_it(tmp_path, probability):
    ramp = np.arange(60 * 60, dtype=np.float32).reshape(60, 60)
    (tmp_path / "images").mkdir()
    (tmp_path / "labels").mkdir()
    case = Case("ramp", tmp_path / "images" / "ramp.tif", tmp_path / "labels" / "ramp.png")
    Image.fromarray(ramp).save(case.image_path)
    Image.fromarray(np.ones((60, 60), np.uint8)).save(case.label_path)
    data = training_set(
        [case],
        augmentation=None,
        intensity="unit",
        window=None,
        crop_size=(20, 20),
        batch={"size": 80, "foreground_probability": probability},
    )
    crops = ((data[0].images[:, 0] + 1) / 2 * (ramp.max() - ramp.min())).round().long()
    corners = crops[:, 0, 0]
    rows, columns = corners // 60, corners % 60
    for starts in (rows, columns):
        assert 0 <= starts.min() <= 3 and 37 <= starts.max() <= 40
    expected = torch.from_numpy(ramp).long().unfold(0, 20, 1).unfold(1, 20, 1)[rows, columns]
    torch.testing.assert_close(crops, expected, atol=1, rtol=0)


@pytest.mark.parametrize("augmentation", [None, EVERYTHING])
def test_a_crop_that_meets_no_labelled_point_is_moved_to_one(tmp_path, augmentation):
    labels = np.full((80, 80), 255, np.uint8)
    labels[:2, :2] = 1
    case = save_case(tmp_path, "scribble", np.zeros((80, 80), np.uint8), labels)
    data = training_set(
        [case], augmentation=augmentation, crop_size=(16, 16), batch={"foreground_probability": 0.0}
    )
    for batch in (data[0], data[1]):
        assert (batch.classes == 1).all()
        assert batch.points_image.abs().max() <= 1


def strokes(shape: Sequence[int]) -> np.ndarray:
    """Three thin strokes through true classes 0, 1 and 2; all else is unlabelled."""
    labels = np.full(shape, 255, np.uint8)
    depth = tuple(3 * n // 5 for n in shape[2:])
    for row in (0.05, 0.35, 0.75):
        line = (int(row * shape[0]), slice(shape[1] // 8, -shape[1] // 8), *depth)
        labels[line] = true_classes(shape)[line]
    return labels


@pytest.mark.parametrize(("shape", "geometry"), SET_UPS)
@pytest.mark.parametrize("probability", [0.0, 0.75])
def test_every_point_lies_on_a_stroke_that_was_painted(tmp_path, shape, geometry, probability):
    labels = strokes(shape)
    assert set(np.unique(labels)) == {0, 1, 2, 255}
    case = save_case(tmp_path, "scribble", true_classes(shape), labels)
    case = with_corrections(case, np.indices(shape)[1] < shape[1] // 2)
    data = training_set(
        [case], len(shape), batch={"size": 12, "foreground_probability": probability}, **geometry
    )
    for step in range(2):
        batch = data[step]
        for source, classes in zip(batch.points_source, batch.classes, strict=True):
            np.testing.assert_array_equal(classes.numpy(), labels[source_voxels(source, shape)])
        assert batch.points_image.abs().max() <= 1
        assert set(batch.classes.unique().tolist()) == {0, 1, 2}


def test_a_pool_smaller_than_the_points_of_a_step_is_used_more_than_once(tmp_path):
    data = training_set(write_set(tmp_path, (24, 24), count=1), batch={"points": 5000})
    assert data[0].classes.shape == (4, 5000)


# --- Corrections --------------------------------------------------------------------------------


def corner(shape: Sequence[int]) -> np.ndarray:
    """A few voxels of the background, which lie elsewhere along each axis."""
    return np.all([np.abs(i - 2 - axis) < 2 for axis, i in enumerate(np.indices(shape))], axis=0)


@pytest.mark.parametrize(("shape", "geometry"), SET_UPS[:2] + SET_UPS[4:5] + SET_UPS[6:])
@pytest.mark.parametrize("share", [0.0, 0.6])
def test_corrected_voxels_give_their_share_of_the_points_of_their_class(
    tmp_path, monkeypatch, shape, geometry, share
):
    monkeypatch.setattr(sampling, "MOST_POINTS_PER_CORRECTION", MANY)
    (case,) = write_set(tmp_path, shape, count=1)
    assert not true_classes(shape)[corner(shape)].any()
    data = training_set(
        [with_corrections(case, corner(shape))],
        len(shape),
        augmentation=None,
        corrected_share=share,
        batch={"points": 900},  # the whole pool, 300 of each class
        **geometry,
    )
    batch = data[0]
    for source, classes in zip(batch.points_source, batch.classes, strict=True):
        found = int(corner(shape)[source_voxels(source, shape)].sum())
        by_chance = 2 + 300 * (1 - share) * 3 * corner(shape).mean()
        assert 300 * share <= found <= 300 * share + by_chance
        assert torch.bincount(classes).tolist() == [300, 300, 300]


@pytest.mark.parametrize(
    ("mark", "share"),
    [
        pytest.param(lambda shape: np.zeros(shape, bool), 0.5, id="none"),
        pytest.param(corner, 0.0, id="no-share"),
    ],
)
@pytest.mark.parametrize(("shape", "geometry"), SET_UPS[2:3] + SET_UPS[5:6])
def test_without_corrections_or_a_share_for_them_batches_stay_as_they_are(
    tmp_path, shape, geometry, mark, share
):
    cases = write_set(tmp_path, shape)
    plain = training_set(cases, len(shape), **geometry)
    corrected = [with_corrections(case, mark(shape)) for case in cases]
    data = training_set(corrected, len(shape), corrected_share=share, **geometry)
    for step in range(3):
        assert_same(data[step], plain[step])


def test_corrections_of_one_case_leave_the_others_as_they_are(tmp_path):
    cases = write_set(tmp_path, (60, 70))
    some = [with_corrections(cases[0], corner((60, 70))), *cases[1:]]
    settings = {"crop_size": (40, 32), "batch": {"size": 3}}
    plain, data = training_set(cases, **settings)[0], training_set(some, **settings)[0]
    for row, name in enumerate(plain.names):
        same = torch.equal(data.points_source[row], plain.points_source[row])
        assert same == (name != "case0")


def test_corrections_that_are_read_lazily_are_those_held_in_memory(tmp_path):
    cases = [with_corrections(case, corner((40, 53))) for case in write_set(tmp_path, (40, 53))]
    held, lazy = training_set(cases), training_set(cases, batch={"memory_gb": 1e-9})
    for step in range(3):
        assert_same(held[step], lazy[step])


@pytest.mark.parametrize("is_corrected", [False, True])
@pytest.mark.parametrize("has_foreground", [False, True])
def test_crops_are_guaranteed_to_hold_foreground_or_corrected_background(
    tmp_path, monkeypatch, has_foreground, is_corrected
):
    monkeypatch.setattr(sampling, "MOST_POINTS_PER_CORRECTION", MANY)
    speck, shown = np.zeros((2, 100, 100), bool)
    speck[80:83, 20:23], shown[10:13, 70:73] = True, True
    case = save_case(
        tmp_path, "specks", (2 * shown).astype(np.uint8), (speck & has_foreground).astype(np.uint8)
    )
    data = training_set(
        [with_corrections(case, shown & is_corrected)],
        load=has_foreground,  # a training without any foreground is refused there
        augmentation=None,
        crop_size=(16, 16),
        batch={"size": 100, "points": 5, "foreground_probability": 1.0},
    )
    crops = torch.cat([data[step].images for step in range(3)])
    found = float((crops.amax(dim=(1, 2, 3)) > 0.5).double().mean())
    # 300 points of foreground and 150 of corrected background; by chance a crop meets the voxels at no more
    # than 18 x 18 of its 85 x 85 places.
    by_chance = (18 / 85) ** 2
    expected = {(True, True): 150 / 450, (False, True): 1.0, (True, False): 0.0, (False, False): by_chance}
    assert found == pytest.approx(expected[has_foreground, is_corrected], abs=0.09)


def test_whatever_is_not_zero_marks_a_corrected_voxel(tmp_path):
    (case,) = write_set(tmp_path, (9, 10, 11), count=1)
    case = with_corrections(case, corner((9, 10, 11)))
    read = read_labelled(case, 3, TWO_CLASSES)
    np.testing.assert_array_equal(read.corrected, corner((9, 10, 11)))
    marks = np.where(corner((9, 10, 11)), -7, 0).astype(np.int16)
    save_array(case.corrections_path, marks)
    np.testing.assert_array_equal(read_labelled(case, 3, TWO_CLASSES).corrected, corner((9, 10, 11)))
    assert read_labelled(dataclasses.replace(case, corrections_path=None), 3, TWO_CLASSES).corrected is None


# --- Pairs of points without labels ---------------------------------------------------------------

PAIRED_SET_UPS = [SET_UPS[0], SET_UPS[3], SET_UPS[5], SET_UPS[6]]


def without_pairs(batch: Batch) -> dict[str, Any]:
    fields = {f.name: getattr(batch, f.name) for f in dataclasses.fields(Batch)}
    return {name: value for name, value in fields.items() if not name.startswith("pairs_")}


@pytest.mark.parametrize(("shape", "geometry"), PAIRED_SET_UPS)
def test_pairs_change_nothing_else_in_a_batch(tmp_path, shape, geometry):
    cases = write_set(tmp_path, shape)
    plain = training_set(cases, len(shape), **geometry)
    paired = training_set(cases, len(shape), batch={"pairs": 30}, **geometry)
    for step in range(3):
        one, other = plain[step], paired[step]
        assert one.pairs_image.shape == one.pairs_source.shape == (4, 0, 2, len(shape))
        assert other.pairs_image.shape == other.pairs_source.shape == (4, 30, 2, len(shape))
        for name, value in without_pairs(one).items():
            same = without_pairs(other)[name]
            assert torch.equal(value, same) if isinstance(value, torch.Tensor) else value == same, name


def test_pairs_are_a_function_of_seed_and_step_as_the_rest(tmp_path):
    cases = write_set(tmp_path, (40, 53))
    first, again, other = (training_set(cases, batch={"pairs": 20}, seed=seed) for seed in (0, 0, 1))
    assert_same(first[3], again[3])
    for batch in (first[2], other[3]):
        assert not torch.equal(first[3].pairs_image, batch.pairs_image)
    rows = first[3].pairs_image
    assert not torch.equal(rows[0], rows[1])


@pytest.mark.parametrize(("shape", "geometry"), PAIRED_SET_UPS)
def test_pairs_lie_all_over_the_crop_and_never_outside(tmp_path, shape, geometry):
    # So far apart that many would end outside.
    batch = {"pairs": 400, "pair_distance": 9.0}
    data = training_set(write_set(tmp_path, shape), len(shape), batch=batch, **geometry)
    pairs = torch.cat([data[step].pairs_image for step in range(3)]).flatten(0, 1)
    assert pairs.abs().max() <= 1
    first, second = pairs.unbind(1)
    assert second.abs().max() == 1  # what would be outside is on the border
    for axis in first.unbind(-1):
        shares = torch.histc(axis, bins=4, min=-1, max=1) / len(axis)
        assert (shares - 0.25).abs().max() < 0.05


@pytest.mark.parametrize(("shape", "geometry"), PAIRED_SET_UPS)
def test_the_points_of_a_pair_are_as_far_apart_as_asked_in_voxels_along_each_axis(tmp_path, shape, geometry):
    batch = {"pairs": 500, "pair_distance": 1.5}
    data = training_set(write_set(tmp_path, shape), len(shape), batch=batch, **geometry)
    drawn = data[0]
    size = torch.tensor(drawn.images.shape[2:])
    first, second = drawn.pairs_image.flatten(0, 1).unbind(1)
    inside = first.abs().amax(dim=-1) < 1 - 12 / float(size.min())  # whose partner was not brought back
    steps = ((second - first) * size / 2)[inside]
    assert int(inside.sum()) > 100
    assert (steps.std(dim=0) - 1.5).abs().max() < 0.3 and steps.mean(dim=0).abs().max() < 0.4


@pytest.mark.parametrize(("shape", "geometry"), PAIRED_SET_UPS)
def test_the_source_of_a_pair_follows_by_the_transform_that_warps_the_image(tmp_path, shape, geometry):
    data = training_set(write_set(tmp_path, shape), len(shape), batch={"pairs": 60}, **geometry)
    for step in range(3):
        batch = data[step]
        for row in range(len(batch)):
            labelled, source = batch.points_image[row].double(), batch.points_source[row].double()
            ones = torch.ones(len(labelled), 1, dtype=torch.float64)
            # The one affine map that the labelled points know, which is exact.
            affine = torch.linalg.lstsq(torch.cat([labelled, ones], dim=1), source).solution
            pairs = batch.pairs_image[row].double().flatten(0, 1)
            expected = torch.cat([pairs, torch.ones(len(pairs), 1, dtype=torch.float64)], dim=1) @ affine
            found = batch.pairs_source[row].double().flatten(0, 1)
            torch.testing.assert_close(found, expected, atol=2e-5, rtol=0)


def test_pairs_need_no_labels_where_they_lie(tmp_path):
    labels = np.full((40, 40), 255, np.uint8)
    labels[4:8, 4:8] = 1
    case = save_case(tmp_path, "corner", labels, labels)
    data = training_set([case], batch={"pairs": 200}, augmentation=None, labels=TWO_CLASSES)
    assert bool((data[0].pairs_source[..., 0] > 0.5).any()) and int(data[0].classes.min()) == 1


def test_the_parts_of_a_batch_take_their_pairs_along(tmp_path):
    batch = training_set(write_set(tmp_path, (24, 24)), batch={"pairs": 7})[0]
    split = batch.split(3)
    assert [part.pairs_image.shape[:2] for part in split] == [(2, 7), (2, 7)]
    assert_same(Batch.join(split), batch)


# --- Parts of a batch ---------------------------------------------------------------------------


@pytest.mark.parametrize(("parts", "sizes"), [(1, [4]), (2, [2, 2]), (3, [2, 2]), (4, [1] * 4), (9, [1] * 4)])
def test_the_parts_of_a_batch_make_up_the_batch(tmp_path, parts, sizes):
    batch = training_set(write_set(tmp_path, (24, 24)))[0]
    split = batch.split(parts)
    assert [len(part) for part in split] == sizes
    assert_same(Batch.join(split), batch)


# --- What users get wrong -----------------------------------------------------------------------


def sentence(error: pytest.ExceptionInfo[DataError]) -> str:
    """The text of an error, which must be one sentence."""
    message = str(error.value)
    assert "\n" not in message and ". " not in message
    return message


def test_images_of_different_sizes_need_a_size_or_a_crop_size(tmp_path):
    small = write_set(tmp_path, (30, 30), count=1)[0]
    (tmp_path / "more").mkdir()
    large = write_set(tmp_path / "more", (30, 40), count=1)[0]
    with pytest.raises(DataError) as error:
        training_set([small, large])[0]
    message = sentence(error)
    assert "preprocessing.size" in message and "preprocessing.crop_size" in message
    assert "(30, 30)" in message and "(30, 40)" in message
    for geometry in ({"size": (32, 32)}, {"crop_size": (32, 32)}):
        assert training_set([small, large], **geometry)[0].images.shape == (4, 1, 32, 32)


def test_a_fault_in_a_worker_process_is_the_same_one_sentence(tmp_path):
    small = write_set(tmp_path, (30, 30), count=1)[0]
    (tmp_path / "more").mkdir()
    large = write_set(tmp_path / "more", (30, 40), count=1)[0]
    with pytest.raises(DataError) as error:
        list(training_set([small, large]).loader(0, 2, workers=1, pin_memory=False))
    assert sentence(error).startswith("The images of a batch must have one size")


def test_labels_that_lie_elsewhere_in_the_world_are_refused_and_rounding_is_not(tmp_path):
    (case,) = write_set(tmp_path, (8, 9, 10), count=1)
    labels = nibabel.load(case.label_path)
    for shift, fits in ((0.05, True), (3.0, False)):
        affine = labels.affine.copy()
        affine[0, 3] += shift
        nibabel.Nifti1Image(np.asarray(labels.dataobj), affine).to_filename(case.label_path)
        if fits:
            assert len(training_set([case], ndim=3)[0]) == 4
            continue
        with pytest.raises(DataError, match="same place") as error:
            training_set([case], ndim=3)
        assert "3.0 voxels apart" in sentence(error) and str(case.label_path) in sentence(error)


def test_a_pool_that_would_be_empty_is_named(tmp_path):
    case = save_case(tmp_path, "nothing", np.zeros((20, 20), np.uint8), np.zeros((20, 20), np.uint8))
    data = training_set([case], load=False)
    data.sampling = SamplingConfig(background_points=0)
    with pytest.raises(DataError, match="background_points") as error:
        list(data.load())
    assert str(case.label_path) in sentence(error)


def test_a_photograph_that_viewers_turn_is_named_where_its_labels_lie_the_other_way(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.zeros((20, 30), np.uint8)).save(tmp_path / "a.jpg", exif=exif)
    case = Case("a", tmp_path / "a.jpg", tmp_path / "a.png")
    Image.fromarray(np.zeros((30, 20), np.uint8)).save(case.label_path)
    with pytest.raises(DataError, match=r"\(20, 30\) pixels .* \(30, 20\): EXIF data in .*a\.jpg turn it"):
        read_labelled(case, 2, LabelConfig())
    Image.fromarray(np.zeros((20, 30), np.uint8)).save(case.label_path)
    assert read_labelled(case, 2, LabelConfig()).labels.shape == (20, 30)


@pytest.mark.parametrize(("orientation", "count"), [(1, 0), (3, 1)])
def test_photographs_that_viewers_turn_by_half_a_turn_are_told_of_once(tmp_path, orientation, count):
    cases = write_masks(tmp_path, SPOT, SPOT)
    exif = Image.Exif()
    exif[0x0112] = orientation
    turned = []
    for case in cases:
        path = tmp_path / f"{case.name}_photograph.jpg"
        Image.open(case.image_path).convert("L").save(path, exif=exif)
        turned.append(dataclasses.replace(case, image_path=path))
    said = said_on_loading(turned, ONE)
    assert len(said) == count
    assert all("EXIF data turn" in each and "_photograph.jpg" in each for each in said)


def test_an_image_and_a_label_of_different_shape_are_named(tmp_path):
    case = save_case(tmp_path, "a", np.zeros((20, 30), np.uint8), np.zeros((30, 20), np.uint8))
    with pytest.raises(DataError, match=r"same shape.*\(20, 30\).*\(30, 20\)") as error:
        training_set([case])
    assert "a.png" in sentence(error)


def test_corrections_of_another_shape_or_place_than_their_image_are_named(tmp_path):
    flat = save_case(tmp_path, "a", np.zeros((20, 30), np.uint8), np.zeros((20, 30), np.uint8))
    with pytest.raises(DataError, match=r"its corrections .* same shape.*\(20, 30\).*\(30, 20\)") as error:
        training_set([with_corrections(flat, np.zeros((30, 20), bool))])
    assert str(tmp_path / "corrections" / "a.png") in sentence(error)
    (case,) = write_set(tmp_path, (8, 9, 10), count=1)
    case = with_corrections(case, np.zeros((8, 9, 10), bool))
    nibabel.Nifti1Image(np.zeros((10, 9, 8), np.uint8), np.eye(4)).to_filename(case.corrections_path)
    with pytest.raises(DataError, match="its corrections must lie in the same place") as error:
        training_set([case], ndim=3)
    assert str(case.corrections_path) in sentence(error)


@pytest.mark.parametrize(
    ("labels", "advice"),
    [
        (LabelConfig(class_names=("one",)), "labels.class_names"),
        (LabelConfig(class_names=("one", "two")), "labels.ignore_label"),
    ],
)
def test_labels_outside_the_classes_are_named_with_what_to_do(tmp_path, labels, advice):
    with pytest.raises(DataError, match=advice) as error:
        training_set(write_set(tmp_path, (20, 30)), labels=labels)
    assert "case0.png" in sentence(error) and "255" in str(error.value)


def test_instance_maps_can_be_read_as_one_class(tmp_path):
    labels = np.arange(400, dtype=np.uint16).reshape(20, 20) % 37
    case = save_case(tmp_path, "cells", np.zeros((20, 20), np.uint8), labels)
    batch = training_set([case], labels=LabelConfig(class_names=("cell",), instances=True))[0]
    assert set(batch.classes.unique().tolist()) == {0, 1}


def test_a_label_map_without_any_labelled_voxel_is_named(tmp_path):
    case = save_case(tmp_path, "empty", np.zeros((20, 20), np.uint8), np.full((20, 20), 255, np.uint8))
    with pytest.raises(DataError, match=r"empty\.png.*ignore label 255") as error:
        training_set([case])
    assert sentence(error)


ONE = LabelConfig(class_names=("disc",))
SPOT = np.pad(np.ones((5, 5), np.uint8), 8)


def write_masks(folder: Path, *maps: np.ndarray) -> list[Case]:
    """A case for each label map, of an image that shows it."""
    return [
        save_case(folder, f"mask{number}", 100 * (labels > 0).astype(np.uint8), labels)
        for number, labels in enumerate(maps)
    ]


def said_on_loading(cases: Sequence[Case], labels: LabelConfig, **batch: Any) -> list[str]:
    data = training_set(cases, load=False, labels=labels, batch=batch)
    return [report.message for report in data.load() if isinstance(report, Notice)]


@pytest.mark.parametrize("white", [255, 65535])
def test_masks_of_black_and_white_are_the_only_class_and_that_is_said_once(tmp_path, white):
    masks = [SPOT, 0 * SPOT, np.uint16(white) * SPOT, np.full((21, 21), white, np.uint16)]
    cases = write_masks(tmp_path, *masks)
    (said,) = said_on_loading(cases, ONE)
    assert said == f"Label files hold 0 and {white}, and one class is named: {white} is read as disc."
    for case, mask in zip(cases, masks, strict=True):
        assert np.array_equal(read_labelled(case, 2, ONE).labels.array, mask > 0)


def test_masks_of_black_and_white_with_several_classes_are_refused_without_advice_to_ignore_them(tmp_path):
    cases = write_masks(tmp_path, 255 * SPOT)
    with pytest.raises(
        DataError, match="a mask of 0 and 255, and 2 classes are named: name a single"
    ) as error:
        said_on_loading(cases, LabelConfig(class_names=("one", "two")))
    assert "ignore" not in str(error.value)


@pytest.mark.parametrize(
    ("labels", "is_mixed"), [(128 * SPOT, False), (128 * SPOT + np.eye(21, dtype=np.uint8), True)]
)
def test_to_ignore_a_number_is_advised_only_where_another_marks_a_class(tmp_path, labels, is_mixed):
    with pytest.raises(DataError, match=r"\(128.*set labels\.instances") as error:
        said_on_loading(write_masks(tmp_path, labels), ONE)
    assert ("set labels.ignore_label" in str(error.value)) == is_mixed


def test_the_ignore_label_is_no_foreground_even_where_it_is_white(tmp_path):
    sparse = LabelConfig(class_names=("disc",), ignore_label=255)
    scribbles, background = 255 - 254 * SPOT, 255 * SPOT
    assert said_on_loading(write_masks(tmp_path, scribbles, background), sparse) == []


def test_a_class_without_a_voxel_is_named_before_the_training(tmp_path):
    labels = LabelConfig(class_names=("one", "two", "three"))
    (said,) = said_on_loading(write_masks(tmp_path, 2 * SPOT, 0 * SPOT), labels)
    assert said.startswith("No training case of 2 holds a voxel of one or three, which cannot be learned")


def test_a_class_is_looked_for_in_cases_that_do_not_fit_into_memory(tmp_path):
    labels = LabelConfig(class_names=("one", "two"))
    cases = write_masks(tmp_path, SPOT, SPOT, 2 * SPOT)
    assert said_on_loading(cases, labels, memory_gb=1e-9) == []
    assert "voxel of two," in said_on_loading(cases[:2], labels, memory_gb=1e-9)[0]


@pytest.mark.parametrize(
    ("number", "ignored", "remedy"),
    [
        (0, None, "mark what is to be learned"),
        (255, 255, r"they hold only 255, .* leave labels\.ignore_label out"),
    ],
)
def test_a_training_without_a_voxel_of_any_class_is_refused(tmp_path, number, ignored, remedy):
    cases = write_masks(tmp_path, number * SPOT, number * SPOT)
    with pytest.raises(DataError, match=f"No training case of 2 holds a voxel of disc: .*{remedy}"):
        said_on_loading(cases, LabelConfig(class_names=("disc",), ignore_label=ignored))
