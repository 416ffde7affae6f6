"""The samples open with their references, and say whose they are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from napari_swipe._sample_data import sample_layers
from swipe_core.pictures import default_colours
from swipe_core.samples import SAMPLES


@pytest.mark.parametrize("name", SAMPLES)
def test_a_sample_opens_with_its_reference_hidden_and_at_the_same_place(name, make_napari_viewer):
    viewer = make_napari_viewer()
    image, reference = viewer.open_sample("napari-swipe", name)
    assert (type(image).__name__, type(reference).__name__) == ("Image", "Labels")
    assert image.visible and not reference.visible
    assert image.data.shape[: reference.ndim] == reference.data.shape
    corner = np.array(reference.data.shape) - 1
    np.testing.assert_allclose(image.data_to_world(corner), reference.data_to_world(corner))
    assert reference.name == f"{image.name} reference"
    assert image.axis_labels == reference.axis_labels


@pytest.mark.parametrize("name", SAMPLES)
def test_a_sample_says_whose_it_is_which_model_suits_it_and_where_its_file_lies(name):
    (_, image, _), (_, reference, _) = sample_layers(name)
    assert image["metadata"]["swipe_model"] in ("polyp", "hippocampus", "nuclei")
    assert image["metadata"]["attribution"] == reference["metadata"]["attribution"]
    assert "CC" in image["metadata"]["attribution"]
    for arguments in (image, reference):
        assert Path(arguments["metadata"]["path"]).is_file()


def test_the_classes_of_a_reference_have_their_names_and_colours():
    _, (labels, arguments, _) = sample_layers("hippocampus")
    assert np.unique(labels).tolist() == [0, 1, 2]
    assert arguments["features"]["class"] == ["background", "anterior", "posterior"]
    colours = arguments["colormap"].color_dict
    for label, colour in enumerate(default_colours(2), start=1):
        expected = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        np.testing.assert_allclose(colours[label][:3], expected, atol=1e-6)
    assert colours[None][3] == 0 and colours[0][3] == 0


def test_the_nuclei_are_shown_one_by_one():
    _, (labels, arguments, _) = sample_layers("nuclei")
    assert labels.max() >= 30
    assert "colormap" not in arguments and "features" not in arguments


def test_the_status_bar_names_the_class_under_the_cursor(make_napari_viewer):
    viewer = make_napari_viewer()
    _, reference = viewer.open_sample("napari-swipe", "hippocampus")
    reference.visible = True
    place = np.argwhere(reference.data == 2)[0]
    viewer.dims.set_point(0, reference.data_to_world(place)[0])
    status = reference.get_status(reference.data_to_world(place), world=True)
    assert "class: posterior" in status["value"]


@pytest.mark.parametrize("name", ["polyp", "flat_polyp"])
def test_the_frames_are_shown_in_colour_with_one_polyp(name):
    from scipy.ndimage import label

    (frame, arguments, _), (reference, _, _) = sample_layers(name)
    assert frame.shape == (*reference.shape, 3) and arguments["rgb"]
    assert label(reference)[1] == 1
