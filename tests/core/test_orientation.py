"""A model of anatomy sees every volume as its training volumes lay, whatever the order of axes in a file."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from nibabel.orientations import aff2axcodes, axcodes2ornt, io_orientation, ornt_transform
from scipy.spatial.transform import Rotation
from stored_in_memory import stored_in_memory

from swipe_core.checkpoints.file import load_checkpoint, save_checkpoint
from swipe_core.checkpoints.header import describe_checkpoint
from swipe_core.checkpoints.library import find_checkpoint
from swipe_core.coordinates import Affine
from swipe_core.data.cases import Case, find_cases
from swipe_core.data.dataset import TrainingSet
from swipe_core.data.labelled import LabelledImage, read_labelled
from swipe_core.data.labels import LabelConfig
from swipe_core.data.preprocessing import PreprocessingConfig, preprocess
from swipe_core.errors import ConfigError
from swipe_core.evaluation.evaluate import evaluate
from swipe_core.images import LabelMap, MedicalImage, Space, read_image, write_image
from swipe_core.images.medical_image import reversed_axes
from swipe_core.images.orientation import is_orientation, orientation_of
from swipe_core.prediction.block_renderer import BlockRenderer
from swipe_core.prediction.large_plan import iter_plan_large
from swipe_core.prediction.predictor import Predictor
from swipe_core.prediction.request import Request
from swipe_core.progress import Notice, finish
from swipe_core.samples import SAMPLES
from swipe_core.training.config import ExperimentConfig
from swipe_core.training.runner import Trainer
from swipe_core.training.suggestion import summarise

ALL = [
    "".join(letters)
    for axes in itertools.permutations(("LR", "PA", "IS"))
    for letters in itertools.product(*axes)
]
SOME = ["LPS", "PIR", "ASL", "RPI", "SAR"]
ANATOMICAL = Space(is_anatomical=True)


def scan(shape: tuple[int, int, int] = (5, 6, 7), turn: float = 0.0) -> MedicalImage:
    """A volume in the orientation RAS whose every voxel has a value of its own, perhaps a little oblique."""
    array = np.arange(np.prod(shape), dtype=np.float32).reshape(*shape, 1)
    rotation = Rotation.from_euler("zyx", [turn, -turn, turn], degrees=True).as_matrix()
    affine = Affine.from_parts(rotation @ np.diag([3.0, 1.0, 0.5]), [10, -20, 30])
    return MedicalImage(array, affine, "millimeter", space=ANATOMICAL)


def places(image: MedicalImage) -> dict[float, tuple[float, ...]]:
    """Where in the world each value lies."""
    centres = image.grid.centres_world().round(6) + 0.0
    return dict(zip(image.array.ravel().tolist(), map(tuple, centres.tolist()), strict=True))


@pytest.fixture
def volume_predictor(volume_checkpoint: Path) -> Predictor:
    """An untrained network whose volumes have the orientation PIR, at their own spacing."""
    return predictor_with(volume_checkpoint, "PIR")


def predictor_with(path: Path, orientation: str | None) -> Predictor:
    checkpoint = load_checkpoint(path)
    preprocessing = checkpoint.content.preprocessing.model_copy(update={"orientation": orientation})
    content = checkpoint.content.model_copy(update={"preprocessing": preprocessing})
    return Predictor.load(replace(checkpoint, content=content), device="cpu")


# --- Axes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("orientation", ALL)
def test_every_voxel_keeps_its_place_in_each_of_the_48_orientations(orientation):
    image = scan(turn=20)
    turned = image.reoriented(orientation)
    assert orientation_of(turned.affine) == orientation
    assert places(turned) == places(image)
    back = turned.reoriented("RAS")
    assert np.array_equal(back.array, image.array)
    assert np.allclose(back.affine.matrix, image.affine.matrix)


@pytest.mark.parametrize("orientation", ALL)
def test_an_orientation_is_what_nibabel_calls_it(orientation):
    affine = scan(turn=25).reoriented(orientation).affine
    assert "".join(aff2axcodes(reversed_axes(affine.matrix).matrix)) == orientation


def test_only_one_side_of_each_axis_makes_an_orientation():
    assert all(map(is_orientation, ALL)) and len(set(ALL)) == 48
    assert not any(map(is_orientation, ("", "RA", "RASS", "RLS", "RAX", "ras")))


@pytest.mark.parametrize("orientation", ["RLS", "left", "RA"])
def test_a_configuration_with_no_such_orientation_is_refused(orientation):
    with pytest.raises(ValueError, match="three letters such as RAS"):
        PreprocessingConfig(ndim=3, channels=1, orientation=orientation)
    with pytest.raises(ValueError, match="for ndim 2"):
        PreprocessingConfig(ndim=2, channels=1, orientation="RAS")


@pytest.mark.parametrize("orientation", SOME)
def test_a_part_of_a_stored_image_is_that_of_the_image_in_memory(orientation):
    image = scan()
    whole = image.reoriented(orientation)
    stored = stored_in_memory(image).window((1, 1, 1), (4, 4, 5)).reoriented(orientation)
    start = np.rint(whole.affine.inverse().apply(stored.affine.origin)).astype(int)
    part = stored.read((1, 0, 2), (2, 3, 1))
    expected = whole.window((start + (1, 0, 2)).tolist(), (2, 3, 1))
    assert np.array_equal(part.array, expected.array)
    assert np.allclose(part.affine.matrix, expected.affine.matrix)


# --- What says how axes lie ---------------------------------------------------------------------


def test_nifti_states_the_patients_axes_and_pictures_do_not(tmp_path):
    nibabel.save(nibabel.Nifti1Image(np.zeros((4, 5, 6), np.int16), np.eye(4)), tmp_path / "a.nii")
    plain = nibabel.Nifti1Image(np.zeros((4, 5, 6), np.int16), None)
    plain.header["sform_code"] = plain.header["qform_code"] = 0
    plain.to_filename(tmp_path / "none.nii")
    assert read_image(tmp_path / "a.nii").space.is_anatomical
    assert not read_image(tmp_path / "none.nii").space.is_anatomical
    assert not read_image(SAMPLES["nuclei"].image_path).space.is_anatomical


@pytest.mark.parametrize("space", [ANATOMICAL, Space()])
def test_an_image_that_is_written_as_nifti_gains_no_anatomy(tmp_path, space):
    write_image(tmp_path / "stack.nii.gz", replace(scan(), space=space))
    assert read_image(tmp_path / "stack.nii.gz").space.is_anatomical == space.is_anatomical


# --- Inference ----------------------------------------------------------------------------------


@pytest.mark.parametrize("orientation", SOME)
def test_a_network_is_given_the_same_numbers_whatever_the_order_of_axes(orientation):
    config = PreprocessingConfig(ndim=3, channels=1, spacing=(1.0, 0.5, 2.0), orientation="LPS")
    as_ras, turned = preprocess(scan(), config), preprocess(scan().reoriented(orientation), config)
    assert torch.equal(as_ras.tensor, turned.tensor)
    assert np.allclose(as_ras.affine.matrix, turned.affine.matrix)
    assert orientation_of(turned.affine) == "LPS"


@pytest.mark.parametrize("orientation", SOME[:3])
def test_labels_lie_on_the_images_own_lattice_and_are_the_same_there(volume_predictor, orientation):
    image = scan((18, 20, 24), turn=10)
    turned = image.reoriented(orientation)
    expected = volume_predictor.field(image).render(method="dense")
    labels = volume_predictor.field(turned).render(method="dense")
    assert labels.shape == turned.shape and labels.affine == turned.affine
    assert len(np.unique(expected.array)) > 1
    differing = labels.reoriented("RAS").array != expected.array
    assert differing.mean() < 1e-3  # the world is in double precision, and what it is turned to is not


@pytest.mark.parametrize("orientation", SOME[:2])
def test_block_by_block_the_labels_are_those_of_the_whole_image(volume_checkpoint, orientation):
    predictor = predictor_with(volume_checkpoint, "LPS")
    image = scan((20, 18, 24)).reoriented(orientation)
    source = stored_in_memory(image)
    plan = finish(iter_plan_large(predictor, source, Request(method="dense"), block_edge=16))
    labels = np.zeros(image.shape, np.uint8)
    renderer = BlockRenderer(predictor, source, plan)
    for piece in (piece for block in plan.blocks for piece in plan.pieces(block)):
        labels[piece.slices] = finish(renderer.iter_render(piece))
    whole = predictor.field(image).render(method="dense").array
    assert (labels != whole).mean() < 1e-3


def notices(predictor: Predictor, image: MedicalImage) -> list[str]:
    return [r.message for r in predictor.iter_field(image) if isinstance(r, Notice)]


def test_an_image_without_an_orientation_is_said_in_words_that_are_the_same_for_all(volume_predictor):
    image = replace(scan((18, 20, 24)), space=Space())
    told = notices(volume_predictor, image)
    assert told == notices(volume_predictor, replace(image, path=Path("other.tif")))
    assert len(told) == 1 and "orientation PIR" in told[0] and "as they are stored" in told[0]
    assert notices(volume_predictor, scan((18, 20, 24))) == []


def test_a_model_of_microscopy_says_nothing(volume_checkpoint):
    predictor = predictor_with(volume_checkpoint, None)
    for space in (Space(), ANATOMICAL):
        assert notices(predictor, replace(scan((18, 20, 24)), space=space)) == []


def test_a_model_of_an_earlier_version_says_that_it_does_not_know(volume_checkpoint):
    predictor = predictor_with(volume_checkpoint, "auto")
    assert len(notices(predictor, scan((18, 20, 24)))) == 1
    assert notices(predictor, replace(scan((18, 20, 24)), space=Space())) == []


def as_stored(image: nibabel.Nifti1Image, orientation: str) -> nibabel.Nifti1Image:
    change = ornt_transform(io_orientation(image.affine), axcodes2ornt(tuple(orientation)))
    return image.as_reoriented(change)


@pytest.mark.parametrize("orientation", ["LPS", "PIR"])
def test_the_hippocampus_is_found_in_every_orientation(tmp_path, orientation):
    sample = SAMPLES["hippocampus"]
    for kind, path in (("images", sample.image_path), ("labels", sample.label_path)):
        (tmp_path / kind).mkdir()
        as_stored(nibabel.load(path), orientation).to_filename(tmp_path / kind / "a.nii.gz")
    predictor = Predictor.load("hippocampus", device="cpu")
    assert predictor.content.preprocessing.orientation == "RAS"
    report = finish(evaluate(predictor, find_cases(tmp_path)))
    scores = report.cases[0].classes
    assert scores["anterior"].dice > 0.9 and scores["posterior"].dice > 0.85


# --- Training -----------------------------------------------------------------------------------


@pytest.fixture
def scans(tmp_path) -> list[Case]:
    """A ball of two classes, left and right, stored in two orientations."""
    z, y, x = np.indices((18, 20, 24))
    labels = (np.hypot(np.hypot(z - 9, y - 10), x - 12) < 7) * (1 + (x > 12))
    for name, orientation in (("a", "LPS"), ("b", "PIR")):
        for kind, array in (("images", 100 * labels), ("labels", labels)):
            (tmp_path / "data" / kind).mkdir(parents=True, exist_ok=True)
            nifti = nibabel.Nifti1Image(array.T.astype(np.uint8), np.eye(4))
            as_stored(nifti, orientation).to_filename(tmp_path / "data" / kind / f"{name}.nii.gz")
    return find_cases(tmp_path / "data")


def test_images_and_points_of_a_training_lie_in_one_orientation(scans, tiny_volume_config):
    config = tiny_volume_config
    preprocessing = config.preprocessing.model_copy(update={"orientation": "RAS"})
    batches = TrainingSet(
        scans,
        preprocessing=preprocessing,
        labels=config.labels,
        sampling=config.sampling,
        augmentation=None,
        batch=config.batch,
        seed=0,
    )
    list(batches.load())
    one, two = (batches._read(index) for index in (0, 1))
    assert torch.equal(one.image, two.image)
    for case in (one, two):
        right = case.pool.points_image[case.pool.classes == 2]
        left = case.pool.points_image[case.pool.classes == 1]
        assert (right[:, 2] > 0).all() and (left[:, 2] < 0.1).all()


def test_corrections_turn_with_their_image(scans):
    labelled = read_labelled(scans[0], 3, LabelConfig(class_names=("one", "two")))
    marked = replace(labelled, corrected=labelled.labels.array == 2)
    turned = marked.oriented("RAS")
    assert np.array_equal(turned.corrected, turned.labels.array == 2)
    assert orientation_of(turned.image.affine) == "RAS" and turned.image.affine == turned.labels.affine


def short(config: ExperimentConfig) -> ExperimentConfig:
    values = config.model_dump() | {"training": {"steps": 1, "save_minutes": 1e9}}
    return ExperimentConfig.model_validate(values)


def test_a_model_states_the_orientation_of_its_training(tmp_path, scans, tiny_volume_config):
    finish(Trainer(short(tiny_volume_config), scans, [], tmp_path / "run").run())
    content = load_checkpoint(tmp_path / "run" / "last.safetensors").content
    assert content.preprocessing.orientation == "RAS"


def test_a_model_of_images_without_an_orientation_states_none(tmp_path, tiny_volume_config):
    z, y, x = np.indices((18, 20, 24))
    labels = (np.hypot(np.hypot(z - 9, y - 10), x - 12) < 7) * (1 + (x > 12))
    for kind, array in (("images", 100 * labels), ("labels", labels)):
        (tmp_path / "data" / kind).mkdir(parents=True)
        image = MedicalImage(array[..., None].astype(np.uint8), Affine.identity(3), "micrometer")
        write_image(tmp_path / "data" / kind / "a.nii.gz", image)
    finish(Trainer(short(tiny_volume_config), find_cases(tmp_path / "data"), [], tmp_path / "run").run())
    content = load_checkpoint(tmp_path / "run" / "last.safetensors").content
    assert content.preprocessing.orientation is None


def test_a_run_of_an_earlier_version_goes_on_as_it_began(tmp_path, scans, tiny_volume_config):
    finish(Trainer(short(tiny_volume_config), scans, [], tmp_path / "run").run())
    last = tmp_path / "run" / "last.safetensors"
    checkpoint = load_checkpoint(last)
    undecided = checkpoint.content.preprocessing.model_copy(update={"orientation": "auto"})
    content = checkpoint.content.model_copy(update={"preprocessing": undecided})
    save_checkpoint(last, replace(checkpoint, content=content))
    trainer = Trainer(short(tiny_volume_config), scans, [], tmp_path / "run", resume=True)
    assert trainer.config.preprocessing.orientation == "auto"


def test_another_orientation_cannot_be_resumed_with(tmp_path, scans, tiny_volume_config):
    finish(Trainer(short(tiny_volume_config), scans, [], tmp_path / "run").run())
    values = short(tiny_volume_config).model_dump()
    values["preprocessing"]["orientation"] = "LPS"
    with pytest.raises(ConfigError, match="another preprocessing"):
        Trainer(ExperimentConfig.model_validate(values), scans, [], tmp_path / "run", resume=True)


def test_a_training_says_that_some_images_state_no_orientation(tmp_path, scans, tiny_volume_config):
    plain = replace(read_image(scans[1].image_path), space=Space())
    write_image(scans[1].image_path, plain)
    reports = list(Trainer(short(tiny_volume_config), scans, [], tmp_path / "run").run())
    told = [report.message for report in reports if isinstance(report, Notice)]
    assert sum("does not: the axes of images" in message for message in told) == 1


def test_what_is_suggested_for_volumes_goes_by_the_axes_of_the_patient():
    image = scan((10, 40, 60))
    labels = LabelMap(np.zeros(image.shape, np.uint8), image.affine, image.unit, space=ANATOMICAL)
    cases = [
        LabelledImage(name, image.reoriented(name), labels.reoriented(name)) for name in ("RAS", "PIR", "ASL")
    ]
    summary = summarise(cases)
    assert summary.shape == (10, 40, 60) and summary.spacing == pytest.approx((3.0, 1.0, 0.5))


def test_the_orientation_of_a_model_is_known_without_loading_it(tmp_path, volume_checkpoint):
    assert describe_checkpoint(find_checkpoint("hippocampus")).orientation == "RAS"
    assert describe_checkpoint(find_checkpoint("nuclei")).orientation is None
    assert describe_checkpoint(volume_checkpoint).orientation is None  # "auto": it was never decided
