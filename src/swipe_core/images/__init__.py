"""Images and label maps, and every file format they come in.

The names below are imported when first asked for: `channels` and `formats` here serve forms and file
dialogs, which must not wait for torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from swipe_core.images.files import check_label_path as check_label_path
    from swipe_core.images.files import holds_labels as holds_labels
    from swipe_core.images.files import read_header as read_header
    from swipe_core.images.files import read_image as read_image
    from swipe_core.images.files import read_label_map as read_label_map
    from swipe_core.images.files import write_image as write_image
    from swipe_core.images.files import write_label_map as write_label_map
    from swipe_core.images.files import write_scalar_map as write_scalar_map
    from swipe_core.images.formats import IMAGE_SUFFIXES as IMAGE_SUFFIXES
    from swipe_core.images.formats import ImageHeader as ImageHeader
    from swipe_core.images.formats import image_stem as image_stem
    from swipe_core.images.formats import image_suffix as image_suffix
    from swipe_core.images.medical_image import LabelMap as LabelMap
    from swipe_core.images.medical_image import MedicalImage as MedicalImage
    from swipe_core.images.medical_image import ScalarMap as ScalarMap
    from swipe_core.images.medical_image import Space as Space

_HOMES = {
    "files": (
        "check_label_path", "holds_labels", "read_header", "read_image",
        "read_label_map", "write_image", "write_label_map", "write_scalar_map",
    ),
    "formats": ("IMAGE_SUFFIXES", "ImageHeader", "image_stem", "image_suffix"),
    "medical_image": ("LabelMap", "MedicalImage", "ScalarMap", "Space"),
}  # fmt: skip


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"swipe_core.images.{home}"), name)
    raise AttributeError(f"module 'swipe_core.images' has no attribute {name!r}")
