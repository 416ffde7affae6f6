"""A format of images is one module and one `Format`: everything else finds it there.

This file is the module of such a format: a text file with a line for each row of a picture. It says how a
new one is added.
"""

from __future__ import annotations

import inspect
from pathlib import Path

import numpy as np
import pytest

from swipe_core.checkpoints.file import Checkpoint, save_checkpoint
from swipe_core.coordinates import Affine
from swipe_core.data.cases import find_cases
from swipe_core.errors import ImageError
from swipe_core.images import (
    LabelMap,
    MedicalImage,
    ScalarMap,
    formats,
    read_header,
    read_image,
    read_label_map,
    write_image,
    write_label_map,
    write_scalar_map,
)
from swipe_core.images.finding import find_images
from swipe_core.images.formats import FORMATS, Format, ImageHeader, imported
from swipe_core.images.source import ImageSource
from swipe_core.networks.swipe.build import build_swipe
from swipe_core.prediction.predictor import Predictor
from swipe_core.prediction.request import Request
from swipe_core.prediction.result import iter_segment_file, output_files
from swipe_core.progress import finish

GREY = np.arange(256, dtype=np.uint8).reshape(16, 16)
FUNCTIONS = ("reader", "header_reader", "label_writer", "stack_writer", "image_writer", "map_writer")


def read_text(path: Path, ndim: int | None = None, as_labels: bool = False) -> MedicalImage:
    array = np.loadtxt(path, ndmin=2)
    return MedicalImage(array[..., None], Affine.identity(2), "pixel", path)


def read_text_header(path: Path) -> ImageHeader:
    return ImageHeader(channels=1)


def write_text(path: Path, values: LabelMap | ScalarMap) -> None:
    np.savetxt(path, values.array)


TEXT = Format(
    "text",
    (".rows",),
    reader=f"{__name__}:read_text",
    header_reader=f"{__name__}:read_text_header",
    label_writer=f"{__name__}:write_text",
    map_writer=f"{__name__}:write_text",
)


@pytest.fixture
def text_format(monkeypatch):
    monkeypatch.setattr(formats, "FORMATS", (*FORMATS, TEXT))


@pytest.fixture
def picture(tmp_path, text_format) -> Path:
    np.savetxt(tmp_path / "a.rows", GREY)
    return tmp_path / "a.rows"


def test_images_and_label_maps_of_a_new_format_are_read_and_found(picture, tmp_path):
    assert np.array_equal(read_image(picture).array[..., 0], GREY)
    assert np.array_equal(read_label_map(picture).array, GREY)
    assert read_header(picture).channels == 1
    assert find_images([tmp_path]).images == [ImageSource(picture)]


def test_label_maps_and_scalar_maps_of_a_new_format_come_back_and_images_are_refused(text_format, tmp_path):
    path, place = tmp_path / "b.rows", (Affine.identity(2), "pixel")
    write_label_map(path, LabelMap(GREY, *place))
    assert np.array_equal(read_label_map(path).array, GREY)
    write_scalar_map(path, ScalarMap(GREY.astype(np.float32) / 256, *place, "doubt"))
    assert np.array_equal(read_image(path).array[..., 0], GREY / 256)
    with pytest.raises(ImageError, match="cannot be written as an image"):
        write_image(path, MedicalImage(GREY[..., None], *place))


def test_a_new_format_serves_as_image_and_as_label_file_of_a_case(text_format, tmp_path):
    for kind in ("images", "labels"):
        (tmp_path / kind).mkdir()
        np.savetxt(tmp_path / kind / "a.rows", GREY)
    (case,) = find_cases(tmp_path)
    assert case.label_path == tmp_path / "labels" / "a.rows"


def test_labels_and_maps_of_an_image_are_predicted_in_its_own_new_format(picture, tiny_config, tmp_path):
    output, checkpoint = tmp_path / "labels", tmp_path / "model.safetensors"
    output.mkdir()
    config = tiny_config()
    weights = build_swipe(config.model).state_dict()
    save_checkpoint(checkpoint, Checkpoint(config.checkpoint_content(), weights))
    request, predictor = Request(uncertainty=True), Predictor.load(checkpoint)
    path, answer = finish(iter_segment_file(predictor, ImageSource(picture), request, output))
    assert path == output / "a.rows"
    assert np.array_equal(read_label_map(path).array, answer.segmentation.array)
    files = output_files(ImageSource(picture), output, request, 2)
    assert files["uncertainty"].suffix == ".rows" and files["uncertainty"].is_file()


@pytest.mark.parametrize("kind", FORMATS, ids=lambda kind: kind.name)
def test_every_function_of_a_format_is_there(kind):
    named = [name for name in (*FUNCTIONS, "part_reader") if getattr(kind, name)]
    assert "reader" in named
    for name in named:
        wanted = 1 if name == "header_reader" else 2
        assert len(inspect.signature(imported(getattr(kind, name))).parameters) >= wanted


@pytest.mark.parametrize("kind", FORMATS, ids=lambda kind: kind.name)
def test_what_a_format_cannot_hold_goes_into_one_that_can(kind):
    by_suffix = {suffix: each for each in FORMATS for suffix in each.suffixes}
    assert by_suffix[kind.labels_as].label_writer and by_suffix[kind.maps_as].map_writer
