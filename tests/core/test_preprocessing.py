"""Preprocessing: every image becomes the tensor of the model, and knows the way back to the world."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from swipe_core.coordinates import Affine, image_to_voxel, voxel_centres, voxel_to_image
from swipe_core.data.preprocessing import PreprocessingConfig, preprocess, resampled
from swipe_core.errors import ImageError
from swipe_core.images import MedicalImage, read_image

RNG = np.random.default_rng(0)
OBLIQUE = Affine(np.array([[2.5, 0, 0, 7], [0, 0.75, -0.5, -3], [0, 0.5, 0.75, 11], [0, 0, 0, 1.0]]))
PLAIN_2D = PreprocessingConfig(ndim=2, channels=1)


def image_of(array: np.ndarray, affine: Affine | None = None, axis: str = "channel") -> MedicalImage:
    return MedicalImage(array, affine or Affine.identity(array.ndim - 1), "millimeter", channel_axis=axis)


def ramp(shape: tuple[int, ...], affine: Affine) -> np.ndarray:
    """An image whose value is linear in the world: interpolation reproduces it exactly."""
    world = affine.apply(voxel_centres(shape))
    slopes = np.arange(1, len(shape) + 1)
    return (world @ slopes).reshape(*shape, 1).astype(np.float32)


class TestTheWayBack:
    @pytest.mark.parametrize("target", [{"size": (8, 14, 9)}, {"spacing": (1.25, 0.45, 1.3)}, {}])
    def test_a_tensor_voxel_has_the_value_of_its_place_in_the_world(self, target):
        source = image_of(ramp((10, 12, 11), OBLIQUE), OBLIQUE)
        config = PreprocessingConfig(ndim=3, channels=1, intensity="window", window=(-1000, 1000), **target)
        prepared = preprocess(source, config)

        expected = ramp(prepared.shape, prepared.affine)[..., 0]
        found = prepared.tensor[0].numpy() * 2000 - 1000
        inside = (slice(3, -3),) * 3  # smoothing and the border bend a ramp
        np.testing.assert_allclose(found[inside], expected[inside], atol=1e-3)

    @pytest.mark.parametrize("target", [{"size": (5, 17)}, {"size": (20, 4)}, {"spacing": (1.5, 0.7)}])
    def test_the_extent_in_the_world_stays(self, target):
        affine = Affine(np.array([[0.5, -1.0, 4], [1.5, 0.25, -2], [0, 0, 1.0]]))
        prepared = preprocess(image_of(RNG.random((9, 13, 1)), affine), PLAIN_2D.model_copy(update=target))
        corners = np.array([[-1, -1], [-1, 1], [1, -1], [1, 1.0]])
        before = affine.apply(image_to_voxel(corners, (9, 13)))
        after = prepared.affine.apply(image_to_voxel(corners, prepared.shape))
        np.testing.assert_allclose(after, before, atol=1e-12)

    def test_a_point_of_the_tensor_and_of_the_source_are_one_in_the_image_frame(self):
        source = image_of(RNG.random((9, 13, 1)), Affine.from_spacing((0.5, 2.0)))
        prepared = preprocess(source, PLAIN_2D.model_copy(update={"size": (6, 26)}))
        points = RNG.random((20, 2)) * (6, 26)
        through_world = source.affine.inverse().apply(prepared.affine.apply(points))
        np.testing.assert_allclose(voxel_to_image(through_world, (9, 13)), voxel_to_image(points, (6, 26)))

    def test_without_a_target_the_voxels_stay_where_they_are(self):
        source = image_of(RNG.integers(0, 256, (4, 5, 6, 1), dtype=np.uint8), OBLIQUE)
        prepared = preprocess(source, PreprocessingConfig(ndim=3, channels=1))
        assert prepared.affine == OBLIQUE
        assert prepared.unit == "millimeter"
        np.testing.assert_allclose(prepared.tensor.numpy(), source.array[None, ..., 0] / 127.5 - 1, atol=1e-6)

    def test_the_size_is_exact_and_the_spacing_is_the_nearest_that_whole_voxels_allow(self):
        source = image_of(RNG.random((9, 13, 1)), Affine.from_spacing((1.0, 2.0)))
        assert preprocess(source, PLAIN_2D.model_copy(update={"size": (7, 8)})).shape == (7, 8)
        respaced = preprocess(source, PLAIN_2D.model_copy(update={"spacing": (2.0, 2.0)}))
        assert respaced.shape in {(4, 13), (5, 13)}
        assert respaced.grid.spacing == respaced.affine.spacing == (9 / respaced.shape[0], 2.0)

    def test_shrinking_averages_rather_than_skips(self):
        stripes = np.zeros((64, 64, 1), np.float32)
        stripes[:, ::2] = 1
        config = PreprocessingConfig(ndim=2, channels=1, intensity="window", window=(0, 1), size=(64, 16))
        shrunk = preprocess(image_of(stripes), config).tensor[0, :, 2:-2]
        assert (shrunk - 0.5).abs().max() < 0.02


class TestIntensity:
    def test_unit_maps_eight_bits_by_their_range(self):
        array = np.array([[[0], [51], [255]]], np.uint8)
        tensor = preprocess(image_of(array), PLAIN_2D).tensor
        assert torch.allclose(tensor, torch.tensor([[[-1.0, -0.6, 1.0]]]))
        signed = preprocess(image_of(np.array([[[-128], [127]]], np.int8)), PLAIN_2D).tensor
        assert signed.flatten().tolist() == [-1, 1]

    @pytest.mark.parametrize("dtype", [np.uint16, np.int16, np.int32, np.float32, np.float64])
    def test_unit_maps_all_else_from_its_least_to_its_greatest_value(self, dtype):
        array = np.array([[[100, 200, 300], [1100, 600, 350]]], dtype)
        config = PreprocessingConfig(ndim=2, channels=3)
        tensor = preprocess(image_of(array, axis="colour"), config).tensor
        np.testing.assert_allclose(tensor.numpy(), np.moveaxis((array - 600.0) / 500, -1, 0), atol=1e-6)

    def test_window_maps_to_0_and_1_and_clips(self):
        config = PreprocessingConfig(ndim=2, channels=1, intensity="window", window=(-1000, 1000))
        array = np.array([[[-3000], [-1000], [0], [500], [1000], [3000]]], np.int16)
        assert preprocess(image_of(array), config).tensor.flatten().tolist() == [0, 0, 0.5, 0.75, 1, 1]

    @pytest.mark.parametrize(("factor", "offset"), [(1, 0), (1e-4, 0), (300, 20_000)])
    def test_standardised_channels_have_mean_0_and_deviation_1_whatever_the_scanner_scaled(
        self, factor, offset
    ):
        array = RNG.normal(size=(16, 16, 16, 2)).astype(np.float32)
        config = PreprocessingConfig(ndim=3, channels=2, intensity="standardise")
        scaled = preprocess(image_of(array * np.float32(factor) + np.float32(offset)), config).tensor
        assert scaled.mean((1, 2, 3)).abs().max() < 1e-3
        assert (scaled.std((1, 2, 3), correction=0) - 1).abs().max() < 1e-3
        assert torch.allclose(scaled, preprocess(image_of(array), config).tensor, atol=2e-3)

    def test_an_outlier_does_not_move_what_is_standardised(self):
        array = RNG.normal(size=(32, 32, 1)).astype(np.float32)
        config = PreprocessingConfig(ndim=2, channels=1, intensity="standardise")
        without = preprocess(image_of(array), config).tensor[0]
        array[5, 5] = 1e6
        within = preprocess(image_of(array), config).tensor[0]
        rest = torch.ones(32, 32, dtype=torch.bool)
        rest[5, 5] = False
        assert (within - without)[rest].abs().max() < 0.1
        assert within.max() < 5

    @pytest.mark.parametrize(
        ("intensity", "value"), [({"intensity": "unit"}, -1), ({"intensity": "standardise"}, 0)]
    )
    @pytest.mark.parametrize("dtype", [np.float32, np.uint16])
    def test_a_constant_image_stays_finite(self, intensity, value, dtype):
        config = PreprocessingConfig(ndim=2, channels=1, **intensity)
        tensor = preprocess(image_of(np.full((5, 6, 1), 1234, dtype)), config).tensor
        assert torch.equal(tensor, torch.full((1, 5, 6), float(value)))

    def test_differences_below_single_precision_are_none(self):
        config = PreprocessingConfig(ndim=2, channels=1, intensity="standardise")
        array = np.arange(30, dtype=np.float64).reshape(5, 6, 1) * 1e-42
        assert torch.equal(preprocess(image_of(array), config).tensor, torch.zeros(1, 5, 6))

    @pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
    def test_values_that_a_tensor_cannot_hold_are_refused(self, value):
        array = np.zeros((4, 4, 1))
        array[0, 0] = value
        with pytest.raises(ImageError, match="NaN, infinite or too large"):
            preprocess(image_of(array), PLAIN_2D)

    @pytest.mark.parametrize("intensity", ["unit", "standardise"])
    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float64, ">i2", bool])
    @pytest.mark.parametrize("size", [None, (5, 6)])
    def test_the_tensor_is_single_precision_and_contiguous_and_the_image_untouched(
        self, intensity, dtype, size
    ):
        array = (RNG.random((8, 9, 3)) * 200).astype(dtype)
        before = array.copy()
        config = PreprocessingConfig(ndim=2, channels=3, intensity=intensity, size=size)
        tensor = preprocess(image_of(array, axis="colour"), config).tensor
        assert tensor.dtype == torch.float32 and tensor.is_contiguous()
        tensor.zero_()
        assert np.array_equal(array, before)


class TestChannels:
    def test_grey_is_repeated_for_a_model_of_rgb(self):
        array = RNG.integers(0, 256, (4, 5, 1), dtype=np.uint8)
        tensor = preprocess(image_of(array), PreprocessingConfig(ndim=2, channels=3)).tensor
        assert tensor.shape == (3, 4, 5)
        assert torch.equal(tensor[0], tensor[1]) and torch.equal(tensor[0], tensor[2])

    def test_rgb_becomes_luminance_for_a_model_of_grey(self):
        array = np.eye(3, dtype=np.uint8)[None] * 255
        tensor = preprocess(image_of(array, axis="colour"), PLAIN_2D).tensor
        np.testing.assert_allclose((tensor.numpy() + 1) / 2, [[[0.299, 0.587, 0.114]]], atol=1e-6)

    def test_a_grey_picture_stored_as_rgb_is_the_grey_picture(self):
        grey = RNG.integers(0, 256, (4, 5, 1), dtype=np.uint8)
        direct = preprocess(image_of(grey), PLAIN_2D).tensor
        by_way_of_rgb = preprocess(image_of(np.repeat(grey, 3, -1), axis="colour"), PLAIN_2D).tensor
        assert torch.allclose(direct, by_way_of_rgb, atol=1e-6)

    @pytest.mark.parametrize(("channels", "wanted"), [(2, 1), (2, 3), (4, 3), (3, 4), (1, 2)])
    def test_other_counts_of_channels_are_refused(self, channels, wanted):
        with pytest.raises(ImageError, match=rf"has {channels} channels?; this model takes {wanted}"):
            preprocess(image_of(np.zeros((4, 5, channels))), PreprocessingConfig(ndim=2, channels=wanted))

    @pytest.mark.parametrize("axis", ["channel", "time", "page"])
    @pytest.mark.parametrize("wanted", [1, 3])
    def test_what_is_not_declared_as_colour_is_neither_mixed_nor_taken_for_colour(self, axis, wanted):
        image = image_of(RNG.integers(0, 256, (4, 5, 3), dtype=np.uint8), axis=axis)
        with pytest.raises(ImageError, match=rf"has 3 .*; this model takes {wanted} .*--(channel|time)"):
            preprocess(image, PreprocessingConfig(ndim=2, channels=wanted))

    def test_a_model_of_three_dyes_takes_three_dyes_in_their_order(self):
        array = RNG.integers(0, 256, (4, 5, 3), dtype=np.uint8)
        config = PreprocessingConfig(ndim=2, channels=3, channel_axis="channel")
        tensor = preprocess(image_of(array), config).tensor
        np.testing.assert_allclose(tensor.numpy(), np.moveaxis(array / 127.5 - 1, -1, 0), atol=1e-6)

    def test_a_grey_picture_is_not_repeated_for_a_model_of_three_dyes(self):
        config = PreprocessingConfig(ndim=2, channels=3, channel_axis="channel")
        with pytest.raises(ImageError, match="has 1 channel; this model takes 3 channels"):
            preprocess(image_of(np.zeros((4, 5, 1))), config)

    def test_channels_are_chosen_by_number_and_by_name_in_the_order_that_is_given(self):
        array = RNG.integers(0, 256, (4, 5, 4), dtype=np.uint8)
        image = replace(image_of(array), channel_names=("GFP", "RFP", "DAPI", "Cy5"))
        chosen = image.with_channels(["dapi", "1"])
        assert np.array_equal(chosen.array, array[..., [2, 0]])
        assert chosen.channel_names == ("DAPI", "GFP")

    def test_three_chosen_channels_serve_as_colours(self):
        array = RNG.integers(0, 256, (4, 5, 4), dtype=np.uint8)
        image = image_of(array).with_channels(["4", "2", "1"])
        tensor = preprocess(image, PreprocessingConfig(ndim=2, channels=3)).tensor
        expected = np.moveaxis(array[..., [3, 1, 0]] / 127.5 - 1, -1, 0)
        np.testing.assert_allclose(tensor.numpy(), expected, atol=1e-6)

    def test_one_colour_of_three_can_be_chosen(self):
        array = RNG.integers(0, 256, (4, 5, 3), dtype=np.uint8)
        chosen = image_of(array, axis="colour").with_channels(["green"])
        assert np.array_equal(chosen.array, array[..., 1:2])

    @pytest.mark.parametrize("wanted", ["0", "4", "-1", "DAP", "1.5", ""])
    def test_a_channel_that_is_not_there_is_refused_with_those_that_are(self, wanted):
        image = replace(image_of(np.zeros((4, 5, 3))), channel_names=("GFP", "RFP", "DAPI"))
        with pytest.raises(ImageError, match=r"3 channels \(GFP, RFP, DAPI\).*from 1 to 3"):
            image.with_channels([wanted])

    @pytest.mark.parametrize(("channels", "wanted"), [(1, 3), (3, 1)])
    def test_the_contrasts_of_a_volume_are_no_colours(self, channels, wanted):
        with pytest.raises(ImageError, match="this model takes"):
            preprocess(image_of(np.zeros((4, 5, 6, channels))), PreprocessingConfig(ndim=3, channels=wanted))

    def test_a_volume_is_refused_by_a_model_for_pictures(self):
        with pytest.raises(ImageError, match="is 3D, and this model is for 2D"):
            preprocess(image_of(np.zeros((4, 5, 6, 1))), PLAIN_2D)


class TestConfig:
    @pytest.mark.parametrize(
        ("fields", "reason"),
        [
            ({"intensity": "window"}, "window"),
            ({"window": (0, 1)}, "window"),
            ({"intensity": "window", "window": (5, 5)}, "higher"),
            ({"size": (8, 8), "spacing": (1.0, 1.0)}, "exclude"),
            ({"size": (8, 8, 8)}, "needs 2 numbers"),
            ({"spacing": (1.0,)}, "needs 2 numbers"),
            ({"size": (8, 0)}, "greater than 0"),
            ({"spacing": (1.0, -1.0)}, "greater than 0"),
            ({"ndim": 4}, "ndim"),
            ({"channels": 0}, "channels"),
            ({"intensity": "none"}, "intensity"),
            ({"spaceing": (1.0, 1.0)}, "spaceing"),
        ],
    )
    def test_a_config_that_contradicts_itself_is_refused(self, fields, reason):
        with pytest.raises(ValidationError, match=reason):
            PreprocessingConfig(**{"ndim": 2, "channels": 1, **fields})

    def test_a_config_survives_being_saved(self):
        config = PreprocessingConfig(
            ndim=3, channels=1, intensity="window", window=(-1, 1), spacing=(3, 1, 1)
        )
        assert PreprocessingConfig.model_validate_json(config.model_dump_json()) == config


class TestRealData:
    def test_the_ct_of_the_paper_is_respaced_windowed_and_keeps_its_corner(self, shared_data):
        image = read_image(shared_data / "ct-example/images/example_ct_sm.nii.gz")
        config = PreprocessingConfig(
            ndim=3, channels=1, intensity="window", window=(-1000, 1000), spacing=(3, 4, 4)
        )
        prepared = preprocess(image, config)
        assert np.allclose(prepared.grid.spacing, (3, 4, 4), rtol=0.02)
        assert 0 <= prepared.tensor.min() < prepared.tensor.max() <= 1
        corner = image_to_voxel(np.full((1, 3), -1.0), image.shape)
        corner_prepared = image_to_voxel(np.full((1, 3), -1.0), prepared.shape)
        np.testing.assert_allclose(image.affine.apply(corner), prepared.affine.apply(corner_prepared))

    def test_hippocampi_of_any_scanner_come_in_one_range(self, shared_data):
        config = PreprocessingConfig(ndim=3, channels=1, intensity="standardise", size=(32, 48, 32))
        for path in sorted((shared_data / "hippocampus/val/images").iterdir())[:4]:
            tensor = preprocess(read_image(path), config).tensor
            assert tensor.shape == (1, 32, 48, 32)
            assert tensor.abs().max() < 6

    def test_a_frame_of_any_shape_becomes_the_square_of_the_model(self, shared_data):
        path = sorted((shared_data / "polypgen/val/images").iterdir())[0]
        prepared = preprocess(read_image(path), PreprocessingConfig(ndim=2, channels=3, size=(384, 384)))
        assert prepared.tensor.shape == (3, 384, 384)
        assert prepared.tensor.min() >= -1 and prepared.tensor.max() <= 1


class TestResampled:
    @pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32])
    def test_a_coarser_image_lies_where_the_fine_one_did_and_keeps_its_kind_of_values(self, dtype):
        array = np.broadcast_to(np.arange(0, 80, 2)[:, None, None], (40, 20, 1)).astype(dtype)
        image = MedicalImage(array, Affine.from_spacing((1.0, 2.0)), "millimeter")
        coarse = resampled(image, image.grid.scaled((0.5, 1.0)))
        assert (coarse.shape, coarse.spacing, coarse.array.dtype) == ((20, 20), (2.0, 2.0), dtype)
        # A ramp keeps its value at every place of the world.
        world = coarse.affine.apply(np.array([[10.0, 5.0]]))
        fine = image.affine.inverse().apply(world)
        assert float(coarse.array[10, 5, 0]) == pytest.approx(2 * fine[0, 0], abs=1)


def test_a_range_is_that_of_the_image_without_its_outliers():
    values = np.linspace(100, 300, 1000, dtype=np.float32)
    values[-1] = 60_000
    image = MedicalImage(values.reshape(10, 100, 1), Affine.identity(2), "pixel")
    tensor = preprocess(image, PreprocessingConfig(ndim=2, channels=1, intensity="range")).tensor
    assert (float(tensor.min()), float(tensor.max())) == (-1, 1)
    assert float(tensor.flatten()[500]) == pytest.approx(0, abs=0.02)
