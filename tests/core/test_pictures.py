"""Pictures: outlines where the labels change, panels pixel for pixel, curves that always come out."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from swipe_core.errors import ImageError
from swipe_core.pictures import (
    CLASS_COLOURS,
    Panel,
    contact_sheet,
    default_colours,
    fitted_shape,
    overlay,
    to_rgb,
    write_curves,
    write_lines,
    write_png,
)
from tools.evidence import write_bars

RED, GREEN = (255, 0, 0), (0, 255, 0)


@pytest.fixture
def grey():
    return np.full((20, 30, 3), 100, np.uint8)


def square(shape=(20, 30)):
    labels = np.zeros(shape, np.uint8)
    labels[5:15, 8:20] = 1
    return labels


def read(path):
    with Image.open(path) as picture:
        return np.asarray(picture)


def is_colour(rgb, colour):
    return (rgb == np.array(colour)).all(-1)


@pytest.mark.parametrize("width", [1, 2])
def test_an_outline_is_as_wide_as_asked_and_lies_inside_its_class(grey, width):
    picture = overlay(grey, square(), ["#ff0000"], outline=width, alpha=0.0)
    expected = square() == 1
    expected[5 + width : 15 - width, 8 + width : 20 - width] = False
    np.testing.assert_array_equal(is_colour(picture, RED), expected)
    assert (picture[~expected] == 100).all()


def test_classes_that_touch_are_both_outlined_and_the_border_of_the_picture_is_not(grey):
    labels = np.ones((20, 30), int)
    labels[:, 15:] = 2
    picture = overlay(grey, labels, ["#ff0000", "#00ff00"], outline=1, alpha=0.0)
    assert is_colour(picture, RED).nonzero()[1].tolist() == [14] * 20
    assert is_colour(picture, GREEN).nonzero()[1].tolist() == [15] * 20


def test_areas_are_mixed_by_alpha_and_background_stays_clear(grey):
    picture = overlay(grey, square(), ["#ff0000"], outline=0, alpha=0.5)
    assert picture[10, 10].tolist() == [178, 50, 50]
    assert (picture[square() == 0] == 100).all()


def test_an_image_is_enlarged_smoothly_to_labels_of_a_higher_resolution():
    image = np.zeros((4, 4, 1), np.float32)
    image[:, 2:] = 1
    labels = np.zeros((64, 64), np.uint16)
    labels[:, 33:] = 7
    picture = overlay(image, labels, ["#ff0000"], outline=1, alpha=0.0)
    assert picture.shape == (64, 64, 3)
    assert is_colour(picture, RED).nonzero()[1].tolist() == [33] * 64
    assert len(np.unique(picture[:, :32])) > 5
    # Same extent, cell centres: the middle of the edge is the middle of the picture.
    np.testing.assert_allclose(
        picture[0, 31, 0].astype(int) + overlay(image, 0 * labels)[0, 32, 0], 255, atol=2
    )


def test_labels_shown_at_another_size_are_never_mixed_and_keep_sharp_outlines(grey):
    picture = overlay(grey, square(), ["#ff0000"], outline=1, alpha=0.0, shape=(80, 120))
    expected = np.repeat(np.repeat(square(), 4, 0), 4, 1) == 1
    expected[21:59, 33:79] = False
    np.testing.assert_array_equal(is_colour(picture, RED), expected)


def test_instances_beyond_the_palette_come_round_again(grey):
    labels = np.arange(1, 601, dtype=np.uint16).reshape(20, 30)
    picture = overlay(grey, labels, ["#ff0000", "#00ff00"], outline=0, alpha=1.0)
    np.testing.assert_array_equal(is_colour(picture, RED), labels % 2 == 1)


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("dtype", [bool, np.uint8, np.uint16, np.int32, np.float32])
def test_any_image_can_be_shown(channels, dtype):
    image = (np.arange(5 * 6 * channels).reshape(5, 6, channels) % 50).astype(dtype)
    rgb = to_rgb(image)
    assert rgb.shape == (5, 6, 3)
    assert rgb.dtype == np.uint8


def test_eight_bit_colour_is_untouched_and_a_window_maps_values_to_brightness(grey):
    np.testing.assert_array_equal(to_rgb(grey), grey)
    hounsfield = np.array([[[-1000], [-50], [100], [250], [np.nan]]])
    assert to_rgb(hounsfield, window=(-50.0, 250.0))[0, :, 0].tolist() == [0, 0, 128, 255, 0]


@pytest.mark.parametrize("value", [0, 3.5, np.nan])
def test_a_constant_image_is_one_shade(value):
    assert len(np.unique(to_rgb(np.full((3, 3, 1), value)))) == 1


def test_the_default_colours_are_far_apart_for_readers_with_colour_blindness_too():
    from skimage.color import deltaE_ciede2000, rgb2lab

    # Severe deuteranopia in linear RGB (Machado et al., IEEE TVCG 2009).
    deuteranopia = np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    )
    colours = np.array([list(bytes.fromhex(colour[1:])) for colour in CLASS_COLOURS]) / 255

    def least_distance(rgb):
        lab = rgb2lab(rgb)
        distances = deltaE_ciede2000(lab[:, None], lab[None])
        return distances[~np.eye(len(lab), dtype=bool)].min()

    assert len(colours) >= 14
    assert least_distance(colours) > 15
    assert least_distance(np.clip(colours[:8] ** 2.2 @ deuteranopia.T, 0, 1) ** (1 / 2.2)) > 10
    assert default_colours(20)[16] == CLASS_COLOURS[0]


def test_panels_of_a_sheet_appear_pixel_for_pixel_below_their_titles():
    rng = np.random.default_rng(0)
    panels = [rng.integers(0, 255, (h, w, 3)).astype(np.uint8) for h, w in [(40, 211), (61, 97), (33, 149)]]
    rows = [
        [Panel(panels[0], "first"), Panel(panels[1], "a title that takes several lines")],
        [Panel(panels[2])],
    ]
    sheet = contact_sheet(rows, legend={"polyp": "#00ddff", "reference": "#ffffff"})
    assert sheet.shape[1] == 8 + 211 + 8 + 97 + 8
    for panel in panels:
        windows = np.lib.stride_tricks.sliding_window_view(sheet, panel.shape)[:, :, 0]
        corners = np.argwhere((windows[..., 0, 0, :] == panel[0, 0]).all(-1))
        assert any((windows[tuple(corner)] == panel).all() for corner in corners)
    assert (sheet.reshape(-1, 3) == (0, 0xDD, 0xFF)).all(-1).sum() > 50


def test_the_long_side_fits_and_proportions_stay():
    assert fitted_shape((333, 416), 832) == (666, 832)
    assert fitted_shape((1000, 1), 100) == (100, 1)


def test_a_png_holds_what_was_written_and_leaves_no_other_file(tmp_path, grey):
    path = tmp_path / "new" / "picture.png"
    write_png(path, grey)
    write_png(path, grey + 1)
    np.testing.assert_array_equal(read(path), grey + 1)
    assert [file.name for file in path.parent.iterdir()] == ["picture.png"]


def test_a_picture_that_cannot_be_written_is_named(tmp_path, grey):
    (tmp_path / "file").write_text("", "utf-8")
    with pytest.raises(ImageError, match="file"):
        write_png(tmp_path / "file" / "picture.png", grey)


def test_a_single_bright_spot_stays_visible():
    image = np.zeros((50, 50, 1), np.uint16)
    image[20, 20] = 900
    assert to_rgb(image)[20, 20].tolist() == [255, 255, 255]
    assert to_rgb(image)[0, 0].tolist() == [0, 0, 0]


@pytest.mark.parametrize("count", [0, 1, 20, 400])
def test_curves_can_be_drawn_at_any_moment_of_a_training(tmp_path, count):
    records = [{"step": step, "loss": 1 / (step + 1), "phase": "train"} for step in range(count)]
    records += [{"step": step, "validation_dice": step / 400} for step in range(0, count, 10)]
    records += [{"step": count, "loss": float("nan"), "validation_dice": None}]
    write_curves(records, tmp_path / "curves.png")
    assert read(tmp_path / "curves.png").shape == (600, 800, 3)


def test_comparisons_are_drawn_with_gaps_where_a_number_is_missing(tmp_path):
    values = {
        "paper": {"U-Net": 63.89, "SwIPE": 85.05},
        "here": {"SwIPE": 84.0, "U-Net": float("nan")},
        "none": {},
    }
    write_bars(values, tmp_path / "bars.png", "Dice (%)")
    write_lines(
        {"SwIPE": [(100, 85.05), (10, 58.07)]}, tmp_path / "lines.png", "labels (%)", "Dice (%)", log_x=True
    )
    for name in ("bars.png", "lines.png"):
        assert read(tmp_path / name).std() > 1
