"""The data that ships with the package is whole, small, and not without its source."""

from __future__ import annotations

import numpy as np
import pytest

from swipe_core.errors import DataError
from swipe_core.images import image_stem, read_image, read_label_map
from swipe_core.samples import FOLDER, SAMPLES, sample_folder


@pytest.mark.parametrize(("split", "count"), [("train", 6), ("val", 2)])
def test_every_sample_image_has_a_label_map_of_its_shape(split, count):
    folder = sample_folder("nuclei") / split
    labels = {image_stem(path): path for path in (folder / "labels").iterdir()}
    images = sorted((folder / "images").iterdir())
    assert len(images) == len(labels) == count
    for path in images:
        image, label_map = read_image(path), read_label_map(labels[image_stem(path)], instances=True)
        assert image.shape == label_map.shape
        assert np.unique(label_map.array).tolist() == [0, 1]


@pytest.mark.parametrize("name", SAMPLES)
def test_every_single_sample_has_a_reference_of_its_shape_with_named_classes(name):
    sample = SAMPLES[name]
    image, reference = read_image(sample.image_path), read_label_map(sample.label_path)
    assert image.shape == reference.shape
    assert image.affine == reference.affine
    found = np.unique(reference.array[reference.array > 0])
    if sample.class_names:
        assert found.tolist() == list(range(1, len(sample.class_names) + 1))
    else:
        assert 30 <= len(found) <= 100


@pytest.mark.parametrize("name", SAMPLES)
def test_the_source_of_every_single_sample_is_told_beside_it(name):
    sample = SAMPLES[name]
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert f"`images/{sample.image_path.name}`" in readme
    authors, licence = sample.attribution.split(", ")[1:]
    assert authors.split(" et al.")[0] in readme
    assert licence.split(" (")[0] in readme


def test_the_samples_stay_small():
    def size(folder):
        return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())

    assert size(sample_folder("nuclei")) < 700_000
    assert sum(size(FOLDER / name) for name in ("polyps", "hippocampus", "microscopy")) < 300_000


def test_an_unknown_sample_names_those_there_are():
    with pytest.raises(DataError, match="'nuclie'.*there is nuclei.*Did you mean 'nuclei'"):
        sample_folder("nuclie")
