"""The files that a boundary can be written to, by their suffix: one record each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from swipe_core.errors import ConfigError, listed
from swipe_core.images.formats import imported

if TYPE_CHECKING:
    from swipe_core.export.outlines import Content, Scene

CODE = "swipe_core.export."


@dataclass(frozen=True)
class ExportFormat:
    """A kind of file.

    Attributes
    ----------
    name
        What people call it, and who reads it.
    suffix
        How its files end.
    writer
        ``(path, scene)``, as ``"module:function"``; the path is a draft.
    content
        What it holds. None: surfaces of a volume, outlines of an image.
    needs_volume
        It holds nothing of 2D images.
    is_of_one_class
        A file holds one class: of several there is one for each, NAME_CLASS.
    package, extra
        What must be installed besides, and with which extra of ours.
    word
        Tells it apart from others with its suffix: the value of ``--as``.
    element_bytes
        About how many each triangle or vertex takes in a file.
    """

    name: str
    suffix: str
    writer: str
    content: Content | None = "outlines"
    needs_volume: bool = False
    is_of_one_class: bool = False
    package: str = ""
    extra: str = "export"
    word: str = ""
    element_bytes: int = 0

    @property
    def is_plain(self) -> bool:
        """Whether it holds labels and nothing else, so that they may be of any resolution."""
        return self.writer == "field:write_labels"

    def content_of(self, ndim: int) -> Content:
        """Return what it holds of an image."""
        return self.content or ("surfaces" if ndim == 3 else "outlines")

    def write(self, path: Path, scene: Scene) -> None:
        write: Callable[[Path, Scene], None] = imported(CODE + self.writer)
        write(path, scene)


EXPORTS = (
    ExportFormat(
        "STL mesh", ".stl", "meshes:write_stl", "surfaces", True, True, package="trimesh", element_bytes=50
    ),
    ExportFormat(
        "PLY mesh", ".ply", "meshes:write_ply", "surfaces", True, True, package="trimesh", element_bytes=23
    ),
    ExportFormat(
        "OBJ meshes", ".obj", "meshes:write_obj", "surfaces", True, package="trimesh", element_bytes=34
    ),
    ExportFormat(
        "GLB scene", ".glb", "meshes:write_glb", "surfaces", True, package="trimesh", element_bytes=34
    ),
    ExportFormat("GeoJSON of QuPath", ".geojson", "contours:write_geojson", element_bytes=70),
    ExportFormat("SVG drawing", ".svg", "contours:write_svg", element_bytes=22),
    ExportFormat("COCO annotations", ".json", "contours:write_coco", element_bytes=22),
    ExportFormat("ImageJ ROIs", ".zip", "contours:write_imagej", package="roifile", element_bytes=14),
    ExportFormat(
        "3D Slicer segmentation",
        ".seg.nrrd",
        "slicer:write_slicer",
        "labels",
        True,
        False,
        "SimpleITK",
        "medical",
    ),
    ExportFormat(
        "DICOM segmentation",
        ".dcm",
        "dicom:write_dicom_seg",
        "labels",
        True,
        False,
        "highdicom",
        "dicom",
        "seg",
    ),
    ExportFormat(
        "DICOM contours",
        ".dcm",
        "dicom:write_rtstruct",
        "outlines",
        True,
        False,
        "pydicom",
        "dicom",
        "rtstruct",
        element_bytes=28,
    ),
    ExportFormat("Table of measurements", ".csv", "table:write_table", None),
    ExportFormat("Labels as NIfTI", ".nii.gz", "field:write_labels", "labels", True),
    ExportFormat("Labels as TIFF", ".tif", "field:write_labels", "labels"),
    ExportFormat("Field, sharp at any zoom", ".swipe", "field:write_field", "field"),
)


def export_format(path: Path, ndim: int, word: str = "") -> ExportFormat:
    """Return the format that a file has by its name and, where that names several, by a word.

    Raises
    ------
    ConfigError
        When there is none or are several, it holds nothing of such images, or a package is missing.
    """
    named = [kind for kind in EXPORTS if path.name.lower().endswith(kind.suffix)]
    if not named:
        known = listed(dict.fromkeys(kind.suffix for kind in EXPORTS), "or")
        raise ConfigError(f"{path.name} has no ending of a boundary: give one of {known}.")
    found = next((kind for kind in named if kind.word == word), None)
    if found is None:
        words = [f"--as {kind.word}" for kind in named if kind.word]
        raise ConfigError(
            f"A file {named[0].suffix} holds one of several things: say which with {listed(words, 'or')}."
            if words
            else f"--as {word} is for .dcm alone: leave it out, or name a file that ends in .dcm."
        )
    if found.needs_volume and ndim != 3:
        raise ConfigError(f"A {found.name} holds volumes, and this image is 2D: ask for .geojson or .svg.")
    if found.package and find_spec(found.package) is None:
        raise ConfigError(
            f"Files {found.suffix} need the package {found.package}: install it with "
            f'pip install "napari-swipe[{found.extra}]".'
        )
    return found
