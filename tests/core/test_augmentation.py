"""Laws of augmentation: points follow the image exactly, and nothing varies that was not asked to."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from scipy import ndimage

from swipe_core.coordinates import Affine, image_to_voxel, sample_at, voxel_centres, voxel_to_image
from swipe_core.data.appearance import Appearance
from swipe_core.data.augmentation import (
    AugmentationConfig,
    SpatialTransform,
    draw_appearance,
    draw_spatial,
)
from swipe_core.data.preprocessing import resampled
from swipe_core.errors import ConfigError
from swipe_core.images import MedicalImage

EVERYTHING = AugmentationConfig(flip=0.5, rotation=1, scale=1, colour=1, intensity=1)
NOTHING = AugmentationConfig(flip=0, rotation=0, scale=0, colour=0, intensity=0)
# Source shape, output shape, spacing: anisotropic, odd and even sizes, smaller and larger than the source.
GEOMETRIES = [
    pytest.param((60, 81), (60, 81), (1.0, 1.0), id="2D-whole"),
    pytest.param((60, 81), (48, 50), (0.7, 1.9), id="2D-crop-anisotropic"),
    pytest.param((31, 44, 40), (31, 44, 40), (2.5, 1.0, 0.8), id="3D-whole-anisotropic"),
    pytest.param((31, 44, 40), (26, 33, 48), (1.5, 1.0, 1.0), id="3D-crop-and-pad"),
]
SEEDS = range(6)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def middle(shape: tuple[int, ...]) -> tuple[float, ...]:
    return tuple((n - 1) / 2 for n in shape)


def draw(config, source, output, spacing, seed: int) -> SpatialTransform:
    return draw_spatial(config, source, output, middle(source), spacing, generator(seed))


def blob(shape: tuple[int, ...], centre_voxel: np.ndarray, width: float) -> torch.Tensor:
    distance = ((voxel_centres(shape) - centre_voxel) ** 2).sum(axis=-1)
    return torch.from_numpy(np.exp(-distance / (2 * width**2)).reshape(1, *shape)).float()


def smooth_image(shape: tuple[int, ...], channels: int = 2) -> torch.Tensor:
    """Waves whose second derivative is small, so that linear interpolation is nearly exact."""
    positions = torch.from_numpy(voxel_centres(shape))
    waves = [torch.cos(positions * (0.05 + 0.02 * c)).prod(dim=-1) for c in range(channels)]
    return torch.stack(waves).reshape(channels, *shape).float()


def centre_of_mass(image: torch.Tensor) -> np.ndarray:
    weights = image[0].double().numpy()
    return (voxel_centres(weights.shape) * weights.reshape(-1, 1)).sum(axis=0) / weights.sum()


# --- Points and image ---------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("source", "output", "spacing"), GEOMETRIES)
def test_mapping_points_to_the_output_and_back_is_the_identity(source, output, spacing, seed):
    transform = draw(EVERYTHING, source, output, spacing, seed)
    points = 2 * torch.rand(7, 30, len(source), generator=generator(seed)) - 1
    there_and_back = transform.to_source_image(transform.to_output_image(points))
    assert there_and_back.dtype == torch.float32
    torch.testing.assert_close(there_and_back, points, atol=2e-6, rtol=0)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("source", "output", "spacing"), GEOMETRIES)
def test_the_warped_image_at_mapped_points_equals_the_source_at_the_points(source, output, spacing, seed):
    transform = draw(EVERYTHING, source, output, spacing, seed)
    image = smooth_image(source)
    points_source = 1.6 * torch.rand(4000, len(source), generator=generator(seed)) - 0.8
    points_output = transform.to_output_image(points_source)
    inside = (points_output.abs() < 1 - 2 / min(output)).all(dim=-1)
    assert inside.sum() > 200
    warped = transform.apply_image(image)
    assert warped.shape == (2, *output)
    found = sample_at(warped, points_output[inside])
    expected = sample_at(image, points_source[inside])
    # A wrong half voxel would show as about 0.03.
    torch.testing.assert_close(found, expected, atol=3e-3, rtol=0)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("source", "output", "spacing"), GEOMETRIES)
def test_the_centre_of_a_warped_blob_is_the_mapped_centre(source, output, spacing, seed):
    transform = draw(EVERYTHING, source, output, spacing, seed)
    # Off the middle, and on no voxel; the sizes leave four standard deviations around it.
    centre = np.asarray(middle(source)) + np.array([0.9, -2.3, 1.6])[: len(source)]
    warped = transform.apply_image(blob(source, centre, width=2.0))
    expected = transform.to_output_image(torch.from_numpy(voxel_to_image(centre, source)))
    found = centre_of_mass(warped)
    np.testing.assert_allclose(found, image_to_voxel(expected.numpy(), output), atol=0.02)


@pytest.mark.parametrize("config", [NOTHING, None])
@pytest.mark.parametrize("shape", [(24, 31), (9, 12, 17)])
def test_no_augmentation_is_exactly_the_identity(config, shape):
    image = torch.rand(3, *shape, generator=generator())
    points = 2 * torch.rand(500, len(shape), generator=generator()) - 1
    transform = draw(config, shape, shape, (0.3,) * len(shape), seed=1)
    assert transform.affine == Affine.identity(len(shape))
    assert torch.equal(transform.apply_image(image), image)
    torch.testing.assert_close(transform.to_output_image(points), points, atol=1e-7, rtol=0)
    assert torch.equal(draw_appearance(config, True, generator()).apply(image), image)


def test_without_a_configuration_no_randomness_is_spent():
    source = generator(3)
    before = source.get_state()
    draw_spatial(None, (8, 8), (4, 4), (3.0, 3.0), (1.0, 1.0), source)
    draw_appearance(None, True, source)
    assert torch.equal(source.get_state(), before)


@pytest.mark.parametrize("axes", [(0,), (1,), (0, 1)])
def test_a_flip_alone_copies_the_voxels(axes):
    image = torch.rand(1, 10, 13, generator=generator())
    config = NOTHING.model_copy(update={"flip": 1.0, "flip_axes": axes})
    transform = draw(config, (10, 13), (10, 13), (0.7, 0.3), seed=0)
    assert torch.equal(transform.apply_image(image), image.flip([axis + 1 for axis in axes]))
    corner = torch.tensor([-0.9, -0.4])
    mirrored = corner * torch.tensor([-1.0 if axis in axes else 1.0 for axis in range(2)])
    torch.testing.assert_close(transform.to_output_image(corner), mirrored)


@pytest.mark.parametrize("flip", [0.0, 1.0])
def test_a_crop_alone_copies_the_voxels_whatever_the_centre(flip):
    image = torch.rand(2, 20, 25, 22, generator=generator())
    config = NOTHING.model_copy(update={"flip": flip})
    transform = draw_spatial(
        config, (20, 25, 22), (8, 9, 10), (7.5, 12.0, 13.3), (3.0, 1.0, 1.0), generator()
    )
    expected = image[:, 4:12, 8:17, 9:19]
    assert torch.equal(transform.apply_image(image), expected.flip([1, 2, 3]) if flip else expected)


def test_the_fast_copy_and_the_interpolation_agree():
    image = torch.rand(2, 12, 15, generator=generator())
    linear = np.diag([-1.0, 1.0])
    copied = SpatialTransform(Affine.from_parts(linear, [8.0, 3.0]), (6, 7), (12, 15))
    nudged = SpatialTransform(Affine.from_parts(linear, [8.0 + 1e-9, 3.0]), (6, 7), (12, 15))
    torch.testing.assert_close(copied.apply_image(image), nudged.apply_image(image), atol=1e-5, rtol=0)


@pytest.mark.parametrize(("padding", "outside"), [("zeros", 0.0), ("border", 5.0), ("reflection", 5.0)])
def test_a_crop_larger_than_the_image_is_padded_as_configured(padding, outside):
    config = NOTHING.model_copy(update={"padding": padding})
    transform = draw(config, (6, 6), (12, 10), (1.0, 1.0), seed=0)
    warped = transform.apply_image(torch.full((1, 6, 6), 5.0))
    torch.testing.assert_close(warped[:, 3:9, 2:8], torch.full((1, 6, 6), 5.0))
    assert warped[0, 0, 0] == pytest.approx(outside)


def test_a_rotation_is_rigid_in_the_world_and_of_at_most_the_given_angle():
    config = NOTHING.model_copy(update={"rotation": 1.0, "rotation_degrees": 30.0})
    spacing = np.array([5.0, 1.0, 0.5])
    for seed in range(50):
        linear = draw(config, (9, 9, 9), (9, 9, 9), tuple(spacing.tolist()), seed).affine.linear
        world = linear * spacing[:, None] / spacing
        np.testing.assert_allclose(world @ world.T, np.eye(3), atol=1e-12)
        assert np.linalg.det(world) == pytest.approx(1)
        angle = math.degrees(math.acos(min(1.0, (np.trace(world) - 1) / 2)))
        assert angle <= 30 + 1e-6


def test_the_centre_of_the_crop_stays_in_the_middle_of_the_output():
    centre = (11.3, 20.9)
    transform = draw_spatial(EVERYTHING, (40, 40), (15, 16), centre, (2.0, 1.0), generator(5))
    np.testing.assert_allclose(transform.affine.apply(np.array(middle((15, 16)))), centre, atol=1e-9)


def test_a_scale_above_one_enlarges_the_objects():
    config = NOTHING.model_copy(update={"scale": 1.0, "scale_range": (2.0, 2.0)})
    transform = draw(config, (40, 40), (40, 40), (1.0, 1.0), seed=0)
    np.testing.assert_allclose(transform.affine.linear, 0.5 * np.eye(2))
    torch.testing.assert_close(
        transform.to_output_image(torch.tensor([0.2, -0.3])), torch.tensor([0.4, -0.6])
    )


# --- Drawing ------------------------------------------------------------------------------------


# --- Smaller images -------------------------------------------------------------------------------


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=generator())


@pytest.mark.parametrize("factor", [2, 3])
@pytest.mark.parametrize("shape", [(24, 36), (12, 18, 24)], ids=["2D", "3D"])
def test_a_smaller_image_is_that_which_preprocessing_makes(shape, factor):
    """Detail that the network will never see in an image of that size does not alias into it."""
    image, small = noise(2, *shape), tuple(n // factor for n in shape)
    linear, first = np.eye(len(shape)) * factor, np.full(len(shape), (factor - 1) / 2)
    zoomed = SpatialTransform(Affine.from_parts(linear, first), small, shape).apply_image(image)
    stored = MedicalImage(np.moveaxis(image.numpy(), 0, -1), Affine.identity(len(shape)), "pixel")
    prepared = resampled(stored, stored.grid.resized(small)).array
    torch.testing.assert_close(zoomed, torch.from_numpy(np.moveaxis(prepared, -1, 0)), atol=1e-5, rtol=1e-5)
    plain = sample_at(image, torch.from_numpy(voxel_to_image(voxel_centres(small), small)).float())
    assert plain.std() > 1.2 * zoomed.flatten(1).std()


@pytest.mark.parametrize("padding", ["border", "zeros", "reflection"])
@pytest.mark.parametrize(
    ("source", "output"), [((90, 70), (24, 20)), ((40, 30), (24, 20)), ((30,) * 3, (9,) * 3)]
)
def test_only_what_the_output_shows_is_smoothed_and_it_is_as_if_all_were(source, output, padding):
    config = AugmentationConfig(
        rotation=1, scale=1, scale_range=(0.5, 0.5), padding=padding, rotation_degrees=40
    )
    image, spacing = noise(2, *source), (1.0, 1.5, 0.8)[: len(source)]
    for seed in SEEDS:
        drawn = draw(config, source, output, spacing, seed)
        whole = torch.from_numpy(
            ndimage.gaussian_filter(image.numpy(), (0, *[0.5] * len(source)), mode="nearest")
        )
        # The same places in an image that was smoothed before, read without smoothing.
        lattice = torch.from_numpy(voxel_to_image(voxel_centres(output), output)).float()
        wanted = sample_at(whole, drawn.to_source_image(lattice), padding).reshape(2, *output)
        torch.testing.assert_close(drawn.apply_image(image), wanted, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("magnification", "filtered"), [(0.5, 1), (0.65, 1), (0.8, 0), (1.0, 0), (2.0, 0)])
def test_an_image_is_smoothed_only_where_voxels_become_much_larger(monkeypatch, magnification, filtered):
    calls = []
    original = ndimage.gaussian_filter
    monkeypatch.setattr(
        ndimage, "gaussian_filter", lambda *a, **k: calls.append(a[0].size) or original(*a, **k)
    )
    linear = np.array([[0.8, -0.6], [0.6, 0.8]]) / magnification
    SpatialTransform(Affine.from_parts(linear, [40.0, 30.0]), (10, 10), (96, 96)).apply_image(
        noise(1, 96, 96)
    )
    assert len(calls) == filtered
    assert all(size < 96 * 96 / 3 for size in calls)


def test_the_same_seed_draws_the_same_parameters_and_another_seed_others():
    first, again, other = (draw(EVERYTHING, (9, 9), (9, 9), (1.0, 1.0), seed) for seed in (4, 4, 5))
    assert first.affine == again.affine
    assert first.affine != other.affine
    looks = [draw_appearance(EVERYTHING, True, generator(seed)) for seed in (4, 4, 5)]
    assert looks[0] == looks[1] != looks[2]


def test_turning_one_part_off_leaves_the_draws_of_the_others():
    still = EVERYTHING.model_copy(update={"rotation": 0.0})
    for seed in SEEDS:
        turned, upright = (
            draw(c, (9, 9), (9, 9), (1.0, 1.0), seed).affine.linear for c in (EVERYTHING, still)
        )
        assert np.linalg.det(turned) == pytest.approx(np.linalg.det(upright))


@pytest.mark.parametrize("probability", [0.0, 0.3, 1.0])
def test_parameters_are_drawn_as_often_as_configured(probability):
    source, draws = generator(0), 600
    config = AugmentationConfig(
        flip=probability,
        rotation=probability,
        scale=probability,
        colour=probability,
        intensity=probability,
    )
    counts = np.zeros(6)
    for _ in range(draws):
        linear = draw_spatial(config, (9, 9), (9, 9), (4.0, 4.0), (1.0, 1.0), source).affine.linear
        look = draw_appearance(config, True, source)
        # The angle never reaches 90 degrees, so a negative diagonal is a flip.
        counts += [
            linear[0, 0] < 0,
            linear[1, 1] < 0,
            linear[0, 1] != 0,
            abs(abs(np.linalg.det(linear)) - 1) > 1e-9,
            look.hue != 0,
            look.gamma != 1,
        ]
    tolerance = 4 * math.sqrt(probability * (1 - probability) / draws)
    np.testing.assert_allclose(counts / draws, probability, atol=tolerance)


def test_drawn_parameters_fill_their_ranges_and_stay_within():
    source = generator(1)
    looks = [draw_appearance(EVERYTHING, True, source) for _ in range(400)]
    for name, low, high in [
        ("contrast", 0.8, 1.2),
        ("brightness", -0.2, 0.2),
        ("saturation", 0.8, 1.2),
        ("hue", -0.05, 0.05),
        ("gamma", 0.7, 1.5),
        ("noise", 0.0, 0.1),
    ]:
        values = np.array([getattr(look, name) for look in looks])
        margin = 0.1 * (high - low)
        assert low <= values.min() < low + margin and high - margin < values.max() <= high, name


def test_flips_happen_only_on_the_allowed_axes():
    source = generator(2)
    config = NOTHING.model_copy(update={"flip": 0.5, "flip_axes": (0, 2)})
    signs = [
        np.diag(draw_spatial(config, (5, 5, 5), (5, 5, 5), (2.0,) * 3, (1.0,) * 3, source).affine.linear)
        for _ in range(100)
    ]
    flipped = np.mean(np.array(signs) < 0, axis=0)
    assert flipped[1] == 0
    assert 0.3 < flipped[0] < 0.7 and 0.3 < flipped[2] < 0.7


def test_a_flip_axis_that_the_image_lacks_is_named_in_the_error():
    config = AugmentationConfig(flip_axes=(0, 2))
    with pytest.raises(ConfigError, match=r"axes 0 to 1 of a 2D image; got \[0, 2\]"):
        draw(config, (9, 9), (9, 9), (1.0, 1.0), seed=0)


@pytest.mark.parametrize(
    "settings",
    [{"flip": 1.5}, {"scale_range": (1.2, 0.8)}, {"scale_range": (0, 1)}, {"flip_axes": (-1,)}, {"shear": 1}],
)
def test_unusable_settings_are_refused(settings):
    with pytest.raises(ValidationError):
        AugmentationConfig(**settings)


# --- Appearance ---------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(1, 16, 20), (3, 16, 20), (2, 6, 7, 8), (3, 6, 7, 8)])
def test_appearance_keeps_the_shape_and_stays_finite(shape):
    image = 3 * torch.randn(shape, generator=generator())
    for seed in range(20):
        changed = draw_appearance(EVERYTHING, shape[0] == 3, generator(seed)).apply(image)
        assert changed.shape == image.shape and changed.dtype == image.dtype
        assert changed.isfinite().all()
        assert not torch.equal(changed, image)


@pytest.mark.parametrize("value", [-1.0, 0.0, 0.7])
def test_a_constant_image_survives(value):
    image = torch.full((3, 12, 12), value)
    for seed in range(10):
        torch.testing.assert_close(draw_appearance(EVERYTHING, True, generator(seed)).apply(image), image)
        warped = draw(EVERYTHING, (12, 12), (12, 12), (1.0, 2.0), seed).apply_image(image)
        torch.testing.assert_close(warped, image)


def test_appearance_means_the_same_in_every_normalised_range():
    image = torch.rand(3, 20, 20, generator=generator())
    for seed in range(10):
        look = draw_appearance(EVERYTHING, True, generator(seed))
        torch.testing.assert_close(look.apply(2 * image - 1), 2 * look.apply(image) - 1, atol=1e-5, rtol=0)


def test_applying_an_appearance_twice_gives_the_same_image_and_leaves_the_given_one():
    image = torch.rand(3, 8, 8, generator=generator())
    before = image.clone()
    look = Appearance(gamma=1.2, contrast=0.9, brightness=0.1, hue=0.02, noise=0.1, noise_seed=7)
    assert torch.equal(look.apply(image), look.apply(image))
    assert torch.equal(image, before)


def test_contrast_and_brightness_act_on_the_deviation_and_the_mean():
    image = torch.rand(2, 30, 30, generator=generator())
    changed = Appearance(contrast=1.2, brightness=-0.5).apply(image)
    mean, deviation = image.mean(dim=(1, 2)), image.std(dim=(1, 2), correction=0)
    torch.testing.assert_close(changed.mean(dim=(1, 2)), mean - 0.5 * deviation)
    torch.testing.assert_close(changed.std(dim=(1, 2), correction=0), 1.2 * deviation)


def test_gamma_keeps_the_smallest_and_largest_values():
    image = torch.randn(1, 30, 30, generator=generator())
    changed = Appearance(gamma=1.4).apply(image)
    torch.testing.assert_close(changed.aminmax(), image.aminmax())
    assert changed.mean() < image.mean()


def test_hue_turns_about_the_grey_axis_and_saturation_scales_from_it():
    image = torch.rand(3, 10, 10, generator=generator())
    third = Appearance(hue=1 / 3).apply(image)
    torch.testing.assert_close(third, image.roll(1, dims=0))
    torch.testing.assert_close(
        Appearance(saturation=0.0).apply(image), image.mean(0, keepdim=True).expand(3, 10, 10)
    )
    turned = Appearance(hue=0.03, saturation=1.1).apply(image)
    torch.testing.assert_close(turned.mean(0), image.mean(0))


def test_saturation_and_hue_are_drawn_for_colours_only():
    look = draw_appearance(EVERYTHING, False, generator())
    assert (look.saturation, look.hue) == (1, 0)
