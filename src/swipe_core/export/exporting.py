"""From a field to files of its boundary, and a report on what is in them."""

import re
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from swipe_core.errors import ImageError
from swipe_core.export.formats import ExportFormat, export_format
from swipe_core.export.outlines import Scene, default_tolerance, iter_scene
from swipe_core.images import MedicalImage
from swipe_core.images.files import image_draft
from swipe_core.images.units import symbol_of
from swipe_core.inference.field import OccupancyField
from swipe_core.inference.surface import Surface
from swipe_core.progress import Notice, Progress


@dataclass(frozen=True, eq=False)
class Exported:
    """The files that were written, and what is in them, in lines for people."""

    paths: tuple[Path, ...]
    lines: tuple[str, ...]
    scene: Scene


def iter_export(
    field: OccupancyField,
    path: Path,
    *,
    title: str,
    colours: Sequence[str],
    tolerance: float | None = None,
    slices: Sequence[int] | None = None,
    kind: ExportFormat | None = None,
    source: Path | None = None,
    image: MedicalImage | None = None,
    factor: float = 1.0,
) -> Generator[Progress | Notice, None, Exported]:
    """Write the boundary of a field to a file, whose suffix decides what it holds.

    Of a format that holds one class there is a file for each that was found, NAME_CLASS, if the model has
    several.

    Parameters
    ----------
    title
        What the image is called.
    tolerance
        In units of the world; a tenth of the image's finest spacing by default.
    slices
        Of a volume, for contours.
    kind
        Of the file; by default what its suffix says.
    source
        The file or folder of the image, to which DICOM refers.
    image
        What was segmented: its intensities are measured, too.
    factor
        Times as many voxels as the image along each axis, of labels; those of 3D Slicer and DICOM lie on the
        voxels of the image.

    Raises
    ------
    ConfigError
        When the suffix is none of a boundary, or does not suit the image.
    ImageError
        When nothing was found, or a file cannot be written.
    """
    kind = kind or export_format(path, field.ndim)
    tolerance = default_tolerance(field.image_grid) if tolerance is None else tolerance
    content = kind.content_of(field.ndim)
    work = iter_scene(
        field,
        title,
        colours,
        tolerance,
        content=content,
        slices=slices,
        source=source,
        image=image,
        factor=factor if kind.is_plain else 1.0,
        strict=kind.content == "surfaces",
    )
    scene = yield from work
    if scene.field is None and not (
        scene.outlines or scene.surfaces or (scene.labels and scene.labels.array.any())
    ):
        raise ImageError(f"None of the classes is in {title}, so there is no boundary to write.")
    yield Progress("Writing", 0, 1)
    files = _files(kind, path, scene)
    for file, part in files.items():
        with image_draft(file, kind.suffix) as draft:
            kind.write(draft, part)
    yield Progress("Writing", 1, 1)
    return Exported(tuple(files), tuple(_report(scene)), scene)


def _files(kind: ExportFormat, path: Path, scene: Scene) -> dict[Path, Scene]:
    if not kind.is_of_one_class or len(scene.class_names) == 1:
        return {path: scene}
    stem, suffix = path.name[: -len(kind.suffix)], path.name[-len(kind.suffix) :]
    return {
        path.with_name(f"{stem}_{spelled(surface.class_name)}{suffix}"): replace(scene, surfaces=(surface,))
        for surface in scene.surfaces
    }


def spelled(name: str) -> str:
    """Return the name of a class as names of files may hold it."""
    return re.sub(r"[^\w.+-]+", "_", name)


def _report(scene: Scene) -> list[str]:
    unit = symbol_of(scene.unit)
    lines = [surface_line(surface, scene.bands.get(surface.class_index)) for surface in scene.surfaces]
    if scene.outlines:
        vertices = sum(outline.polygon.vertices for outline in scene.outlines)
        deviation = max(outline.polygon.deviation for outline in scene.outlines)
        lines.append(
            f"{len(scene.outlines)} contours, {vertices} vertices, largest deviation {deviation:.3g} {unit}"
        )
    if scene.field is not None:
        lines.append("the segmentation as a function: it opens at any resolution, without image and model")
    if scene.labels is not None:
        lines.append(
            f"labels of {len(scene.class_names)} classes, {' x '.join(map(str, scene.labels.shape))}"
        )
    return lines


def surface_line(surface: Surface, band: tuple[float, float] | None = None) -> str:
    """Return what a mesh is like, in a line; with the band of its volume, where one is known."""
    unit = symbol_of(surface.unit)
    watertight = "watertight" if surface.is_watertight else "not watertight"
    between = f" ({band[0]:.4g} to {band[1]:.4g})" if band else ""
    return (
        f"{surface.class_name}: {len(surface.faces)} triangles, "
        f"volume {surface.volume:.6g} {unit}^3{between}, area {surface.area:.6g} {unit}^2, "
        f"largest deviation {surface.deviation:.3g} {unit}, {watertight}"
    )
