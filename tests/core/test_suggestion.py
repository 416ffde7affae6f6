"""Laws of suggested configurations: they fit the images, the labels and the device, and are always valid."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch

from studies.cost import parameter_count
from swipe_core.checkpoints.file import CheckpointContent
from swipe_core.coordinates import Affine
from swipe_core.data.labelled import LabelledImage
from swipe_core.data.labels import LabelConfig
from swipe_core.errors import ConfigError
from swipe_core.images import LabelMap, MedicalImage
from swipe_core.inference.config import InferenceConfig
from swipe_core.networks.catalogue import CATALOGUE, PRESETS
from swipe_core.networks.registry import KINDS, build_network
from swipe_core.training.config import ExperimentConfig, dump_config, load_config
from swipe_core.training.distillation import check_can_teach
from swipe_core.training.strokes import stroke_content
from swipe_core.training.suggestion import (
    CROPS,
    FEW_CASES,
    LARGEST_OBJECT,
    MOST_STEPS,
    DataSummary,
    suggest,
    suggest_fine_tuning,
    summarise,
)

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
PLAIN = LabelConfig(class_names=("cell",))
SPARSE = LabelConfig(class_names=("cell", "debris"), ignore_label=255)
OBJECTS = LabelConfig(class_names=("cell",), instances=True)

PICTURE = DataSummary(2, 1, 5, (400, 500), (1.0, 1.0), "pixel", is_colour=False, is_ct=False, extent=30.0)
COLOUR = replace(PICTURE, channels=3, is_colour=True)
VOLUME = DataSummary(
    3, 1, 5, (100, 200, 220), (1.0, 1.0, 1.0), "millimeter", is_colour=False, is_ct=False, extent=15.0
)
CT = replace(VOLUME, is_ct=True, spacing=(5.0, 0.8, 0.8))
SUMMARIES = {"picture": PICTURE, "colour": COLOUR, "volume": VOLUME, "ct": CT}


def labelled(
    shape: tuple[int, ...],
    boxes: tuple[tuple[slice, ...], ...] = (),
    *,
    channels: int = 1,
    dtype: type = np.uint8,
    spacing: tuple[float, ...] | None = None,
    unit: str = "pixel",
    low: float = 0,
    unpainted: int = 0,
    axis: str = "channel",
) -> LabelledImage:
    """An image of values from `low` up, with boxes of class 1."""
    affine = Affine.from_spacing(spacing or (1.0,) * len(shape))
    array = np.full((*shape, channels), low + 50, dtype)
    array.flat[0] = low
    labels = np.full(shape, unpainted, np.uint8)
    for box in boxes:
        labels[box] = 1
    image = MedicalImage(array, affine, unit, channel_axis=axis)
    return LabelledImage("case", image, LabelMap(labels, affine, unit))


def box(*edges: int, at: int = 2) -> tuple[slice, ...]:
    return tuple(slice(at, at + edge) for edge in edges)


# --- The summary --------------------------------------------------------------------------------


def test_a_summary_tells_medians_and_the_number_of_cases():
    images = [
        labelled((20 * n, 30), spacing=(0.1 * n, 0.5), unit="micrometer", channels=2, dtype=np.uint16)
        for n in (1, 2, 5)
    ]
    told = summarise(iter(images))
    assert (told.ndim, told.channels, told.cases, told.shape) == (2, 2, 3, (40, 30))
    assert told.spacing == pytest.approx((0.2, 0.5)) and told.unit == "micrometer"
    assert (told.is_colour, told.is_ct, told.extent) == (False, False, None)


@pytest.mark.parametrize(
    ("others", "named"),
    [
        ([labelled((8, 8)), labelled((8, 8), channels=3)], "2D with 1 channel, 2D with 3 channels"),
        ([labelled((8, 8)), labelled((8, 8, 8))], "2D with 1 channel, 3D with 1 channel"),
    ],
)
def test_images_of_several_kinds_are_refused_in_one_sentence(others, named):
    for images in (others, others[::-1]):
        with pytest.raises(ConfigError, match=f"of one kind; these are {named}") as error:
            summarise(images)
        assert "\n" not in str(error.value) and ". " not in str(error.value)


def test_without_an_image_there_is_nothing_to_go_by():
    with pytest.raises(ConfigError, match="no annotated image yet"):
        summarise([])


@pytest.mark.parametrize(
    ("image", "colour"),
    [
        (labelled((8, 8), channels=3, axis="colour"), True),
        (labelled((8, 8), channels=3, axis="colour", dtype=np.uint16), True),
        (labelled((8, 8), channels=3), False),
        (labelled((8, 8), channels=4), False),
        (labelled((8, 8)), False),
    ],
)
def test_colour_is_what_declares_itself_as_such(image, colour):
    assert summarise([image]).is_colour == colour


def test_pictures_of_colour_and_of_three_dyes_are_not_of_one_kind():
    images = [labelled((8, 8), channels=3, axis=axis) for axis in ("colour", "channel")]
    with pytest.raises(ConfigError, match="2D with 3 channels, 2D with 3 colours"):
        summarise(images)


def test_three_dyes_are_called_so_and_have_neither_hue_nor_a_common_range():
    dyes = replace(PICTURE, channels=3)
    for summary, axis in ((dyes, "channel"), (COLOUR, None)):
        config = suggest(summary, OBJECTS, "quick", CPU)
        assert config.preprocessing.channel_axis == axis
        assert (config.preprocessing.intensity == "unit") == summary.is_colour
        assert config.preprocessing.channel_kinds.is_colour == summary.is_colour


@pytest.mark.parametrize(
    ("images", "ct"),
    [
        ([labelled((4, 8, 8), dtype=np.int16, low=-1024)] * 2, True),
        ([labelled((4, 8, 8), dtype=np.int16, low=-1024), labelled((4, 8, 8))], False),
        ([labelled((4, 8, 8), dtype=np.int16, low=-100)], False),
        ([labelled((8, 8), dtype=np.int16, low=-1024)], False),
        ([labelled((4, 8, 8), dtype=np.int16, low=-1024, channels=2)], False),
    ],
    ids=["all-with-air", "one-without", "no-air", "2D", "two-channels"],
)
def test_only_volumes_of_one_channel_with_air_in_all_of_them_are_ct(images, ct):
    assert summarise(images).is_ct == ct


def test_the_extent_is_of_connected_parts_and_not_of_all_paint():
    image = labelled((60, 60), (box(4, 10), box(20, 6, at=30), box(8, 8, at=15)))
    assert summarise([image]).extent == 10  # the median of 10, 20 and 8


def test_what_is_not_painted_has_no_extent():
    boxes = (box(5, 7),)
    sparse = labelled((40, 40), boxes, unpainted=255)
    assert summarise([sparse], ignore_label=255).extent == 7
    assert summarise([labelled((40, 40), unpainted=255)], ignore_label=255).extent is None


def test_images_in_different_units_are_not_brought_to_one_spacing():
    """Their medians would mean nothing: a pixel is no micrometer."""
    large = (box(200, 200),)
    images = [labelled((300, 300), large), labelled((300, 300), large, spacing=(0.2, 0.2), unit="micrometer")]
    for mixed in (images, images[::-1]):
        chosen = suggest(summarise(mixed), PLAIN, "quick", CPU).preprocessing
        assert chosen.spacing is None and chosen.crop_size == (128, 128)
    for alike in images:
        assert suggest(summarise([alike]), PLAIN, "quick", CPU).preprocessing.spacing is not None


# --- From nothing -------------------------------------------------------------------------------

ALL = [
    pytest.param(network, preset, name, id=f"{network}-{preset}-{name}")
    for network, preset, name in itertools.product(CATALOGUE, PRESETS, SUMMARIES)
    if SUMMARIES[name].ndim in CATALOGUE[network].dimensions
]
IN_2D, IN_3D = ([n for n in CATALOGUE if ndim in CATALOGUE[n].dimensions] for ndim in (2, 3))
EACH = [(network, PICTURE) for network in IN_2D] + [(network, VOLUME) for network in IN_3D]


def test_there_is_a_size_for_every_network_preset_and_dimension():
    assert CROPS.keys() == set(itertools.product(PRESETS, (2, 3)))
    for name, entry in CATALOGUE.items():
        assert KINDS[name].sizes.keys() == set(itertools.product(PRESETS, entry.dimensions))
        assert KINDS[name].rates.keys() == set(entry.dimensions)
    assert KINDS.keys() == CATALOGUE.keys()


@pytest.mark.parametrize(("network", "preset", "name"), ALL)
def test_every_suggestion_can_be_written_and_its_network_built(tmp_path, network, preset, name):
    summary = SUMMARIES[name]
    for labels in (PLAIN, OBJECTS, SPARSE):
        config = suggest(summary, labels, preset, CPU, name="cells", network=network)
        assert config.model.network == network
        assert (config.model.ndim, config.model.channels) == (summary.ndim, summary.channels)
        assert config.labels == labels and config.model.classes == labels.classes
        assert config.batch.supervision == "points"  # which strokes will do for
    path = tmp_path / "config.yaml"
    path.write_text(dump_config(config), encoding="utf-8")
    assert load_config(path) == config and config.name == "cells"
    with torch.device("meta"):
        model = build_network(config.model)
        crop = torch.empty(1, summary.channels, *config.preprocessing.crop_size)
        points = torch.empty(1, 3, summary.ndim)
        assert model.eval()(crop, points, points).patch.shape == (1, 3, labels.classes)


@pytest.mark.parametrize(
    ("network", "summary"), [e for e in EACH if e[0] != "pixel_classifier"]
)  # of one size
def test_a_larger_preset_has_a_larger_network(network, summary):
    def weights(preset: str) -> int:
        with torch.device("meta"):
            return parameter_count(build_network(suggest(summary, PLAIN, preset, CPU, network=network).model))

    quick, standard, paper = (weights(preset) for preset in PRESETS)
    assert 2 * quick < min(standard, paper)


# The defaults of SwIPE's configuration are for 2D.
@pytest.mark.parametrize(("network", "summary"), [each for each in EACH if each != ("swipe", VOLUME)])
def test_the_largest_preset_is_the_network_as_it_comes(network, summary):
    model = suggest(summary, PLAIN, "paper", CPU, network=network).model
    plain = type(model)(ndim=summary.ndim, channels=summary.channels, classes=model.classes)
    assert model == plain


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("shape", [(20, 512, 512), (100, 200, 220), (7, 30, 60)])
def test_what_sees_windows_of_one_size_is_given_crops_of_that_size(preset, shape):
    config = suggest(replace(CT, shape=shape), PLAIN, preset, CPU, network="unetr")
    assert config.model.window == config.preprocessing.crop_size
    assert all(n % 16 == 0 for n in config.model.window)


@pytest.mark.parametrize(("network", "summary"), [("pranet", VOLUME), ("unetr", PICTURE)])
def test_a_network_for_other_images_is_refused_in_a_sentence_that_names_those_for_these(network, summary):
    with pytest.raises(ConfigError) as error:
        suggest(summary, PLAIN, "quick", CPU, network=network)
    said = str(error.value)
    assert said.startswith(f"{CATALOGUE[network].title} is for ") and f"these are {summary.ndim}D" in said
    assert said.endswith(".") and ". " not in said and "\n" not in said
    for entry in CATALOGUE.values():
        named = entry.title in said.partition("choose ")[2]
        assert named == (summary.ndim in entry.dimensions), entry.title


def test_a_network_that_nobody_knows_is_refused_and_the_nearest_is_named():
    with pytest.raises(ConfigError, match=r"no network 'u-net'.* Did you mean 'unet'"):
        suggest(PICTURE, PLAIN, "quick", CPU, network="u-net")


def test_all_networks_learn_from_the_same_images_in_the_same_way():
    """So that a choice of network is a choice of nothing else."""
    for network, summary in EACH:
        config, swipe = (suggest(summary, SPARSE, "quick", CPU, network=n) for n in (network, "swipe"))
        alike = {"model": swipe.model, "description": swipe.description}
        assert config.model_copy(update=alike) == swipe


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("edges", [(5, 5), (31, 700), (100, 130), (2000, 47), (128, 192)])
def test_a_crop_is_never_larger_than_needed(preset, edges):
    config = suggest(replace(PICTURE, shape=edges), PLAIN, preset, CPU)
    for crop, edge in zip(config.preprocessing.crop_size, edges, strict=True):
        assert crop % 16 == 0 and 16 <= crop <= CROPS[preset, 2]
        # Within half a lattice step of the image, where it is smaller than the crop of the preset.
        assert crop <= max(16, edge + 8) and (crop == CROPS[preset, 2] or crop >= edge - 8)


def test_a_thin_volume_gets_a_thin_crop():
    config = suggest(replace(CT, shape=(20, 512, 512)), PLAIN, "standard", CPU)
    assert config.preprocessing.crop_size == (16, 64, 64)


@pytest.mark.parametrize(
    ("name", "intensity", "window"),
    [
        ("picture", "standardise", None),
        ("colour", "unit", None),
        ("volume", "standardise", None),
        ("ct", "window", (-1000, 1000)),
    ],
)
def test_intensities_are_taken_as_the_kind_of_image_asks_for(name, intensity, window):
    chosen = suggest(SUMMARIES[name], PLAIN, "quick", CPU).preprocessing
    assert (chosen.intensity, chosen.window) == (intensity, window)


def test_images_keep_their_own_resolution_where_objects_fit_into_a_crop():
    assert suggest(PICTURE, PLAIN, "quick", CPU).preprocessing.spacing is None
    calibrated = replace(PICTURE, spacing=(0.3, 0.4), unit="micrometer")
    assert suggest(calibrated, PLAIN, "quick", CPU).preprocessing.spacing == (0.3, 0.4)
    assert suggest(replace(PICTURE, extent=None), PLAIN, "quick", CPU).preprocessing.spacing is None


@pytest.mark.parametrize("summary", [PICTURE, replace(VOLUME, shape=(900, 900, 900))], ids=["2D", "3D"])
@pytest.mark.parametrize("larger", [1.1, 2.0, 7.3])
def test_large_objects_are_looked_at_from_further_away(summary, larger):
    most = LARGEST_OBJECT * CROPS["quick", summary.ndim]
    fits = suggest(replace(summary, extent=most), PLAIN, "quick", CPU).preprocessing
    assert fits.spacing is None or fits.spacing == summary.spacing
    far = suggest(replace(summary, extent=larger * most), PLAIN, "quick", CPU).preprocessing
    factors = np.array(far.spacing) / summary.spacing
    # In the new voxels an object is as large as may be, but for rounding to two digits.
    assert larger * most / factors == pytest.approx([most] * summary.ndim, rel=0.05)


def test_crops_of_what_is_looked_at_from_further_away_are_no_larger_than_the_image_then_is():
    large = replace(PICTURE, shape=(200, 1000), extent=400.0)
    chosen = suggest(large, PLAIN, "quick", CPU).preprocessing
    factor = chosen.spacing[0]
    assert factor > 5 and chosen.crop_size[0] <= 200 / factor + 8 and chosen.crop_size[1] == 128


def test_thick_slices_keep_their_number():
    chosen = suggest(replace(CT, extent=10.0), PLAIN, "quick", CPU).preprocessing
    assert chosen.spacing == (5.0, 0.8, 0.8)
    # Looked at from further away, the planes become coarser and the slices stay until they are as thick.
    most = LARGEST_OBJECT * CROPS["quick", 3]
    twice = suggest(replace(CT, extent=2 * most), PLAIN, "quick", CPU).preprocessing
    assert twice.spacing == pytest.approx((5.0, 1.6, 1.6))
    ten = suggest(replace(CT, extent=10 * most), PLAIN, "quick", CPU).preprocessing
    assert ten.spacing == pytest.approx((8.0, 8.0, 8.0))


def test_sparse_labels_turn_pairs_on_and_full_ones_do_not():
    full, sparse = (suggest(PICTURE, labels, "quick", CPU) for labels in (PLAIN, SPARSE))
    assert (full.batch.pairs, full.loss.likeness_weight, full.loss.retention_weight) == (0, 0, 0)
    assert sparse.batch.pairs > 0 and sparse.loss.likeness_weight > 0
    assert sparse.loss.retention_weight == 0  # there is nothing to keep


@pytest.mark.parametrize("unit", ["pixel", "micrometer"])
def test_the_answer_to_strokes_on_an_image_teaches_a_new_network_of_any_kind(unit):
    image = MedicalImage(np.zeros((16, 16, 1), np.float32), Affine.identity(2), unit)
    painted = LabelMap(np.full((16, 16), 255, np.uint8), image.affine, image.unit)
    answer = stroke_content([LabelledImage("image", image, painted)], SPARSE, "answer")
    for network in ("swipe", "unet"):
        taught = suggest(PICTURE, SPARSE, "quick", CPU, network=network, answer=answer)
        assert taught.model.network == network and taught.loss.retention_weight > 0
        check_can_teach(answer, taught)
    untaught = suggest(PICTURE, SPARSE, "quick", CPU)
    colour = replace(PICTURE, channels=3)
    for other in (colour, VOLUME):
        assert suggest(other, SPARSE, "quick", CPU, answer=answer) == suggest(other, SPARSE, "quick", CPU)
    assert suggest(PICTURE, PLAIN, "quick", CPU, answer=answer) == suggest(PICTURE, PLAIN, "quick", CPU)
    assert untaught.loss.retention_weight == 0


def test_a_gpu_takes_more_images_at_once_and_nothing_else_changes():
    for network, summary in EACH:
        slow, fast = (suggest(summary, PLAIN, "standard", d, network=network) for d in (CPU, CUDA))
        assert slow.batch.size < fast.batch.size, network
        as_slow = fast.model_copy(update={"batch": slow.batch})
        assert as_slow == slow


@pytest.mark.parametrize("minutes", [0.1, 1.0, 10.0, 60.0, 24 * 60.0])
def test_about_ten_validations_are_spread_over_the_budget(minutes):
    for config in (
        suggest(PICTURE, PLAIN, "quick", CPU, minutes),
        suggest_fine_tuning(content(PICTURE), PLAIN, 3, CPU, minutes),
    ):
        every = config.training.validate_minutes
        assert 0.2 <= every <= 10 and (every == pytest.approx(minutes / 10) or every in (0.2, 10))
        # Steps are but a limit; validations by steps would come on top.
        assert config.training.steps == config.training.validate_every == MOST_STEPS


def test_no_colour_is_jittered_in_grey_volumes_and_no_axis_of_a_body_is_mirrored():
    for summary in (VOLUME, CT):
        augmentation = suggest(summary, PLAIN, "quick", CPU).augmentation
        assert augmentation.flip_axes == ()
    assert suggest(PICTURE, PLAIN, "quick", CPU).augmentation.flip_axes is None


# --- From a trained model -----------------------------------------------------------------------


def content(summary: DataSummary, labels: LabelConfig = PLAIN, network: str = "swipe") -> CheckpointContent:
    """Of a model that was trained on such data, with an inference of its own."""
    config = suggest(summary, labels, "quick", CPU, name="elder", network=network)
    inference = InferenceConfig(overlap=0.4, mirrored_axes=(0,))
    return config.model_copy(update={"inference": inference}).checkpoint_content()


@pytest.mark.parametrize("name", SUMMARIES)
@pytest.mark.parametrize("labels", [PLAIN, SPARSE, OBJECTS], ids=["plain", "sparse", "objects"])
def test_fine_tuning_keeps_network_preprocessing_and_inference(name, labels):
    elder = content(SUMMARIES[name])
    config = suggest_fine_tuning(elder, labels, 3, CPU, name="younger")
    assert config.model == elder.model.model_copy(update={"classes": labels.classes})
    assert config.preprocessing == elder.preprocessing and config.inference == elder.inference
    assert config.labels == labels and config.name == "younger" and "elder" in config.description
    assert ExperimentConfig.model_validate(config.model_dump()) == config


@pytest.mark.parametrize(("network", "summary"), EACH)
@pytest.mark.parametrize("labels", [PLAIN, SPARSE], ids=["plain", "sparse"])
def test_fine_tuning_keeps_any_network(network, summary, labels):
    elder = content(summary, PLAIN, network)
    config = suggest_fine_tuning(elder, labels, 3, CPU)
    assert config.model == elder.model.model_copy(update={"classes": labels.classes})
    assert ExperimentConfig.model_validate(config.model_dump()) == config


def test_fine_tuning_learns_slower_than_from_nothing():
    fresh = suggest(PICTURE, PLAIN, "quick", CPU).training.learning_rate
    assert suggest_fine_tuning(content(PICTURE), PLAIN, 3, CPU).training.learning_rate < fresh


def test_of_few_images_the_statistics_stay_as_they_are():
    for cases in (1, FEW_CASES - 1, FEW_CASES, 100):
        config = suggest_fine_tuning(content(PICTURE), PLAIN, cases, CPU)
        assert config.training.frozen_statistics == (cases < FEW_CASES)
    assert not suggest(replace(PICTURE, cases=1), PLAIN, "quick", CPU).training.frozen_statistics


def test_with_sparse_labels_the_elder_model_is_listened_to():
    full, sparse = (suggest_fine_tuning(content(PICTURE), labels, 3, CPU) for labels in (PLAIN, SPARSE))
    assert (full.batch.pairs, full.loss.retention_weight) == (0, 0)
    assert sparse.batch.pairs > 0 and sparse.loss.retention_weight > 0


def test_images_in_different_units_of_length_are_brought_to_one_spacing_of_one_unit():
    spacing = {"millimeter": 2.0, "micrometer": 2000.0, "meter": 2e-3}
    images = [labelled((8, 8, 8), spacing=(step,) * 3, unit=unit) for unit, step in spacing.items()]
    chosen = suggest(summarise(images), PLAIN, "quick", CPU).preprocessing
    assert chosen.spacing_unit == "meter"
    np.testing.assert_allclose(chosen.spacing, 2e-3)
