"""Images and label maps, and every file format they come in."""

from __future__ import annotations

from swipe_core.images.files import (
    IMAGE_SUFFIXES,
    check_label_path,
    image_file_suffix,
    image_stem,
    image_suffix,
    read_header,
    read_image,
    read_label_map,
    write_image,
    write_label_map,
)
from swipe_core.images.header import ImageHeader
from swipe_core.images.label_files import holds_labels
from swipe_core.images.medical_image import LabelMap, MedicalImage, Space

__all__ = [
    "IMAGE_SUFFIXES",
    "ImageHeader",
    "LabelMap",
    "MedicalImage",
    "Space",
    "check_label_path",
    "holds_labels",
    "image_file_suffix",
    "image_stem",
    "image_suffix",
    "read_header",
    "read_image",
    "read_label_map",
    "write_image",
    "write_label_map",
]
