"""What maps promise: the field's own numbers at every voxel, in their range, and in files as they are."""

from __future__ import annotations

import nibabel
import numpy as np
import pytest
import tifffile
import torch

from swipe_core.blocks import Block
from swipe_core.coordinates import Affine, Grid
from swipe_core.errors import ConfigError, ImageError
from swipe_core.images import ScalarMap, holds_labels, read_image, write_scalar_map
from swipe_core.inference.maps import (
    iter_band,
    iter_deciding_scale,
    iter_half_widths,
    iter_probability,
    iter_uncertainty,
)
from swipe_core.progress import Progress, finish

TURNED = Affine(np.array([[0.5, -0.25, 10.0], [0.25, 0.5, -7.0], [0, 0, 1.0]]))
OBLIQUE = Affine(
    np.array([[2.0, 0.0, 0.0, -30.0], [0.0, 0.75, -0.5, 12.0], [0.0, 0.5, 0.75, 5.0], [0, 0, 0, 1.0]])
)


def three_classes(points_voxel: torch.Tensor) -> torch.Tensor:
    first, last = points_voxel[:, 0], points_voxel[:, -1]
    return torch.stack([torch.zeros_like(first), 0.3 * first - 1, 2 - 0.5 * last], dim=-1)


@pytest.fixture(params=[2, 3])
def field(request, analytic_field):
    """Three classes, in 2D and in 3D."""
    grid = Grid((9, 14), TURNED) if request.param == 2 else Grid((5, 8, 7), OBLIQUE)
    return analytic_field(three_classes, grid, class_names=("one", "two"), chunk_points=50)


@pytest.mark.parametrize("class_index", [0, 1, 2])
def test_a_probability_map_holds_the_probability_at_every_voxel_centre(field, class_index):
    grid = field.image_grid.scaled(1.5)
    found = finish(iter_probability(field, grid, class_index))
    expected = field.probabilities(grid.centres_world())[:, class_index].reshape(grid.shape)
    np.testing.assert_allclose(found.array, expected, atol=1e-6)
    assert found.grid == grid and found.unit == field.unit
    assert found.array.dtype == np.float32
    assert found.name == "probability of " + ("background", "one", "two")[class_index]


def test_the_probabilities_of_all_classes_sum_to_1_and_the_largest_is_the_label(field):
    grid = field.image_grid.scaled(2)
    stack = np.stack([finish(iter_probability(field, grid, index)).array for index in range(3)])
    np.testing.assert_allclose(stack.sum(axis=0), 1, atol=1e-5)
    np.testing.assert_array_equal(stack.argmax(axis=0), field.render(grid, method="dense").array)


def test_the_threshold_changes_no_probability_and_no_uncertainty(field):
    strict = field.with_config(field.config.model_copy(update={"threshold": 0.9}))
    for work in (lambda f: iter_probability(f, f.image_grid, 1), lambda f: iter_uncertainty(f, f.image_grid)):
        np.testing.assert_array_equal(finish(work(strict)).array, finish(work(field)).array)
    assert (strict.render().array != field.render().array).any()


def test_uncertainty_is_one_less_the_lead_of_the_most_probable_class(field):
    grid = field.image_grid
    found = finish(iter_uncertainty(field, grid)).array
    ordered = np.sort(field.probabilities(grid.centres_world()), axis=1)[:, ::-1]
    np.testing.assert_allclose(found.ravel(), 1 - (ordered[:, 0] - ordered[:, 1]), atol=1e-6)
    assert found.min() >= 0 and found.max() <= 1


def test_uncertainty_is_1_on_the_boundary_and_falls_to_0_away_from_it(analytic_field):
    field = analytic_field(
        lambda points: torch.stack([torch.zeros(len(points)), points[:, 1] - 10], dim=-1),
        Grid((3, 21), Affine.identity(2)),
    )
    row = finish(iter_uncertainty(field, field.image_grid)).array[1]
    assert row[10] == 1
    assert (np.diff(row[:11]) > 0).all() and (np.diff(row[10:]) < 0).all()
    assert row[0] < 1e-3 and row[-1] < 1e-3


@pytest.mark.parametrize("class_index", [-1, 3])
def test_a_class_that_the_model_does_not_know_is_refused(field, class_index):
    with pytest.raises(ConfigError, match=rf"no class {class_index}; choose .* 2 \(two\)"):
        finish(iter_probability(field, field.image_grid, class_index))


def test_progress_is_told_after_every_chunk_so_that_stopping_is_quick(field):
    grid = field.image_grid.scaled(2)
    for work in (iter_probability(field, grid, 1), iter_uncertainty(field, grid)):
        before = field.model.asked
        first = next(work)
        assert 0 < field.model.asked - before <= 50
        reports = [first, *work]
        assert reports[-1] == Progress(first.stage, len(reports), len(reports))
        assert field.model.asked - before == grid.voxels


# --- Attention ----------------------------------------------------------------------------------


def weights(*numbers: float) -> torch.Tensor:
    """(1, 4, 1, 1): the same in all patches."""
    return torch.tensor(numbers, dtype=torch.float32).reshape(1, 4, 1, 1)


def by_patch(window: int) -> torch.Tensor:
    """Random weights, (1, 4, 3, 4), for 12 x 16 voxels in patches of 4."""
    return torch.rand(1, 4, 3, 4, generator=torch.Generator().manual_seed(window)).softmax(dim=1)


@pytest.fixture
def attentive(analytic_field):
    """A field of 12 x 16 voxels with random weights in each patch."""
    return analytic_field(three_classes, Grid((12, 16), TURNED), class_names=("a", "b"), attention=by_patch)


def test_the_attention_of_a_voxel_is_that_of_its_patch(attentive):
    found = attentive.attention(attentive.image_grid.centres_world()).T.reshape(4, 12, 16)
    expected = np.repeat(np.repeat(by_patch(0)[0].numpy(), 4, axis=1), 4, axis=2)
    np.testing.assert_array_equal(found, expected)
    assert found.dtype == np.float32


def test_beyond_the_image_the_attention_is_that_of_the_nearest_patch(attentive):
    points = np.array([[-50.0, -50.0], [200.0, 3.0], [5.0, 999.0]])
    expected = by_patch(0)[0].numpy()[:, [0, 2, 1], [0, 0, 3]].T
    np.testing.assert_array_equal(attentive.attention(points, "voxel"), expected)
    assert attentive.attention(np.empty((0, 2))).shape == (0, 4)


def test_where_windows_overlap_their_attention_is_averaged(analytic_field):
    said = [weights(1, 0, 0, 0), weights(0, 0, 1, 0)]
    blocks = [Block((0, 0), (8, 8)), Block((0, 4), (8, 8))]
    field = analytic_field(
        three_classes,
        Grid((8, 12), Affine.identity(2)),
        class_names=("a", "b"),
        blocks=blocks,
        attention=said.__getitem__,
    )
    line = np.stack([np.full(200, 4.0), np.linspace(-3, 14, 200)], axis=-1)
    found = field.attention(line, "voxel")
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-6)
    np.testing.assert_array_equal(found[line[:, 1] < 3.4], [[1, 0, 0, 0]] * int((line[:, 1] < 3.4).sum()))
    assert (np.diff(found[:, 2]) >= -1e-6).all()
    middle = field.attention([[4.0, 5.5]], "voxel")
    np.testing.assert_allclose(middle, [[0.5, 0, 0.5, 0]], atol=1e-6)


def test_the_deciding_scale_is_the_stage_of_the_largest_weight(attentive):
    grid = attentive.image_grid.scaled(3)
    scale = finish(iter_deciding_scale(attentive, grid))
    expected = 1 + attentive.attention(grid.centres_world()).argmax(axis=1).reshape(grid.shape)
    np.testing.assert_array_equal(scale.array, expected)
    assert set(np.unique(scale.array)) == {1, 2, 3, 4}
    assert scale.array.dtype == np.uint8 and scale.grid == grid
    assert scale.class_names == ("F_2 (stride 4)", "F_3 (stride 8)", "F_4 (stride 16)", "F_5 (stride 32)")


def test_a_model_without_attention_says_so(field):
    with pytest.raises(ConfigError, match="no attention"):
        finish(iter_deciding_scale(field, field.image_grid))


# --- Files --------------------------------------------------------------------------------------


def some_map(affine: Affine, unit: str = "millimeter") -> ScalarMap:
    shape = (5, 6, 7)[: affine.ndim]
    array = np.random.default_rng(0).random(shape, np.float32)
    return ScalarMap(array, affine, unit, "probability of one")


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_a_nifti_keeps_every_number_and_the_affine(tmp_path, suffix):
    scalar_map = some_map(OBLIQUE)
    write_scalar_map(tmp_path / f"a{suffix}", scalar_map)
    again = read_image(tmp_path / f"a{suffix}")
    assert again.array.dtype == np.float32
    np.testing.assert_array_equal(again.array[..., 0], scalar_map.array)
    assert again.affine == OBLIQUE and again.unit == "millimeter"
    assert nibabel.load(tmp_path / f"a{suffix}").get_data_dtype() == np.float32


def test_a_written_map_is_no_label_map_to_other_programs(tmp_path):
    write_scalar_map(tmp_path / "a.nii", some_map(OBLIQUE))
    assert not holds_labels(tmp_path / "a.nii")


@pytest.mark.parametrize("name", ["a.tif", "a.TIFF", "a.ome.tif"])
@pytest.mark.parametrize("spacing", [(0.5, 0.25), (2.5, 0.3, 0.1625)])
def test_a_tiff_keeps_every_number_and_the_spacing(tmp_path, name, spacing):
    scalar_map = some_map(Affine.from_spacing(spacing), "micrometer")
    write_scalar_map(tmp_path / name, scalar_map)
    again = read_image(tmp_path / name)
    assert again.array.dtype == np.float32
    np.testing.assert_array_equal(again.array[..., 0], scalar_map.array)
    assert (again.spacing, again.unit) == (spacing, "micrometer")
    with tifffile.TiffFile(tmp_path / name) as tiff:
        assert tiff.is_ome if ".ome." in name else tiff.is_imagej


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a"])
def test_other_formats_are_refused(tmp_path, name):
    with pytest.raises(ImageError, match=r"cannot be written .* \.nii, \.nii\.gz, \.tif"):
        write_scalar_map(tmp_path / name, some_map(TURNED))


def test_a_failed_write_leaves_the_old_file_and_no_draft(tmp_path, monkeypatch):
    def half(path, scalar_map):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    write_scalar_map(tmp_path / "a.nii", some_map(OBLIQUE))
    before = (tmp_path / "a.nii").read_bytes()
    monkeypatch.setattr("swipe_core.images.nifti.write_nifti", half)
    with pytest.raises(ImageError, match="No space left"):
        write_scalar_map(tmp_path / "a.nii", some_map(OBLIQUE))
    assert (tmp_path / "a.nii").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["a.nii"]


def test_a_map_of_other_axes_than_its_affine_s_is_refused():
    with pytest.raises(ValueError, match=r"2D affine .* as many axes; got float32 of shape \(3, 4, 5\)"):
        ScalarMap(np.zeros((3, 4, 5), np.float32), TURNED, "millimeter", "nothing")


@pytest.mark.parametrize("affine", [TURNED, Affine.from_spacing((0.4, 2.0))], ids=["turned", "stretched"])
def test_the_band_is_as_wide_as_odds_need_from_half_to_95_percent(analytic_field, affine):
    """Log odds that rise by 0.7 for each unit of the world: 2.944 are reached after 4.2 of them."""
    grid = Grid((60, 60), affine)
    middle = affine.apply(np.array([[29.5, 29.5]]))[0]
    direction = np.array([0.6, 0.8])

    def logits(points):
        along = (affine.apply(points.numpy().astype(np.float64)) - middle) @ direction
        value = torch.from_numpy(0.7 * along).float()
        return torch.stack([torch.zeros_like(value), value], dim=-1)

    field = analytic_field(logits, grid)
    across = np.array([-0.8, 0.6])
    points = middle + np.linspace(-3, 3, 7)[:, None] * across
    widths = finish(iter_half_widths(field, points, 1))
    np.testing.assert_allclose(widths, np.log(19) / 0.7, rtol=1e-3)
    band = finish(iter_band(field, grid))
    along = np.abs((grid.centres_world() - middle) @ direction).reshape(grid.shape)
    expected = along < np.log(19) / 0.7
    assert (band.array == expected)[np.abs(along - np.log(19) / 0.7) > 1e-3].all()
    assert 0 < expected.mean() < 1


def test_a_flat_probability_has_no_width(analytic_field):
    field = analytic_field(lambda points: torch.zeros(len(points), 2), Grid((5, 5), Affine.identity(2)))
    assert np.isnan(finish(iter_half_widths(field, np.array([[2.0, 2.0]]), 1))).all()
