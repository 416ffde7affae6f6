"""Images are found and protected with work that grows as their number, and no faster."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest

from swipe_core.errors import ImageError
from swipe_core.images.finding import find_images
from swipe_core.images.source import ImageSource
from swipe_core.prediction.request import Request
from swipe_core.prediction.result import check_outputs, output_files


@pytest.fixture
def folder(tmp_path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    return folder


def make(folder: Path, *names: str) -> list[Path]:
    for name in names:
        (folder / name).write_text("pixels", "utf-8")
    return [folder / name for name in names]


@pytest.fixture
def questions(monkeypatch) -> Counter:
    """How often the system was asked for a file's state, and for where a path leads."""
    asked = Counter()

    def counted(name, function):
        def ask(*arguments, **options):
            asked[name] += 1
            return function(*arguments, **options)

        return ask

    for name in ("stat", "lstat"):
        monkeypatch.setattr(os, name, counted("stat", getattr(os, name)))
    monkeypatch.setattr(os.path, "realpath", counted("realpath", os.path.realpath))
    return asked


def test_ten_thousand_images_are_looked_at_a_few_times_each(folder, tmp_path, questions):
    count = 10_000
    make(folder, *(f"{number:05}.jpg" for number in range(count)))
    questions.clear()
    images = find_images([folder]).images
    assert len(images) == count and questions["stat"] <= count + 100
    for output in (folder, tmp_path / "labels"):
        questions.clear()
        check_outputs(images, output, Request(), 2)
        # For the image once; for each of two files whether it is a link, and beside images if it is there.
        assert questions["stat"] <= count * (1 + 2 * (1 + (output == folder))) + 100
        assert questions["realpath"] <= 10


@pytest.mark.skipif(os.name == "nt", reason="links need a right there")
def test_an_image_that_a_link_leads_to_is_protected(folder, tmp_path):
    [image] = make(folder, "a.png")
    labels = tmp_path / "labels"
    labels.mkdir()
    (labels / "a.png").symlink_to(image)
    with pytest.raises(ImageError, match="would overwrite the image"):
        check_outputs([ImageSource(image)], labels, Request(), 2)


@pytest.mark.skipif(os.name == "nt", reason="links need a right there")
def test_an_image_that_is_a_link_protects_what_it_leads_to(folder, tmp_path):
    [image] = make(folder, "a.png")
    links = tmp_path / "links"
    links.mkdir()
    (links / "a.png").symlink_to(image)
    with pytest.raises(ImageError, match="would overwrite the image"):
        check_outputs([ImageSource(links / "a.png")], folder, Request(), 2)


def test_another_way_to_the_same_folder_protects_as_well(folder):
    [image] = make(folder, "a.png")
    with pytest.raises(ImageError, match="would overwrite the image"):
        check_outputs([ImageSource(image)], folder / ".." / "images", Request(), 2)


def test_former_output_among_images_may_be_replaced_and_is_no_image(folder):
    image, *made = make(folder, "a.jpg", "a.png", "a_overlay.png")
    with pytest.raises(ImageError, match="exists already in the folder of the images"):
        check_outputs([ImageSource(image)], folder, Request(), 2)
    check_outputs([ImageSource(image)], folder, Request(), 2, own=made)
    assert find_images([folder], own=made).images == [ImageSource(image)]
    assert find_images([made[0]], own=made).images == [ImageSource(made[0])]


def test_a_folder_of_zarr_is_one_image_where_it_is_wanted(folder):
    make(folder, "a.png")
    for name in ("b.zarr", "c.ome.zarr", "notes"):
        (folder / name).mkdir()
    (folder / "b.zarr" / "zarr.json").write_text("{}", "utf-8")
    without = find_images([folder])
    assert [image.name for image in without.images] == ["a.png"]
    assert [each.path.name for each in without.left_out if each.is_image] == ["b.zarr", "c.ome.zarr"]
    found = find_images([folder], stores=True).images
    assert [image.name for image in found] == ["a.png", "b.zarr", "c.ome.zarr"]
    assert find_images([folder / "b.zarr"], stores=True).images == [ImageSource(folder / "b.zarr")]
    files = [output_files(image, Path("out"), Request(), 3)["labels"].name for image in found]
    assert files == ["a.png", "b.ome.zarr", "c.ome.zarr"]


def test_two_kinds_of_one_image_are_refused(folder):
    make(folder, "a.tif")
    (folder / "a.ome.zarr").mkdir()
    with pytest.raises(ImageError, match="several images are called a"):
        find_images([folder], stores=True)
