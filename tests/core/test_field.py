"""Laws of the field: one function of position, whatever the frame, the raster, the method or the chunk."""

from __future__ import annotations

import math
import weakref
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from swipe_core.checkpoints.file import load_checkpoint
from swipe_core.coordinates import Affine, Grid, image_to_voxel, voxel_to_image
from swipe_core.data.preprocessing import preprocess
from swipe_core.errors import ImageError
from swipe_core.images import MedicalImage, read_image
from swipe_core.inference.config import InferenceConfig
from swipe_core.inference.decoding import in_chunks, stencil
from swipe_core.inference.field import OccupancyField
from swipe_core.inference.windows import EncodedWindow
from swipe_core.measure.metrics import dice
from swipe_core.prediction.predictor import Predictor

TURNED = Affine(np.array([[0.4, -0.3, 10.0], [0.3, 0.4, -7.0], [0, 0, 1.0]]))
OBLIQUE = Affine(
    np.array([[2.0, 0.0, 0.0, -30.0], [0.0, 0.6, -0.8, 12.0], [0.0, 0.8, 0.6, 5.0], [0, 0, 0, 1.0]])
)


def predictor_from(path: Path, *, crop_size=None, **inference) -> Predictor:
    """A predictor from a checkpoint, with other windows and settings."""
    checkpoint = load_checkpoint(path)
    content = checkpoint.content
    if crop_size is not None:
        changed = content.preprocessing.model_copy(update={"crop_size": crop_size})
        content = content.model_copy(update={"preprocessing": changed})
    return Predictor(checkpoint.build(), content, config=InferenceConfig(**inference))


def scene() -> MedicalImage:
    """Three bright discs in noise on a turned lattice of half a micrometre."""
    rows, columns = np.mgrid[:45, :58]
    discs = [(12, 14, 8), (30, 37, 10), (9, 46, 5)]
    inside = np.any([np.hypot(rows - r, columns - c) < radius for r, c, radius in discs], axis=0)
    noise = np.random.default_rng(1).normal(60, 10, inside.shape)
    array = (noise + 120 * inside).clip(0, 255).astype(np.uint8)
    return MedicalImage(array[..., None], TURNED, "micrometer")


def volume(shape: tuple[int, ...] = (10, 20, 18)) -> MedicalImage:
    """A blob in noise on an oblique lattice of 2 x 1 x 1 mm."""
    position = np.stack(np.indices(shape), axis=-1)
    blob = np.exp(-((position - np.array(shape) / 2) ** 2).sum(axis=-1) / 40)
    noise = np.random.default_rng(2).normal(0, 0.1, blob.shape)
    return MedicalImage((blob + noise).astype(np.float32)[..., None], OBLIQUE, "millimeter")


@pytest.fixture(scope="module")
def disc_model(disc_run) -> Path:
    return disc_run / "best.safetensors"


@pytest.fixture(scope="module")
def whole(disc_model) -> OccupancyField:
    """The scene, encoded whole."""
    return predictor_from(disc_model, coarse_voxels=1.0).field(scene())


@pytest.fixture(scope="module")
def windowed(disc_model) -> OccupancyField:
    """The scene in windows of 24 x 24 with half an overlap, patches blended."""
    return predictor_from(disc_model, crop_size=(24, 24), blending="linear", overlap=0.5).field(scene())


@pytest.fixture(scope="module")
def cuboid(volume_checkpoint) -> OccupancyField:
    """The volume in windows of 16^3."""
    return predictor_from(volume_checkpoint, blending="linear").field(volume())


@pytest.fixture(scope="module")
def joined_cuboid(volume_checkpoint) -> OccupancyField:
    """The same, of a network all of whose neighbouring patches are trained to answer for each other."""
    checkpoint = load_checkpoint(volume_checkpoint)
    network = checkpoint.content.model.model_copy(update={"connectivity": 26})
    content = checkpoint.content.model_copy(update={"model": network})
    inference = content.inference.model_copy(update={"blending": "linear"})
    return Predictor.load(replace(checkpoint, content=content), device="cpu", config=inference).field(
        volume()
    )


@pytest.fixture(scope="module", params=["whole", "windowed", "cuboid"])
def field(request) -> OccupancyField:
    """Every law below holds for one window and for several, in 2D and in 3D."""
    return request.getfixturevalue(request.param)


def waves(points_voxel: torch.Tensor) -> torch.Tensor:
    """A plane and a wave across it, as the logit of one class."""
    first, last = points_voxel[:, 0], points_voxel[:, -1]
    return torch.stack([torch.zeros_like(first), 0.5 * first - last, 3 * torch.cos(last)], dim=-1)


GRID_OF = {
    2: Grid((20, 30), TURNED),
    3: Grid((12, 14, 16), OBLIQUE),
}


@pytest.fixture(params=[2, 3])
def wavy(request, analytic_field):
    """Logits that are linear along one class and a wave of 2 pi voxels along the other."""
    return analytic_field(waves, GRID_OF[request.param], class_names=("plane", "wave"))


def some_points_voxel(field: OccupancyField, count: int = 150, margin: float = 3.0) -> np.ndarray:
    """Random positions in the image and a little around it, in the voxel frame."""
    size = np.asarray(field.grid.shape)
    return np.random.default_rng(3).uniform(-margin, size - 1 + margin, (count, field.ndim))


def pointwise(field: OccupancyField, grid: Grid) -> np.ndarray:
    """The class at each voxel centre of a grid, asked in the world."""
    return field.classify(grid.centres_world()).reshape(grid.shape)


# --- One function -------------------------------------------------------------------------------


def test_the_frames_agree(field):
    points = some_points_voxel(field)
    logits = field.logits(points, "voxel")
    assert logits.shape == (150, 1 + len(field.class_names)) and np.isfinite(logits).all()
    in_image = field.logits(voxel_to_image(points, field.grid.shape), "image")
    in_world = field.logits(field.grid.affine.apply(points), "world")
    np.testing.assert_allclose(in_image, logits, atol=1e-4)
    np.testing.assert_allclose(in_world, logits, atol=1e-4)
    np.testing.assert_array_equal(field.logits(field.grid.affine.apply(points)), in_world)


def test_classes_are_the_greatest_logits_and_probabilities_their_softmax(field):
    points = some_points_voxel(field)
    logits, probabilities = field.logits(points, "voxel"), field.probabilities(points, "voxel")
    np.testing.assert_array_equal(field.classify(points, "voxel"), logits.argmax(axis=1))
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-6)
    exponentials = np.exp(logits.astype(np.float64) / (field.temperature or 1))
    np.testing.assert_allclose(
        probabilities, exponentials / exponentials.sum(axis=1, keepdims=True), atol=1e-6
    )


@pytest.mark.parametrize("chunk_points", [16, 149, 2**18])
def test_the_chunk_size_changes_no_result(field, chunk_points):
    points = some_points_voxel(field)
    chunked = field.with_config(field.config.model_copy(update={"chunk_points": chunk_points}))
    np.testing.assert_allclose(chunked.logits(points, "voxel"), field.logits(points, "voxel"), atol=1e-5)
    np.testing.assert_array_equal(chunked.classify(points, "voxel"), field.classify(points, "voxel"))


def test_the_order_of_points_changes_no_result(field):
    points = some_points_voxel(field)
    order = np.random.default_rng(4).permutation(len(points))
    np.testing.assert_allclose(
        field.logits(points[order], "voxel"), field.logits(points, "voxel")[order], atol=1e-5
    )


def test_no_points_have_no_classes(field):
    nothing = np.empty((0, field.ndim))
    assert field.logits(nothing).shape == (0, 1 + len(field.class_names))
    assert field.classify(nothing).shape == (0,)


def test_points_of_another_dimension_are_refused(field):
    with pytest.raises(ValueError, match=rf"shape \(n, {field.ndim}\); got \(5, {5 - field.ndim}\)"):
        field.classify(np.zeros((5, 5 - field.ndim)))


def test_beyond_the_image_every_answer_is_finite(field):
    far = some_points_voxel(field, margin=200.0)
    assert np.isfinite(field.logits(far, "voxel")).all()


# --- Windows ------------------------------------------------------------------------------------


def test_a_single_window_is_the_model_itself(disc_model, whole):
    predictor = predictor_from(disc_model)
    prepared = preprocess(scene(), predictor.content.preprocessing)
    points = torch.from_numpy(some_points_voxel(whole)).float()
    points_image = voxel_to_image(points, prepared.shape)[None]
    with torch.inference_mode():
        embeddings = predictor.model.encode(prepared.tensor[None])
        expected = predictor.model.decode(embeddings, points_image)[0]
    assert len(whole.windows) == 1
    np.testing.assert_allclose(whole.logits(points.double().numpy(), "voxel"), expected.numpy(), atol=1e-5)


def test_inside_a_part_that_one_window_alone_covers_its_answer_stands(disc_model):
    field = predictor_from(disc_model, crop_size=(32, 32), overlap=0.0).field(scene())
    assert [window.block.start for window in field.windows] == [(0, 0), (0, 26), (13, 0), (13, 26)]
    points = np.random.default_rng(0).uniform((0, 0), (12, 25), (100, 2))
    np.testing.assert_allclose(
        field.logits(points, "voxel"), _answer(field.windows[0], field, points), atol=1e-4
    )


@pytest.mark.parametrize("name", ["windowed", "joined_cuboid"])
def test_windows_blend_without_a_jump_at_their_borders(request, name):
    field = request.getfixturevalue(name)
    size = np.asarray(field.grid.shape)
    rng = np.random.default_rng(5)
    steepest, largest_jump, largest_doubt = 0.0, 0.0, 0.0
    for window in field.windows:
        for axis, start in enumerate(window.block.start):
            if start == 0:
                continue
            points = rng.uniform(0, size - 1, (20, field.ndim))
            low, high = np.array(window.block.start), np.add(window.block.start, window.block.shape) - 1
            points = low + (high - low) * points / (size - 1)
            before, after, further = points.copy(), points.copy(), points.copy()
            before[:, axis], after[:, axis], further[:, axis] = start - 0.501, start - 0.499, start - 0.25
            logits = [field.logits(p, "voxel") for p in (before, after, further)]
            largest_jump = max(largest_jump, np.abs(logits[1] - logits[0]).max())
            steepest = max(steepest, np.abs(logits[2] - logits[1]).max())
            largest_doubt = max(largest_doubt, np.abs(_answer(window, field, after) - logits[1]).max())
    # The window that begins here thinks quite differently, and yet hardly moves the field.
    assert largest_doubt > 0.2
    assert largest_jump < 0.02 * largest_doubt + 0.02 * steepest


def _answer(window: EncodedWindow, field: OccupancyField, points_voxel: np.ndarray) -> np.ndarray:
    """What one window alone says."""
    points = torch.from_numpy(points_voxel).float()
    frames = window.to_image(points)[None], voxel_to_image(points, field.grid.shape)[None]
    return field.model.decode(window.encoding, *frames, blending=field.config.blending)[0].numpy()


def test_along_a_line_the_blended_field_has_no_jump(windowed):
    # Across all windows and patches, ever finer: the largest step shrinks with the spacing.
    steps = []
    for count in (400, 1600, 6400):
        line = np.linspace((3.0, 0.0), (40.0, 57.0), count)
        steps.append(np.abs(np.diff(windowed.logits(line, "voxel"), axis=0)).max())
    assert steps[1] < 0.4 * steps[0]
    assert steps[2] < 0.02 * np.ptp(windowed.logits(line, "voxel"))


# --- Rasters ------------------------------------------------------------------------------------


def test_by_default_a_raster_is_the_image_s_own_grid(field):
    image = scene() if field.ndim == 2 else volume()
    rendered = field.render()
    assert rendered.grid == image.grid
    assert rendered.affine == image.affine and rendered.unit == image.unit
    assert rendered.array.dtype == np.uint8
    assert rendered.class_names == field.class_names
    factor_one = field.render(factor=1)
    assert factor_one.affine == image.affine
    np.testing.assert_array_equal(factor_one.array, rendered.array)


def test_more_than_one_class_is_found(field):
    assert len(np.unique(field.render().array)) > 1


GRIDS = {
    "factor": lambda grid: grid.scaled(2),
    "factors": lambda grid: grid.scaled([2.0, 0.5, 1.0][: grid.ndim]),
    "spacing": lambda grid: grid.respaced([0.37, 0.61, 0.9][: grid.ndim]),
    "another image": lambda grid: Grid(
        tuple(range(17, 17 + grid.ndim)),
        Affine.from_spacing([0.7] * grid.ndim, list(grid.affine.apply(np.full(grid.ndim, 2.3)))),
    ),
    "oblique": lambda grid: Grid(
        tuple(range(21, 21 + grid.ndim)),
        grid.affine @ Affine.from_parts(_turn(grid.ndim), np.full(grid.ndim, -4.0)),
    ),
    "one voxel": lambda grid: grid.resized([1] * grid.ndim),
}


def _turn(ndim: int) -> np.ndarray:
    """A rotation by 30 degrees in the last two axes, with some magnification."""
    turn = np.eye(ndim)
    cosine, sine = math.cos(math.pi / 6), math.sin(math.pi / 6)
    turn[-2:, -2:] = [[cosine, -sine], [sine, cosine]]
    return 1.3 * turn


@pytest.mark.parametrize("name", GRIDS)
def test_a_raster_on_any_grid_shows_the_classes_at_its_voxel_centres(field, name):
    grid = GRIDS[name](field.image_grid)
    rendered = field.render(grid, method="dense")
    assert rendered.grid == grid
    assert rendered.evaluated_points == grid.voxels
    np.testing.assert_array_equal(rendered.array, pointwise(field, grid))


def test_factor_and_spacing_are_short_for_grids(whole):
    image_grid = whole.image_grid
    assert whole.render(factor=2).grid == image_grid.scaled(2)
    assert whole.render(factor=(1.0, 2.5)).grid == image_grid.scaled((1.0, 2.5))
    assert whole.render(spacing=(0.4, 1.1)).grid == image_grid.respaced((0.4, 1.1))


def test_only_one_grid_can_be_asked_for(whole):
    with pytest.raises(ValueError, match="one of grid, factor and spacing"):
        whole.render(factor=2, spacing=(1.0, 1.0))


@pytest.mark.parametrize(
    ("name", "factor", "method"), [("whole", 3, "dense"), ("whole", 3, "mise"), ("cuboid", 2, "dense")]
)
def test_small_blocks_give_the_labels_of_a_large_one(request, name, factor, method):
    field = request.getfixturevalue(name)
    in_blocks = field.with_config(field.config.model_copy(update={"block_voxels": 2**12}))
    grid = field.image_grid.scaled(factor)
    reports = list(in_blocks.iter_render(grid, method=method))
    assert len(reports) > 3
    done = [report.done for report in reports]
    assert done == sorted(done) and done[-1] == reports[-1].total
    expected = field.render(grid, method=method).array
    np.testing.assert_array_equal(in_blocks.render(grid, method=method).array, expected)


def test_a_field_is_encoded_once_and_only_decoded_after(whole, monkeypatch):
    monkeypatch.setattr(whole.model, "backbone", None)
    monkeypatch.setattr(whole.model, "neck", None)
    assert whole.render(factor=2).shape == (90, 116)


def test_an_image_is_rendered_on_its_own_grid_even_where_it_was_resized(disc_model):
    checkpoint = load_checkpoint(disc_model)
    changed = checkpoint.content.preprocessing.model_copy(update={"size": (64, 40)})
    content = checkpoint.content.model_copy(update={"preprocessing": changed})
    field = Predictor(checkpoint.build(), content).field(scene())
    assert field.grid.shape == (64, 40)
    rendered = field.render(method="dense")
    assert rendered.affine == scene().affine and rendered.shape == (45, 58)
    np.testing.assert_array_equal(rendered.array, pointwise(field, scene().grid))
    corners = np.array([[-1.0, -1.0], [1.0, 1.0]])
    np.testing.assert_allclose(
        field.grid.affine.apply(image_to_voxel(corners, field.grid.shape)),
        scene().affine.apply(image_to_voxel(corners, scene().shape)),
    )


# --- MISE ---------------------------------------------------------------------------------------


def overlap(one: np.ndarray, two: np.ndarray) -> float:
    return dice(one > 0, two > 0)


@pytest.mark.parametrize("factor", [2, 4, 8])
@pytest.mark.parametrize("blending", ["nearest", "linear"])
def test_refining_at_boundaries_equals_asking_everywhere(whole, factor, blending):
    field = whole.with_config(InferenceConfig(blending=blending, coarse_voxels=1.0))
    dense = field.render(factor=factor, method="dense")
    refined = field.render(factor=factor, method="mise")
    assert overlap(dense.array, refined.array) >= 0.999
    assert 0.05 < (dense.array > 0).mean() < 0.5
    if factor == 8:
        assert refined.evaluated_points < 0.15 * dense.evaluated_points


def test_refining_at_boundaries_equals_asking_everywhere_in_3d(volume_checkpoint):
    predictor = predictor_from(
        volume_checkpoint, crop_size=(32, 32, 32), blending="linear", coarse_voxels=0.5
    )
    field = predictor.field(volume(shape=(8, 12, 10)))
    dense, refined = (field.render(factor=4, method=method) for method in ("dense", "mise"))
    assert len(np.unique(dense.array)) == 3
    assert np.mean(dense.array == refined.array) >= 0.999
    assert refined.evaluated_points < dense.evaluated_points


# A network that was trained for seconds has ragged boundaries at its patch borders. Where patches are
# blended, a lattice of whole voxels finds all of them; where they are not, it takes a finer one.
@pytest.mark.parametrize(("blending", "coarse_voxels"), [("linear", 1.0), ("nearest", 0.5)])
@pytest.mark.parametrize("data_set", ["nuclei", "kvasir196"])
def test_refining_equals_asking_everywhere_on_real_images(
    shared_data, disc_model, data_set, blending, coarse_voxels
):
    predictor = predictor_from(disc_model, blending=blending, coarse_voxels=coarse_voxels)
    for path in sorted((shared_data / data_set / "val" / "images").iterdir())[:2]:
        image = read_image(path, ndim=2)
        field = predictor.field(replace(image, array=image.array[50:178, 50:178]))
        dense, refined = (field.render(factor=4, method=method) for method in ("dense", "mise"))
        assert overlap(dense.array, refined.array) >= 0.999
        assert refined.evaluated_points < 0.6 * dense.evaluated_points


@pytest.mark.parametrize(
    ("factor", "coarse_voxels", "stride"),
    [(1, 1.0, 1), (4, 1.0, 4), (5, 1.0, 4), (16, 0.5, 8), (0.5, 1.0, 1)],
)
def test_the_first_lattice_is_given_in_voxels_of_the_image(whole, factor, coarse_voxels, stride):
    field = whole.with_config(InferenceConfig(coarse_voxels=coarse_voxels))
    assert field.lattice_stride(field.image_grid.scaled(factor)) == (stride, stride)


def test_each_axis_has_a_first_step_of_its_own(whole):
    field = whole.with_config(InferenceConfig(coarse_voxels=2.0))
    grid = field.image_grid
    assert field.lattice_stride(grid.scaled((0.2, 4.0))) == (1, 8)
    assert field.lattice_stride(grid.window((0, 0), (1, grid.shape[1])).scaled((1, 2))) == (1, 4)
    image = grid.scaled((0.5, 4.0))
    dense, refined = (field.render(image, method=method) for method in ("dense", "mise"))
    assert overlap(dense.array, refined.array) >= 0.999
    assert refined.evaluated_points < 0.6 * dense.evaluated_points


# --- Encoding -----------------------------------------------------------------------------------


def test_an_image_of_another_dimension_is_refused(disc_model):
    with pytest.raises(ImageError, match="3D, and this model is for 2D"):
        predictor_from(disc_model).field(volume())


# --- Threshold ----------------------------------------------------------------------------------


def with_threshold(field: OccupancyField, threshold: float) -> OccupancyField:
    return field.with_config(field.config.model_copy(update={"threshold": threshold}))


@pytest.mark.parametrize("threshold", [0.1, 0.3, 0.7, 0.95])
def test_of_one_class_the_threshold_is_its_least_probability_before_calibration(whole, threshold):
    whole = replace(whole, temperature=None)
    points = some_points_voxel(whole, count=2000)
    found = with_threshold(whole, threshold).classify(points, "voxel")
    np.testing.assert_array_equal(found, whole.probabilities(points, "voxel")[:, 1] >= threshold)
    assert (found != whole.classify(points, "voxel")).any()


@pytest.mark.parametrize("threshold", [0.2, 0.8])
def test_of_several_classes_each_stands_against_the_background_alone(wavy, threshold):
    points = some_points_voxel(wavy, count=2000)
    found = with_threshold(wavy, threshold).classify(points, "voxel")
    background, *classes = wavy.probabilities(points, "voxel").T
    largest = np.argmax(classes, axis=0)
    wins = np.max(classes, axis=0) / background >= threshold / (1 - threshold)
    np.testing.assert_array_equal(found, np.where(wins, 1 + largest, 0))
    assert set(found) == {0, 1, 2} and (found != wavy.classify(points, "voxel")).any()


def test_a_threshold_of_a_half_is_none(field):
    points = some_points_voxel(field)
    np.testing.assert_array_equal(field.scores(points, "voxel"), field.logits(points, "voxel"))
    np.testing.assert_array_equal(field.classify(points, "voxel"), field.logits(points, "voxel").argmax(1))


def test_the_threshold_is_a_decision_and_changes_no_logit_and_no_probability(field):
    points, strict = some_points_voxel(field), with_threshold(field, 0.9)
    np.testing.assert_array_equal(strict.logits(points, "voxel"), field.logits(points, "voxel"))
    np.testing.assert_array_equal(strict.probabilities(points, "voxel"), field.probabilities(points, "voxel"))
    np.testing.assert_array_equal(strict.classify(points, "voxel"), strict.scores(points, "voxel").argmax(1))


@pytest.mark.parametrize("method", ["dense", "mise"])
def test_a_higher_threshold_draws_less(whole, method):
    drawn = [with_threshold(whole, t).render(factor=2, method=method).array > 0 for t in (0.2, 0.5, 0.8)]
    assert (drawn[0] >= drawn[1]).all() and (drawn[1] >= drawn[2]).all()
    assert drawn[0].sum() > drawn[1].sum() > drawn[2].sum() > 0


@pytest.mark.parametrize("threshold", [0.0, 1.0])
def test_a_threshold_without_a_meaning_is_refused(threshold):
    with pytest.raises(ValueError, match="threshold"):
        InferenceConfig(threshold=threshold)


# --- Smoothing ----------------------------------------------------------------------------------


def smooth(field: OccupancyField, radius: float) -> OccupancyField:
    return field.with_config(field.config.model_copy(update={"smoothing": radius}))


@pytest.mark.parametrize("radius", [0.4, 1.0, 2.5])
def test_smoothing_keeps_planes_and_weakens_waves_as_it_says(wavy, radius):
    size = np.asarray(wavy.grid.shape)
    points = np.random.default_rng(0).uniform(radius - 0.5, size - 0.5 - radius, (200, wavy.ndim))
    plain, smoothed = wavy.logits(points, "voxel"), smooth(wavy, radius).logits(points, "voxel")
    np.testing.assert_allclose(smoothed[:, :2], plain[:, :2], atol=1e-4)
    factor = 0.5 + 0.5 * (wavy.ndim - 1 + math.cos(radius)) / wavy.ndim
    np.testing.assert_allclose(smoothed[:, 2], factor * plain[:, 2], atol=1e-4)


def test_no_wave_is_turned_into_its_opposite():
    rng = np.random.default_rng(0)
    for ndim in (2, 3):
        weights, offsets = stencil(ndim, 1.7)
        assert sum(weights) == pytest.approx(1)
        np.testing.assert_allclose(np.average(offsets, axis=0, weights=weights), 0, atol=1e-12)
        np.testing.assert_allclose(
            np.cov(np.transpose(offsets), aweights=weights, ddof=0), 1.7**2 / 2 / ndim * np.eye(ndim)
        )
        waves_along = rng.normal(size=(500, ndim)) * 5
        assert (np.cos(waves_along @ np.transpose(offsets)) @ weights >= -1e-12).all()


def test_smoothing_changes_all_that_is_said_of_a_point(field):
    points, smoothed = some_points_voxel(field), smooth(field, 1.5)
    logits, probabilities = smoothed.logits(points, "voxel"), smoothed.probabilities(points, "voxel")
    assert np.abs(logits - field.logits(points, "voxel")).max() > 0.1
    np.testing.assert_array_equal(smoothed.classify(points, "voxel"), logits.argmax(axis=1))
    calibrated = torch.from_numpy(logits) / (smoothed.temperature or 1)
    np.testing.assert_allclose(probabilities, calibrated.softmax(dim=-1), atol=1e-6)
    in_world = smoothed.logits(field.grid.affine.apply(points))
    np.testing.assert_allclose(in_world, logits, atol=1e-3)


def test_beyond_the_border_a_smoothed_field_says_what_its_border_says(wavy):
    smoothed, size = smooth(wavy, 2.0), np.asarray(wavy.grid.shape)
    outside = np.random.default_rng(0).uniform(-30, -3, (20, wavy.ndim))
    corner = smoothed.logits(np.full((1, wavy.ndim), -0.5) - 2.0, "voxel")
    np.testing.assert_allclose(smoothed.logits(outside, "voxel"), np.repeat(corner, 20, axis=0), atol=1e-5)
    # A point on the border averages points of the image only, in which the plane is not kept.
    edge = np.array([size - 0.5])
    expected = wavy.logits(edge, "voxel")[:, 1] - (0.5 - 1) * 2.0 * 0.25 / wavy.ndim
    assert smoothed.logits(edge, "voxel")[:, 1] == pytest.approx(expected, abs=1e-4)


def test_a_radius_of_0_costs_nothing_and_one_beyond_a_stencil(wavy):
    points = np.zeros((10, wavy.ndim))
    before = wavy.model.asked
    wavy.logits(points, "voxel")
    assert wavy.model.asked - before == 10
    smooth(wavy, 0.5).logits(points, "voxel")
    assert wavy.model.asked - before == 10 + 10 * (1 + 2 * wavy.ndim)


def test_smoothing_rounds_off_a_ragged_boundary(whole):
    def length(field: OccupancyField) -> int:
        labels = field.render(factor=4, method="dense").array.astype(int)
        return sum(np.count_nonzero(np.diff(labels, axis=axis)) for axis in (0, 1))

    assert length(smooth(whole, 3.0)) < 0.97 * length(whole)


@pytest.mark.parametrize("radius", [-1.0, math.inf, math.nan])
def test_a_radius_without_a_meaning_is_refused(radius):
    with pytest.raises(ValueError, match="smoothing"):
        InferenceConfig(smoothing=radius)


# --- Attention and memory -----------------------------------------------------------------------


@pytest.mark.parametrize("name", ["whole", "windowed", "cuboid"])
def test_attention_is_told_at_every_point_whatever_the_windows(request, name):
    field = request.getfixturevalue(name)
    points = some_points_voxel(field)
    found = field.attention(points, "voxel")
    assert found.shape == (150, 4) and found.dtype == np.float32
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-5)
    assert (found >= 0).all() and np.ptp(found, axis=0).max() > 0
    np.testing.assert_allclose(field.attention(field.grid.affine.apply(points)), found, atol=1e-4)


def test_what_is_said_of_a_chunk_is_copied_before_the_next_is_asked(whole):
    # Else a small tensor would stay behind each chunk's large ones, and memory would fall to pieces.
    alive = []

    def answer(points_voxel: np.ndarray) -> torch.Tensor:
        assert not any(reference() is not None for reference in alive)
        said = np.full((len(points_voxel), 2), len(alive), np.float32)
        alive.append(weakref.ref(said))  # the tensor has the same memory and keeps it
        return torch.from_numpy(said)

    found = in_chunks(answer, np.zeros((25, 2)), 10, (2,), np.float32)
    np.testing.assert_array_equal(found[:, 0], [0] * 10 + [1] * 10 + [2] * 5)
