"""Telling files of label maps from files of images."""

from __future__ import annotations

import os
from pathlib import Path

from swipe_core.images.files import image_stem, read_header

FOLDERS = ("labels", "labelstr", "labelsts")
ENDINGS = ("_seg", "_dseg", "_label", "_labels", ".seg")


def holds_labels(path: str | os.PathLike[str]) -> bool:
    """Whether a file is to be shown as a label map, judged without reading its voxels.

    It is one if it calls itself one (NIfTI's intent code 1002, which `write_label_map` sets); or if
    it holds whole numbers and is kept as label maps are: in a folder called ``labels`` (or
    ``labelsTr``, ``labelsTs``), or under a name that ends with ``_seg``, ``_dseg``, ``_label`` or
    ``_labels``, or ``.seg``. All else is an image, however few values it holds: that an image is
    taken for labels would be the worse mistake. A file of several channels is never a label map.

    Raises
    ------
    ImageError
        When the file is missing, unknown, or damaged.
    """
    path = Path(path)
    header = read_header(path)
    folder, stem = path.absolute().parent.name.lower(), image_stem(path).lower()
    is_kept_as_labels = folder in FOLDERS or stem.endswith(ENDINGS)
    is_label_map = header.is_declared_labels or (header.is_integer and is_kept_as_labels)
    return is_label_map and header.channels == 1
