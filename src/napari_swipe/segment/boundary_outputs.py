"""What can be made of the boundary of a segmentation: meshes, contours, files, and what is known along it."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_swipe.layers.data import LayerData
from napari_swipe.layers.field import LayerField
from napari_swipe.qt.layouts import short_unit
from napari_swipe.segment.outputs import Appearance, Making, Reports, only_field
from swipe_core.errors import ImageError

if TYPE_CHECKING:
    from swipe_core.coordinates import Grid
    from swipe_core.export.exporting import Exported
    from swipe_core.export.formats import ExportFormat
    from swipe_core.export.outlines import Content, Scene
    from swipe_core.images import LabelMap

ABSENT = "None of the classes is in this image, so there is no boundary to show."


@dataclass(frozen=True, eq=False)
class AlongBoundary:
    """A quantity along the boundaries as layers, and what it is like, a line for each class."""

    layers: list[LayerData]
    lines: list[str]


def iter_surfaces(field: LayerField, grid: Grid, look: Appearance) -> Making:
    """A mesh for each class that is there, within a tenth of the voxels of a lattice from its boundary.

    An `ImageError` is raised when the image is 2D, has several frames, or holds none of the classes.
    """
    from swipe_core.export.outlines import default_tolerance
    from swipe_core.inference.surface import iter_surfaces

    if grid.ndim != 3 or len(field.fields) > 1:
        raise ImageError("A surface needs one volume: open a 3D image and use a 3D model.")
    surfaces = yield from iter_surfaces(field.first, default_tolerance(grid))
    layers = [
        _surface_layer(
            field,
            grid,
            each.vertices_world,
            each.faces,
            f"{look.name} {each.class_name}",
            _one_colour(colour),
        )
        for each, colour in zip(surfaces, look.colours, strict=True)
        if len(each.faces)
    ]
    if not layers:
        raise ImageError(ABSENT)
    return layers


def iter_contours(field: LayerField, grid: Grid, look: Appearance) -> Making:
    """Outlines that can be edited, with class, score and measurements of each; of a volume in every slice.

    They are within a tenth of the voxels of a lattice from the boundary. Raises `ImageError` when the layer
    has several frames, or holds none of the classes.
    """
    from swipe_core.export.contours import keyhole
    from swipe_core.export.outlines import default_tolerance, headed, iter_scene

    only = only_field(field)
    tolerance = default_tolerance(grid)
    image = field.source.image(next(iter(field.fields)))
    scene = yield from iter_scene(only, look.name, look.colours, tolerance, content="outlines", image=image)
    if not scene.outlines:
        raise ImageError(ABSENT)
    to_voxel = only.image_grid.affine.inverse()
    shapes = [field.axes.points(to_voxel.apply(keyhole(outline.polygon.rings))) for outline in scene.outlines]
    rows = [
        {"class": each.polygon.class_name, "score": each.polygon.score}
        | {headed(found, scene.unit): found.value for found in each.measured}
        for each in scene.outlines
    ]
    arguments = field.axes.arguments(only.image_grid) | {
        "name": look.name,
        "shape_type": "polygon",
        "face_color": "transparent",
        "edge_color": [outline.colour for outline in scene.outlines],
        "edge_width": 0.5,
        "features": {title: [row[title] for row in rows] for title in rows[0]},
    }
    return [(shapes, arguments, "shapes")]


def iter_export(
    field: LayerField,
    path: Path,
    tolerance: float,
    slices: Sequence[int] | None,
    kind: ExportFormat | None,
    look: Appearance,
) -> Generator[Reports, None, Exported]:
    """Write the boundary to a file, whose suffix decides what it holds where no kind is given.

    Raises `SwipeError` when the layer has several frames, or the file cannot hold or get what is wanted.
    """
    from swipe_core.export.exporting import iter_export

    title, colours = look.name, look.colours
    work = iter_export(
        only_field(field),
        path,
        title=title,
        colours=colours,
        tolerance=tolerance,
        slices=slices,
        kind=kind,
        source=field.source.path,
        image=field.source.image(next(iter(field.fields))),
    )
    return (yield from work)


def iter_measured(field: LayerField, grid: Grid, look: Appearance) -> Generator[Reports, None, Scene]:
    """What is measured from the boundary, within a tenth of the voxels of a lattice, of all objects.

    An `ImageError` is raised when the layer has several frames.
    """
    from swipe_core.export.outlines import default_tolerance, iter_scene

    content: Content = "surfaces" if grid.ndim == 3 else "outlines"
    image = field.source.image(next(iter(field.fields)))
    work = iter_scene(
        only_field(field), look.name, look.colours, default_tolerance(grid), content=content, image=image
    )
    return (yield from work)


def iter_half_widths(
    field: LayerField, grid: Grid, look: Appearance
) -> Generator[Reports, None, AlongBoundary]:
    """How far the boundary may be elsewhere with a probability of 90 %, along all of it.

    An `ImageError` is raised when the layer has several frames, or holds none of the classes.
    """
    from swipe_core.inference import maps

    only, unit = only_field(field), short_unit(field.first.unit)
    layers, lines = list[LayerData](), list[str]()
    for each in (yield from _iter_drawn(field, grid)):
        widths = yield from maps.iter_half_widths(only, each.points_world, each.class_index)
        widths = np.nan_to_num(widths, nan=np.nanmax(widths, initial=0))
        half, most = np.percentile(widths, (50, 95))
        lines.append(f"{each.class_name}: ±{half:.3g} {unit} in the median, ±{most:.3g} at 95 %")
        layers.append(
            _valued(field, grid, each, widths, (0.0, float(most)), "inferno", look.name, "half width")
        )
    if only.temperature is None:
        lines.append("The probabilities of this model were not calibrated: this is what they say.")
    return AlongBoundary(layers, lines)


def iter_distances(
    field: LayerField,
    grid: Grid,
    look: Appearance,
    iter_other: Callable[[], Generator[Reports, None, LabelMap]],
) -> Generator[Reports, None, AlongBoundary]:
    """How far the boundary is from that of other labels: below 0 inside of these.

    `iter_other`: gives the labels, in the unit of the field. Where they have one number alone, all classes
    are compared with it. An `ImageError` is raised when the layer has several frames or none of the classes.
    """
    from swipe_core.measure.distances import DistanceSummary, signed_distances

    other, unit = (yield from iter_other()), short_unit(field.first.unit)
    numbers = np.unique(other.array[other.array > 0])
    layers, lines = list[LayerData](), list[str]()
    for each in (yield from _iter_drawn(field, grid)):
        mask = other.array == each.class_index if len(numbers) > 1 else other.array > 0
        if not mask.any():
            lines.append(f"{each.class_name}: the other has none of it")
            continue
        distances = signed_distances(each.points_world, mask, other.affine)
        found = DistanceSummary.of(distances)
        lines.append(
            f"{each.class_name}: mean distance {found.mean:.3g} {unit}, 95 % within "
            f"{found.percentile_95:.3g}, largest {found.largest:.3g}"
        )
        most = max(found.percentile_95, 1e-9)
        layers.append(
            _valued(field, grid, each, distances, (-most, most), "twilight_shifted", look.name, "distance")
        )
    return AlongBoundary(layers, lines)


@dataclass(frozen=True, eq=False)
class _Drawn:
    """The boundary of a class as points and, of a volume, triangles between them."""

    class_index: int
    class_name: str
    points_world: np.ndarray
    faces: np.ndarray | None = None


def _iter_drawn(field: LayerField, grid: Grid) -> Generator[Reports, None, list[_Drawn]]:
    """The boundaries of all classes that are there."""
    from swipe_core.export.outlines import default_tolerance
    from swipe_core.inference.contours import iter_contours
    from swipe_core.inference.surface import iter_surfaces

    only, tolerance = only_field(field), default_tolerance(grid)
    drawn: list[_Drawn] = []
    if only.ndim == 3:
        for each in (yield from iter_surfaces(only, tolerance)):
            if len(each.faces):
                drawn.append(_Drawn(each.class_index, each.class_name, each.vertices_world, each.faces))
    else:
        polygons = yield from iter_contours(only, tolerance)
        for index, name in enumerate(only.class_names, start=1):
            rings = [
                ring for polygon in polygons if polygon.class_index == index for ring in polygon.fine_rings
            ]
            if rings:
                drawn.append(_Drawn(index, name, np.concatenate(rings)))
    if not drawn:
        raise ImageError(ABSENT)
    return drawn


def _valued(
    field: LayerField,
    grid: Grid,
    drawn: _Drawn,
    values: np.ndarray,
    limits: tuple[float, float],
    colours: str,
    name: str,
    quantity: str,
) -> LayerData:
    """A boundary in colours for a quantity, whose value is shown under the mouse."""
    name = f"{name} {drawn.class_name}" if len(field.class_names) > 1 else name
    if drawn.faces is not None:
        return _surface_layer(field, grid, drawn.points_world, drawn.faces, name, colours, values, limits)
    placed = field.axes.arguments(field.image_grid)
    points = field.axes.points(field.image_grid.affine.inverse().apply(drawn.points_world))
    title = f"{quantity} [{short_unit(field.first.unit)}]"
    return (
        points,
        placed
        | {
            "name": name,
            "features": {title: values},
            "face_color": title,
            "face_colormap": colours,
            "face_contrast_limits": limits,
            "size": 1,
            "border_width": 0,
        },
        "points",
    )


def _surface_layer(
    field: LayerField,
    grid: Grid,
    points_world: np.ndarray,
    faces: np.ndarray,
    name: str,
    colours: Any,
    values: np.ndarray | None = None,
    limits: tuple[float, float] = (0.0, 1.0),
) -> LayerData:
    from_one_unit = field.source.to_one_unit[0].inverse()  # in the world already
    vertices = field.axes.points(from_one_unit.apply(points_world)).astype(np.float32)
    arguments = {
        "name": name,
        "units": field.axes.arguments(grid)["units"],
        "axis_labels": field.axes.arguments(grid)["axis_labels"],
        "colormap": colours,
        "contrast_limits": limits,
        "shading": "smooth",
    }
    shades = np.ones(len(vertices)) if values is None else values
    data: Any = (vertices, faces, shades.astype(np.float32))
    return data, arguments, "surface"


def _one_colour(colour: str) -> Any:
    from napari.utils.colormaps import Colormap

    return Colormap([colour, colour], name=colour)
