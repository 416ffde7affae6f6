"""What can be made of a continuous segmentation: each a generator that ends with layers for napari."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_swipe.layers.data import LayerData, class_appearance
from napari_swipe.layers.field import LayerField
from swipe_core.errors import ImageError
from swipe_core.progress import Notice, Progress

if TYPE_CHECKING:
    from swipe_core.coordinates import Grid
    from swipe_core.export.exporting import Exported
    from swipe_core.export.formats import ExportFormat
    from swipe_core.inference.field import OccupancyField, Segmentation
    from swipe_core.measure.objects import ObjectMeasurement

Reports = Progress | Notice
Making = Generator[Reports, None, list[LayerData]]


@dataclass(frozen=True)
class Appearance:
    """The name and the colours of the layers of a result."""

    name: str
    colours: tuple[str, ...]
    hidden: tuple[int, ...] = ()


def lattice(image: Grid, factor: float, isotropic: bool) -> Grid:
    """The output lattice for a factor: each voxel cut by it, or cubic voxels of the finest spacing."""
    if not isotropic:
        return image.scaled(factor)
    return image.respaced([min(image.spacing) / factor] * image.ndim)


def iter_labels(field: LayerField, grid: Grid, look: Appearance) -> Making:
    """An ordinary labels layer, which can be edited and saved."""
    maps = yield from field.iter_render(grid)
    data = field.stacked([labels.array for labels in maps])
    appearance = class_appearance(field.class_names, look.colours, look.hidden)
    arguments = field.axes.arguments(grid) | appearance
    return [(data, {"name": look.name, **arguments}, "labels")]


def iter_file(field: LayerField, grid: Grid, path: Path) -> Generator[Reports, None, Path]:
    """Labels in a file, at their place in the world; frames become a stack.

    An `ImageError` is raised when the file cannot be written.
    """
    from swipe_core.coordinates import Affine
    from swipe_core.images import LabelMap, check_label_path, write_label_map

    check_label_path(path, is_stack=len(field.fields) > 1)
    maps = yield from field.iter_render(grid)
    yield Progress("Writing", 0, 1)
    if len(maps) == 1:
        write_label_map(path, maps[0])
        return path
    data, matrix = field.stacked([labels.array for labels in maps]), field.axes.matrix(grid)
    matrix[np.ix_(field.axes.space, field.axes.space)] = grid.affine.linear  # in one unit, as the maps are
    write_label_map(path, LabelMap(data, Affine(matrix), maps[0].unit), is_stack=True)
    return path


@dataclass(frozen=True, eq=False)
class Objects:
    """Numbered objects as a layer, and what was measured of each; frames are measured one by one."""

    layer: LayerData
    measurements: Sequence[ObjectMeasurement]
    unit: str
    ndim: int
    classes: Segmentation | None = None
    """What was counted: the class at each voxel, from which objects are measured anew."""


def iter_objects(field: LayerField, grid: Grid, look: Appearance) -> Generator[Reports, None, Objects]:
    """One number for each object, touching ones apart where the model tells them, and a table of them.

    An `ImageError` is raised when the layer has several frames: objects are of one image.
    """
    from swipe_core.inference import instances
    from swipe_core.prediction.result import find_objects

    if len(field.fields) > 1:
        raise ImageError(
            f"Objects are counted in one image, and this layer has {len(field.fields)} frames: open the one "
            "you mean as a layer of its own."
        )
    (classes,) = yield from field.iter_render(grid)
    (objects,) = yield from field.iter_sampled(partial(instances.iter_objects, segmentation=classes))
    yield Progress("Measuring objects", 0, 1)
    numbered, measurements = find_objects(classes, objects)
    names = [""] + [m.class_name for m in measurements]
    arguments = field.axes.arguments(grid) | {
        "name": look.name,
        "features": {"index": list(range(len(names))), "class": names},
    }
    layer = (field.stacked([numbered.array]), arguments, "labels")
    return Objects(layer, measurements, numbered.unit, numbered.ndim, classes)


def iter_probability(field: LayerField, grid: Grid, class_index: int, look: Appearance) -> Making:
    """The probability of a class, in [0, 1]."""
    from swipe_core.inference import maps

    found = yield from field.iter_sampled(partial(maps.iter_probability, grid=grid, class_index=class_index))
    return [_scalar_layer(field, grid, found, look.name, "magma")]


def iter_uncertainty(field: LayerField, grid: Grid, look: Appearance) -> Making:
    """Map how near the decision is: 1 on a boundary, 0 where one class is certain."""
    from swipe_core.inference import maps

    found = yield from field.iter_sampled(partial(maps.iter_uncertainty, grid=grid))
    return [_scalar_layer(field, grid, found, look.name, "inferno")]


def iter_deciding_scale(field: LayerField, grid: Grid, look: Appearance) -> Making:
    """Map the stage of the network that the attention weighs most at each place."""
    from swipe_core.inference import maps
    from swipe_core.pictures import default_colours

    found = yield from field.iter_sampled(partial(maps.iter_deciding_scale, grid=grid))
    names = found[0].class_names
    arguments = field.axes.arguments(grid) | class_appearance(names, default_colours(len(names)))
    data = field.stacked([stages.array for stages in found])
    return [(data, {"name": look.name, "opacity": 0.5, **arguments}, "labels")]


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
        _surface_layer(field, grid, surface, f"{look.name} {surface.class_name}", colour)
        for surface, colour in zip(surfaces, look.colours, strict=True)
        if len(surface.faces)
    ]
    if not layers:
        raise ImageError("None of the classes is in this image, so there is no surface to show.")
    return layers


def iter_contours(field: LayerField, grid: Grid, look: Appearance) -> Making:
    """Outlines that can be edited, with class, score and measurements of each; of a volume in every slice.

    They are within a tenth of the voxels of a lattice from the boundary. Raises `ImageError` when the layer
    has several frames, or holds none of the classes.
    """
    from swipe_core.export.contours import keyhole
    from swipe_core.export.outlines import default_tolerance, headed, iter_scene

    only = _only_field(field)
    tolerance = default_tolerance(grid)
    image = field.source.image(next(iter(field.fields)))
    scene = yield from iter_scene(only, look.name, look.colours, tolerance, content="outlines", image=image)
    if not scene.outlines:
        raise ImageError("None of the classes is in this image, so there are no contours to show.")
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
        _only_field(field),
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


def _only_field(field: LayerField) -> OccupancyField:
    if len(field.fields) > 1:
        raise ImageError(
            f"A boundary is that of one image, and this layer has {len(field.fields)} frames: open the one "
            "you mean as a layer of its own."
        )
    return field.first


def _surface_layer(field: LayerField, grid: Grid, surface: Any, name: str, colour: str) -> LayerData:
    from_one_unit = field.source.to_one_unit[0].inverse()  # in the world already
    vertices = field.axes.points(from_one_unit.apply(surface.vertices_world)).astype(np.float32)
    arguments = {
        "name": name,
        "units": field.axes.arguments(grid)["units"],
        "axis_labels": field.axes.arguments(grid)["axis_labels"],
        "colormap": _single_colour(colour),
        "shading": "smooth",
    }
    data: Any = (vertices, surface.faces, np.ones(len(vertices), np.float32))
    return data, arguments, "surface"


def _single_colour(colour: str) -> Any:
    from napari.utils.colormaps import Colormap

    return Colormap([colour, colour], name=colour)


def _scalar_layer(field: LayerField, grid: Grid, found: list[Any], name: str, colours: str) -> LayerData:
    data = field.stacked([scalar.array for scalar in found])
    extra = {"name": name, "colormap": colours, "contrast_limits": (0.0, 1.0), "opacity": 0.8}
    return data, {**field.axes.arguments(grid), **extra}, "image"
