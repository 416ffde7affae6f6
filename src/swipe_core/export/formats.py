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
    from swipe_core.export.outlines import Scene

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
    needs_volume
        It holds surfaces; the others hold outlines. None: either.
    one_class
        A file holds one class: of several there is one for each, NAME_CLASS.
    package
        What must be installed besides.
    """

    name: str
    suffix: str
    writer: str
    needs_volume: bool | None = False
    one_class: bool = False
    package: str = ""

    def write(self, path: Path, scene: Scene) -> None:
        write: Callable[[Path, Scene], None] = imported(CODE + self.writer)
        write(path, scene)


EXPORTS = (
    ExportFormat("STL mesh", ".stl", "meshes:write_stl", True, one_class=True, package="trimesh"),
    ExportFormat("PLY mesh", ".ply", "meshes:write_ply", True, one_class=True, package="trimesh"),
    ExportFormat("OBJ meshes", ".obj", "meshes:write_obj", True, package="trimesh"),
    ExportFormat("GLB scene", ".glb", "meshes:write_glb", True, package="trimesh"),
    ExportFormat("GeoJSON of QuPath", ".geojson", "contours:write_geojson"),
    ExportFormat("SVG drawing", ".svg", "contours:write_svg"),
    ExportFormat("COCO annotations", ".json", "contours:write_coco"),
    ExportFormat("ImageJ ROIs", ".zip", "contours:write_imagej", package="roifile"),
    ExportFormat("Table of measurements", ".csv", "table:write_table", None),
)


def export_format(path: Path, ndim: int) -> ExportFormat:
    """Return the format that a file has by its name.

    Raises
    ------
    ConfigError
        When there is none, or it holds surfaces and the image has none, or a package is missing.
    """
    found = next((kind for kind in EXPORTS if path.name.lower().endswith(kind.suffix)), None)
    if found is None:
        known = listed((kind.suffix for kind in EXPORTS), "or")
        raise ConfigError(f"{path.name} has no ending of a boundary: give one of {known}.")
    if found.needs_volume and ndim != 3:
        raise ConfigError(f"A {found.name} holds surfaces, and this image is 2D: ask for .geojson or .svg.")
    if found.package and find_spec(found.package) is None:
        raise ConfigError(
            f"Files {found.suffix} need the package {found.package}: install it with "
            'pip install "napari-swipe[export]".'
        )
    return found
