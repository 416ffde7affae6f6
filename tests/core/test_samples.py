"""The data sets that ship with the package are whole and small."""

from __future__ import annotations

import numpy as np
import pytest

from swipe_core.errors import DataError
from swipe_core.images import image_stem, read_image, read_label_map
from swipe_core.samples import sample_folder


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


def test_the_samples_stay_small():
    files = [path for path in sample_folder("nuclei").rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 700_000


def test_an_unknown_sample_names_those_there_are():
    with pytest.raises(DataError, match="'nuclie'.*there is nuclei.*Did you mean 'nuclei'"):
        sample_folder("nuclie")
