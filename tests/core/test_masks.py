"""Laws of whole masks: their classes are those of the labels, and what is not judged teaches nothing."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

from swipe_core.coordinates import image_to_voxel, voxel_centres, voxel_to_image
from swipe_core.data import dataset
from swipe_core.data.augmentation import AugmentationConfig
from swipe_core.data.batch import Batch, class_map_of
from swipe_core.data.cases import Case, find_cases
from swipe_core.data.dataset import BatchConfig, TrainingSet
from swipe_core.data.labels import LabelConfig
from swipe_core.data.preprocessing import PreprocessingConfig
from swipe_core.data.sampling import SamplingConfig
from swipe_core.errors import ConfigError
from swipe_core.networks import registry as networks
from swipe_core.networks.config import NetworkConfig
from swipe_core.networks.layers import convolution
from swipe_core.networks.segmenter import Prediction, RasterSegmenter
from swipe_core.progress import finish
from swipe_core.training import footprint as training_footprint
from swipe_core.training import losses
from swipe_core.training import structure_loss as module
from swipe_core.training.folder import RunFolder
from swipe_core.training.footprint import check_memory, saved_bytes
from swipe_core.training.learner import Learner
from swipe_core.training.losses import (
    LossConfig,
    occupancy_sums,
    swipe_loss,
)
from swipe_core.training.runner import Trainer
from swipe_core.training.structure_loss import structure_loss

MOVING = AugmentationConfig(
    flip=0.5, rotation=1, rotation_degrees=60, scale=1, scale_range=(0.7, 1.4), colour=0
)
FLIPS = AugmentationConfig(flip=0.5, rotation=0, colour=0)
LABELS = LabelConfig(class_names=("ellipse", "box"), ignore_label=255)
SHAPES = [pytest.param((40, 53), id="2D"), pytest.param((14, 20, 18), id="3D")]
GEOMETRIES = [
    pytest.param((40, 53), {}, id="2D-whole"),
    pytest.param((40, 53), {"size": (33, 64)}, id="2D-resized"),
    pytest.param((40, 53), {"crop_size": (24, 32)}, id="2D-crop"),
    pytest.param((40, 53), {"crop_size": (64, 32)}, id="2D-crop-and-pad"),
    pytest.param((14, 20, 18), {}, id="3D-whole"),
    pytest.param((14, 20, 18), {"crop_size": (12, 24, 10)}, id="3D-crop-and-pad"),
    pytest.param((20, 36, 40), {"spacing": (1.0, 1.5, 2.0)}, id="3D-respaced"),
]


def true_classes(shape: Sequence[int]) -> np.ndarray:
    """Background, an ellipse of class 1 and a box of class 2, different along every axis."""
    position = [(i + 0.5) / n for i, n in zip(np.indices(shape), shape, strict=True)]
    centre = (0.35, 0.35, 0.45)[: len(shape)]
    ellipse = sum((p - c) ** 2 for p, c in zip(position, centre, strict=True)) < 0.25**2
    box = np.all([(p > 0.55) & (p < 0.95) for p in position], axis=0)
    return np.where(box, 2, ellipse).astype(np.uint8)


def with_gap(shape: Sequence[int]) -> np.ndarray:
    """The true classes, but for an unlabelled slab that runs through all of them."""
    return np.where(np.abs(np.indices(shape)[0] - 0.6 * shape[0]) < 2, 255, true_classes(shape))


def save_array(path: Path, array: np.ndarray) -> Path:
    """As PNG in 2D, as NIfTI with a spacing of 1 in 3D; the suffix is added."""
    path = path.with_suffix(".png" if array.ndim == 2 else ".nii.gz")
    path.parent.mkdir(parents=True, exist_ok=True)
    if array.ndim == 2:
        Image.fromarray(array).save(path)
    else:
        nibabel.Nifti1Image(array.T, np.eye(4)).to_filename(path)
    return path


def save_case(folder: Path, labels: np.ndarray, name: str = "one", image: np.ndarray | None = None) -> Case:
    """A case whose intensities are its true classes, or are given."""
    image = true_classes(labels.shape) if image is None else image
    labels = labels.astype(np.uint8)
    return Case(name, save_array(folder / "i" / name, image), save_array(folder / "l" / name, labels))


def masks_of(
    cases: Sequence[Case],
    *,
    augmentation: AugmentationConfig | None = None,
    batch: Mapping[str, Any] | None = None,
    seed: int = 0,
    load: bool = True,
    **preprocessing: Any,
) -> TrainingSet:
    """Batches of two whole masks, in the intensities of the files (0 to 2 as 0 to 1)."""
    ndim = 2 if cases[0].image_path.suffix == ".png" else 3
    settings = {"ndim": ndim, "channels": 1, "intensity": "window", "window": (0.0, 2.0)} | preprocessing
    result = TrainingSet(
        cases,
        preprocessing=PreprocessingConfig(**settings),
        labels=LABELS,
        sampling=SamplingConfig(foreground_points=200, background_points=200, boundary_width=3.0),
        augmentation=augmentation,
        batch=BatchConfig(**({"size": 2, "supervision": "masks"} | dict(batch or {}))),
        seed=seed,
    )
    if load:
        list(result.load())
    return result


def as_maps(batch: Batch) -> np.ndarray:
    """The classes on the lattice of the images."""
    assert batch.lattice is not None
    return batch.classes.unflatten(1, batch.lattice).numpy()


def judged(labels: np.ndarray) -> np.ndarray:
    return np.where(labels == 255, -1, labels.astype(int))


def assert_same(first: Batch, second: Batch) -> None:
    assert first.lattice == second.lattice and first.names == second.names
    for field in dataclasses.fields(Batch):
        one, two = getattr(first, field.name), getattr(second, field.name)
        assert one is two or field.name in ("names", "lattice") or torch.equal(one, two), field.name


# --- The classes of a mask ----------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES)
def test_without_augmentation_and_at_equal_resolution_the_classes_are_the_label_map(tmp_path, shape):
    batch = masks_of([save_case(tmp_path, with_gap(shape))])[0]
    assert batch.lattice == shape and set(batch.classes.unique().tolist()) == {-1, 0, 1, 2}
    for found in as_maps(batch):
        np.testing.assert_array_equal(found, judged(with_gap(shape)))


@pytest.mark.parametrize("shape", SHAPES)
def test_the_points_are_the_centres_of_all_voxels_in_c_order(tmp_path, shape):
    batch = masks_of([save_case(tmp_path, with_gap(shape))])[0]
    centres = torch.from_numpy(voxel_to_image(voxel_centres(shape), shape)).float()
    for points in (*batch.points_image, *batch.points_source):
        torch.testing.assert_close(points, centres)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_crop_or_flip_has_the_classes_that_its_own_voxels_had(tmp_path, shape):
    """Every voxel of the image has an intensity of its own, by which it is found again."""
    numbers = np.random.default_rng(0).permutation(math.prod(shape)).reshape(shape)
    folder, labels = tmp_path, with_gap(shape)
    case = Case("one", folder / "image.tif", save_array(folder / "labels", labels.astype(np.uint8)))
    if len(shape) == 2:
        Image.fromarray(numbers.astype(np.float32)).save(case.image_path)
    else:
        case = dataclasses.replace(case, image_path=save_array(folder / "image", numbers.astype(np.float32)))
    crop = tuple(n // 2 for n in shape)
    settings = {"ndim": len(shape), "window": (0.0, float(numbers.size)), "crop_size": crop}
    data = masks_of([case], augmentation=FLIPS, batch={"size": 6}, **settings)
    batch = data[0]
    found = (batch.images[:, 0].double() * numbers.size).round().long().numpy()
    expected = judged(labels).ravel()[np.argsort(numbers.ravel())][found]
    np.testing.assert_array_equal(as_maps(batch), expected)
    assert len({image.numpy().tobytes() for image in batch.images}) == 6


@pytest.mark.parametrize(("shape", "geometry"), GEOMETRIES)
def test_the_class_of_a_voxel_is_that_of_the_label_voxel_that_holds_it_and_outside_there_is_none(
    tmp_path, shape, geometry
):
    labels = judged(with_gap(shape))
    data = masks_of([save_case(tmp_path, with_gap(shape))], augmentation=MOVING, **geometry)
    outside, seen = 0, set()
    for step in range(3):
        batch = data[step]
        position = image_to_voxel(batch.points_source.double().numpy(), shape)
        index = np.floor(position + 0.5).astype(int)
        inside = ((index >= 0) & (index < shape)).all(axis=-1)
        held = labels[tuple(np.moveaxis(index.clip(0, np.array(shape) - 1), -1, 0))]
        # Single precision may put a point on the other side of a border that it lies on.
        clear = (np.abs(position + 0.5 - np.rint(position + 0.5)) > 1e-3).all(axis=-1)
        assert clear.mean() > 0.95
        expected = np.where(inside, held, -1)
        np.testing.assert_array_equal(batch.classes.numpy()[clear], expected[clear])
        outside += int((~inside).sum())
        seen |= set(batch.classes.unique().tolist())
    assert outside > 0 and seen == {-1, 0, 1, 2}


@pytest.mark.parametrize(("shape", "geometry"), GEOMETRIES)
def test_the_image_at_a_voxel_shows_the_class_of_the_voxel_whatever_the_augmentation(
    tmp_path, shape, geometry
):
    classes = true_classes(shape)
    data = masks_of([save_case(tmp_path, classes)], augmentation=MOVING, batch={"size": 4}, **geometry)
    checked = 0
    for step in range(2):
        batch = data[step]
        for found, image in zip(as_maps(batch), batch.images[:, 0].numpy(), strict=True):
            # Inside of a class, where no other is mixed in.
            most, least = (
                of_window(found, 5, mode="constant", cval=9)
                for of_window in (ndimage.maximum_filter, ndimage.minimum_filter)
            )
            inner = (most == least) & (found >= 0)
            np.testing.assert_array_equal(np.rint(2 * image[inner]), found[inner])
            checked += int(inner.sum())
    assert checked > 300


def test_where_a_crop_reaches_beyond_the_image_nothing_is_judged(tmp_path):
    labels = true_classes((20, 30))
    batch = masks_of([save_case(tmp_path, labels)], crop_size=(26, 34))[0]
    for found in as_maps(batch):
        rows, columns = np.nonzero(found >= 0)
        assert len(rows) == labels.size
        block = found[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
        np.testing.assert_array_equal(block, labels)


@pytest.mark.parametrize("factor", [2, 3])
def test_label_maps_finer_than_the_image_give_the_voxel_at_the_centre(tmp_path, factor):
    """Of two on either side of the centre the further one, in all rows and columns alike."""
    shape = (93, 24)
    fine = np.random.default_rng(0).integers(0, 3, tuple(factor * n for n in shape))
    batch = masks_of([save_case(tmp_path, fine, image=fine.astype(np.uint8))], size=shape)[0]
    for found in as_maps(batch):
        np.testing.assert_array_equal(found, fine[factor // 2 :: factor, factor // 2 :: factor])


def test_label_maps_coarser_than_the_image_are_repeated(tmp_path):
    coarse = np.random.default_rng(0).integers(0, 3, (7, 9))
    batch = masks_of([save_case(tmp_path, coarse, image=coarse.astype(np.uint8))], size=(21, 36))[0]
    for found in as_maps(batch):
        np.testing.assert_array_equal(found, coarse.repeat(3, axis=0).repeat(4, axis=1))


@pytest.mark.parametrize("classes", [2, 128, 129, 256])
def test_a_class_map_holds_every_class_and_what_is_unlabelled(classes):
    config = LabelConfig(class_names=tuple(f"class {n}" for n in range(1, classes)), ignore_label=999)
    labels = np.array([*range(classes), 999], np.uint16)
    assert class_map_of(labels, config).tolist() == [*range(classes), -1]


def test_corrections_change_no_mask(tmp_path):
    case = save_case(tmp_path, with_gap((40, 53)))
    marks = save_array(tmp_path / "marks", np.full((40, 53), 3, np.uint8))
    corrected = dataclasses.replace(case, corrections_path=marks)
    settings = {"augmentation": MOVING}
    assert_same(masks_of([case], **settings)[0], masks_of([corrected], **settings)[0])


def test_a_crop_that_meets_no_label_is_moved_to_one(tmp_path):
    labels = np.full((80, 80), 255)
    labels[3:5, 3:5] = 1
    case = save_case(tmp_path, labels)
    data = masks_of(
        [case], augmentation=MOVING, crop_size=(16, 16), batch={"size": 8, "foreground_probability": 0.0}
    )
    assert ((data[0].classes == 1).sum(dim=1) > 0).all()


# --- Batches ------------------------------------------------------------------------------------


def two_cases(folder: Path) -> list[Case]:
    labels = with_gap((40, 53))
    mirrored = np.ascontiguousarray(true_classes((40, 53))[::-1])
    return [save_case(folder, labels), save_case(folder, labels[::-1], "two", mirrored)]


def test_a_batch_is_a_function_of_seed_and_step_alone(tmp_path):
    cases = two_cases(tmp_path)
    settings: dict[str, Any] = {"augmentation": MOVING, "crop_size": (24, 24)}
    first, again, other = (masks_of(cases, seed=s, **settings) for s in (0, 0, 1))
    again[3]
    for step in (1, 0):
        assert_same(first[step], again[step])
    for batch in (first[1], other[0]):
        assert not torch.equal(batch.classes, first[0].classes)


def test_masks_are_of_the_very_crops_that_points_are_drawn_in(tmp_path):
    cases = two_cases(tmp_path)
    settings: dict[str, Any] = {"augmentation": MOVING, "crop_size": (24, 24)}
    whole = masks_of(cases, **settings)[0]
    drawn = masks_of(cases, batch={"supervision": "points"}, **settings)[0]
    assert torch.equal(whole.images, drawn.images)
    assert drawn.lattice is None and (drawn.classes >= 0).all()


def test_two_workers_and_cases_that_are_not_held_give_the_same_batches(tmp_path):
    cases = two_cases(tmp_path)
    settings: dict[str, Any] = {"augmentation": MOVING, "crop_size": (24, 24)}
    held = masks_of(cases, **settings)
    lazy = masks_of(cases, batch={"memory_gb": 1e-9}, load=False, **settings)
    for step, batch in enumerate(lazy.loader(0, 3, workers=2, pin_memory=False)):
        assert_same(batch, held[step])


@pytest.mark.parametrize(
    ("supervision", "bytes_per_voxel", "reads"), [("points", 4, 0), ("masks", 4, 1), ("masks", 5, 0)]
)
def test_memory_counts_the_labels_of_masks_with_the_images(
    tmp_path, monkeypatch, supervision, bytes_per_voxel, reads
):
    """Two images of 4 bytes a voxel, and of masks one byte more; what did not fit is read again."""
    memory = (2 * 40 * 53 * bytes_per_voxel + 1) / 2**30
    data = masks_of(two_cases(tmp_path), batch={"memory_gb": memory, "supervision": supervision})
    count = 0

    def counted(*arguments, **options):
        nonlocal count
        count += 1
        return read(*arguments, **options)

    read = dataset.read_labelled
    monkeypatch.setattr(dataset, "read_labelled", counted)
    data[0]
    assert count == reads


def test_split_and_joined_again_a_batch_is_the_same_and_every_part_has_its_lattice(tmp_path):
    batch = masks_of(two_cases(tmp_path), batch={"size": 5, "pairs": 3})[0]
    parts = batch.split(2)
    assert [len(part) for part in parts] == [3, 2]
    assert all(part.lattice == part.to(torch.device("cpu")).lattice == (40, 53) for part in parts)
    assert_same(Batch.join(parts), batch)


# --- What is not judged -------------------------------------------------------------------------


def occupancy_loss(logits, classes, cross_entropy_weight=0.5, all_judged=True):
    return losses.occupancy_loss(occupancy_sums(logits, classes, all_judged), cross_entropy_weight)


def cross_entropy_loss(logits, classes, all_judged=True):
    return occupancy_loss(logits, classes, 1.0, all_judged)


def dice_loss(logits, classes, all_judged=True):
    return occupancy_loss(logits, classes, 0.0, all_judged)


def random_masks(
    lattice: Sequence[int] = (6, 5), classes: int = 4, least: int = -1, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """Logits and classes of two masks, in C order."""
    generator = torch.Generator().manual_seed(seed)
    points = math.prod(lattice)
    logits = torch.randn(2, points, classes, generator=generator)
    return logits, torch.randint(least, classes, (2, points), generator=generator)


@pytest.mark.parametrize(
    "loss", [cross_entropy_loss, dice_loss, lambda *a: occupancy_loss(*a[:2], 0.3, *a[2:])]
)
def test_points_that_are_not_judged_are_as_good_as_absent(loss):
    logits, classes = random_masks()
    kept = classes >= 0
    whole, part = logits.clone().requires_grad_(), logits[kept].requires_grad_()
    of_whole, of_part = loss(whole, classes, False), loss(part, classes[kept])
    assert of_whole.item() == pytest.approx(of_part.item(), rel=1e-6)
    of_whole.backward()
    of_part.backward()
    torch.testing.assert_close(whole.grad[kept], part.grad)
    assert not whole.grad[~kept].any() and part.grad.any()


def test_where_all_is_judged_masks_cost_what_points_do():
    logits, classes = random_masks(least=0)
    as_points, as_masks = (swipe_loss(Prediction(logits), classes, LossConfig(), at) for at in (None, (6, 5)))
    assert as_masks.total.item() == pytest.approx(as_points.total.item(), rel=1e-6)
    assert torch.equal(
        cross_entropy_loss(logits, classes), functional.cross_entropy(logits.flatten(0, 1), classes.flatten())
    )


def full_prediction(lattice: Sequence[int] = (6, 5)) -> Prediction:
    """All that a network may say at the voxels of two masks, but for embeddings."""
    patch, image, one, two, *sides = (random_masks(lattice, seed=s)[0].requires_grad_() for s in range(6))
    return Prediction(patch, image, torch.stack([one, two], dim=2), sides=tuple(sides))


def test_overreaching_answers_about_points_that_are_not_judged_cost_nothing():
    _, classes = random_masks()
    prediction, kept = full_prediction(), classes >= 0
    terms = swipe_loss(prediction, classes, LossConfig(), (6, 5))
    neighbour_classes = classes[..., None].expand(-1, -1, 2)
    by_hand = occupancy_loss(prediction.overreach[kept], neighbour_classes[kept])
    assert terms.overreach.item() == pytest.approx(by_hand.item(), rel=1e-6)


@pytest.mark.parametrize("kind", ["occupancy", "structure"])
def test_a_batch_in_which_nothing_is_judged_costs_nothing_and_teaches_nothing(kind):
    prediction, classes = full_prediction(), torch.full((2, 30), -1)
    terms = swipe_loss(prediction, classes, LossConfig(kind=kind), (6, 5))
    terms.total.backward()
    assert terms.as_floats() == dict.fromkeys(("total", "patch", "image", "overreach", "sides"), 0)
    for leaf in (prediction.patch, prediction.image, *prediction.sides):
        assert torch.equal(leaf.grad, torch.zeros_like(leaf))


# --- Side outputs -------------------------------------------------------------------------------


@pytest.mark.parametrize("lattice", [None, (6, 5)])
def test_every_side_output_adds_its_own_loss(lattice):
    prediction = full_prediction()
    _, classes = random_masks(least=0 if lattice is None else -1)
    config, all_judged = LossConfig(alpha=0.3), lattice is None
    with_sides = swipe_loss(prediction, classes, config, lattice)
    without = swipe_loss(dataclasses.replace(prediction, sides=()), classes, config, lattice)
    by_hand = sum(occupancy_loss(side, classes, 0.5, all_judged).item() for side in prediction.sides)
    assert with_sides.as_floats()["sides"] == pytest.approx(by_hand)
    assert with_sides.total.item() == pytest.approx(without.total.item() + by_hand)
    assert "sides" not in without.as_floats()


# --- The structure loss -------------------------------------------------------------------------


def structure_by_hand(logits: Tensor, classes: Tensor, reach: int) -> float:
    """Voxel by voxel, in double precision."""
    lattice, count = classes.shape[1:], logits.shape[-1]
    every = list(itertools.product(*map(range, lattice)))
    terms = []
    for row, klass in itertools.product(range(len(classes)), range(1, count)):
        mask = {v: float(classes[(row, *v)] == klass) for v in every if classes[(row, *v)] >= 0}
        weighed = entropy = overlap = union = 0.0
        for voxel, inside in mask.items():
            window = [
                m for v, m in mask.items() if all(abs(a - b) <= reach for a, b in zip(v, voxel, strict=True))
            ]
            weight = 1 + 5 * abs(sum(window) / len(window) - inside)
            p = float(logits[(row, *voxel)].double().softmax(dim=-1)[klass])
            weighed += weight
            entropy -= weight * math.log(p if inside else 1 - p)
            overlap += weight * p * inside
            union += weight * (p + inside - p * inside)
        terms.append(entropy / weighed + 1 - (overlap + 1) / (union + 1))
    return sum(terms) / len(terms)


@pytest.mark.parametrize("lattice", [(6, 5), (4, 3, 5)])
@pytest.mark.parametrize(("classes", "window"), [(2, 31), (4, 31), (4, 3)])
@pytest.mark.parametrize("least", [0, -1])
def test_the_structure_loss_by_hand(monkeypatch, lattice, classes, window, least):
    monkeypatch.setattr(module, "BOUNDARY_WINDOW", window)
    logits, wanted = (part.unflatten(1, lattice) for part in random_masks(lattice, classes, least))
    by_hand = structure_by_hand(logits, wanted, window // 2)
    assert structure_loss(logits, wanted).item() == pytest.approx(by_hand, rel=1e-5)


@pytest.mark.parametrize("lattice", [(40, 50), (10, 40, 12)])
def test_a_perfect_prediction_costs_nearly_nothing_and_its_opposite_much(lattice):
    classes = torch.from_numpy(true_classes(lattice)).long()[None]
    logits = 20.0 * functional.one_hot(classes, 3)
    assert 0 <= structure_loss(logits, classes).item() < 1e-4
    assert structure_loss(-logits, classes).item() > 5


def test_an_error_costs_more_at_a_boundary_than_far_from_it():
    classes = torch.zeros(1, 100, 100, dtype=torch.long)
    classes[:, :, 50:] = 1
    right = 4.0 * functional.one_hot(classes, 2)

    def cost_of_error_at(column: int) -> float:
        wrong = right.clone()
        wrong[:, 40:60, column] = right[:, 40:60, column].flip(-1)
        return float(structure_loss(wrong, classes) - structure_loss(right, classes))

    far, nearer, at_boundary = map(cost_of_error_at, (20, 40, 49))
    assert far < nearer < at_boundary
    # In the columns beside the boundary about half of the window is of the other class.
    assert at_boundary > 2 * far


def test_the_structure_loss_of_a_batch_is_the_mean_over_its_masks():
    logits, classes = (part.unflatten(1, (6, 5)) for part in random_masks())
    alone = [structure_loss(logits[n : n + 1], classes[n : n + 1]).item() for n in range(2)]
    assert structure_loss(logits, classes).item() == pytest.approx(sum(alone) / 2)
    assert alone[0] != pytest.approx(alone[1], rel=1e-3)


@pytest.mark.parametrize("scale", [1e3, -1e4, 1e30])
def test_the_structure_loss_has_finite_gradients_of_extreme_logits(scale):
    logits, classes = (part.unflatten(1, (6, 5)) for part in random_masks())
    logits = (scale * logits).requires_grad_()
    loss = structure_loss(logits, classes)
    loss.backward()
    assert loss.isfinite() and logits.grad.isfinite().all()


def test_with_the_structure_loss_all_answers_cost_it():
    lattice, prediction = (3, 2, 5), full_prediction((3, 2, 5))
    _, classes = random_masks(lattice)
    terms = swipe_loss(prediction, classes, LossConfig(kind="structure"), lattice).as_floats()

    def cost(logits: Tensor) -> float:
        return structure_loss(logits.unflatten(1, lattice), classes.unflatten(1, lattice)).item()

    assert terms["patch"] == pytest.approx(cost(prediction.patch))
    assert terms["image"] == pytest.approx(cost(prediction.image))
    assert terms["overreach"] == pytest.approx(sum(map(cost, prediction.overreach.unbind(dim=2))) / 2)
    assert terms["sides"] == pytest.approx(sum(map(cost, prediction.sides)))


# --- Configurations and memory ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "remedy"),
    [
        ({"loss.kind": "structure"}, "set batch.supervision to masks, or loss.kind to occupancy"),
        (
            {"loss.retention_weight": 1.0, "batch.supervision": "masks", "batch.pairs": 8},
            "set batch.supervision to points, or loss.retention_weight to 0",
        ),
    ],
)
def test_a_loss_that_the_supervision_cannot_give_is_refused_with_what_helps(tiny_config, changes, remedy):
    with pytest.raises(ConfigError) as caught:
        tiny_config(changes)
    assert remedy in str(caught.value) and "\n" not in str(caught.value)


def test_what_masks_keep_for_the_backward_pass_is_that_of_as_many_points(tiny_config):
    masks, small, many = (
        saved_bytes(tiny_config(changes), (32, 32), 1)
        for changes in ({"batch.supervision": "masks"}, {"batch.points": 32}, {"batch.points": 32 * 32})
    )
    assert masks == pytest.approx(many, rel=0.05)
    assert masks > 2 * small
    assert saved_bytes(tiny_config({"batch.supervision": "masks", "batch.points": 9}), (32, 32), 1) == masks


def test_the_memory_that_is_held_counts_the_labels_of_masks(tiny_config, disc_folder, monkeypatch):
    held = []

    def noted(config, shape, cases, half_precision):
        held.append(cases)
        return footprint(config, shape, cases, half_precision)

    footprint = training_footprint.footprint
    monkeypatch.setattr(training_footprint, "footprint", noted)
    monkeypatch.setattr(training_footprint, "free_memory", lambda: 2**28)
    for supervision in ("points", "masks"):
        check_memory(tiny_config({"batch.supervision": supervision}), find_cases(disc_folder, "train"), False)
    assert held == [32 * 32 * 4, 32 * 32 * 5]


def test_a_network_is_asked_once_about_each_point_but_for_what_reaches_over(tiny_config):
    assert tiny_config({"model.overreach": 3}).model.answers_per_point == 4
    assert NetworkConfig(network="any").answers_per_point == 1


# --- Training -----------------------------------------------------------------------------------


class OneConvolution(RasterSegmenter):
    """The smallest network with an answer per voxel; while it trains, one more on a coarser lattice."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__(config.ndim, config.channels, config.classes)
        self.last, self.side = (
            convolution(config.ndim, config.channels, config.classes, 5, bias=True) for _ in range(2)
        )

    def padded_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        return tuple(shape)

    def logit_maps(self, images: Tensor) -> list[Tensor]:
        sides = [functional.avg_pool2d(self.side(images), 2)] if self.training else []
        return [self.last(images), *sides]


@pytest.fixture
def one_convolution(monkeypatch) -> None:
    """Every network that is built is one convolution."""
    kind = dataclasses.replace(networks.KINDS[networks.SWIPE], build=OneConvolution)
    monkeypatch.setitem(networks.KINDS, networks.SWIPE, kind)


MASKS = {"batch.supervision": "masks", "batch.size": 2}


@pytest.mark.parametrize("kind", ["occupancy", "structure"])
def test_one_convolution_learns_a_disc_from_masks(tmp_path, tiny_config, disc_folder, one_convolution, kind):
    cases = find_cases(disc_folder, "train")
    steps = {"training.steps": 40, "training.validate_every": 40}
    config = tiny_config(MASKS | steps | {"loss.kind": kind, "training.learning_rate": 0.1})
    result = finish(Trainer(config, cases, cases, tmp_path).run())
    records = [record["losses"] for record in RunFolder(tmp_path).records() if record["kind"] == "step"]
    assert result.best_dice > 0.95
    assert all(terms.keys() == {"total", "patch", "sides"} for terms in records)
    assert records[-1]["total"] < 0.5 * records[0]["total"]
    assert records[0]["total"] == pytest.approx(records[0]["patch"] + records[0]["sides"], abs=1e-5)


def test_a_network_of_patches_learns_from_masks_with_pairs_besides(tmp_path, tiny_config, disc_folder):
    changes = {"batch.pairs": 16, "loss.likeness_weight": 0.5, "training.steps": 2}
    config = tiny_config(MASKS | changes)
    assert finish(Trainer(config, find_cases(disc_folder, "train"), [], tmp_path).run()).finished
    (first, *_) = [record for record in RunFolder(tmp_path).records() if record["kind"] == "step"]
    names = {"total", "patch", "image", "overreach", "embedding", "likeness"}
    assert first["losses"].keys() == names and all(map(math.isfinite, first["losses"].values()))


def gradient_of(config: Any, batch: Batch) -> tuple[Tensor, dict[str, float]]:
    learner = Learner(config, torch.device("cpu"))
    learned = learner.learn(batch, 0, 0.0)
    assert learned.losses is not None
    weights = [p.grad.flatten() for p in learner.model.parameters() if p.grad is not None]
    return torch.cat(weights), learned.losses


@pytest.mark.parametrize("kind", ["occupancy", "structure"])
@pytest.mark.parametrize("least", [0, -1, -9], ids=["all-judged", "some", "few"])
def test_accumulating_over_parts_of_masks_is_the_same_step(tiny_config, one_convolution, kind, least):
    generator = torch.Generator().manual_seed(0)
    centres = torch.from_numpy(voxel_to_image(voxel_centres((12, 10)), (12, 10))).float()
    centres = centres.expand(4, -1, -1)
    classes = torch.randint(least, 2, (4, 120), generator=generator).clamp(min=-1)
    classes[1:3] = classes[1:3].clamp(max=0)  # in some parts there is nothing, and no two judge as much
    images, none = torch.rand(4, 1, 12, 10, generator=generator), torch.zeros(4, 0, 2, 2)
    batch = dataset.Batch(
        images, centres, centres, classes, none, none, tuple("abcd"), tuple(images.shape[2:])
    )
    found = []
    for parts in (1, 2, 4):
        changes = {"training.accumulate": parts, "training.clip_norm": 1e6, "loss.kind": kind}
        found.append(gradient_of(tiny_config(MASKS | changes), batch))
    (whole, terms), *accumulated = found
    for gradient, of_parts in accumulated:
        assert (gradient - whole).norm() < 1e-5 * whole.norm()
        assert of_parts == pytest.approx(terms, rel=1e-5)


def test_a_step_on_masks_without_any_label_is_finite_and_moves_nothing(tiny_config, one_convolution):
    centres = torch.from_numpy(voxel_to_image(voxel_centres((8, 8)), (8, 8))).float()[None]
    none, classes = torch.zeros(1, 0, 2, 2), torch.full((1, 64), -1)
    batch = dataset.Batch(torch.rand(1, 1, 8, 8), centres, centres, classes, none, none, ("empty",), (8, 8))
    gradient, terms = gradient_of(tiny_config(MASKS), batch)
    assert terms == {"total": 0, "patch": 0, "sides": 0} and not gradient.any()
