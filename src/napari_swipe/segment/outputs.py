"""What can be made of a continuous segmentation: each a generator that ends with layers for napari."""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_swipe.layers.data import LayerData, class_appearance
from napari_swipe.layers.field import LayerField, OutputAxes
from napari_swipe.layers.source import LayerSource
from swipe_core.errors import ImageError
from swipe_core.progress import Notice, Progress

if TYPE_CHECKING:
    from swipe_core.coordinates import Grid
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


def iter_band(field: LayerField, grid: Grid, look: Appearance) -> Making:
    """Map where the boundary of each class lies with a probability of 90 %, in the colours of the classes."""
    from swipe_core.inference import maps

    found = yield from field.iter_sampled(partial(maps.iter_band, grid=grid))
    arguments = field.axes.arguments(grid) | class_appearance(field.class_names, look.colours, look.hidden)
    data = field.stacked([band.array for band in found])
    return [(data, {"name": look.name, "opacity": 0.6, **arguments}, "labels")]


def iter_matched(field: LayerField, target: LayerSource, look: Appearance) -> Making:
    """Labels on the grid of another layer, background where that reaches beyond the image.

    An `ImageError` is raised when either has several frames, and a `DataError` when they do not meet.
    """
    from swipe_core.evaluation.common_grid import iter_rendered
    from swipe_core.images import LabelMap

    only = only_field(field)
    if math.prod(target.frame_shape) > 1:
        raise ImageError(
            f"{target.name} has several frames, and labels are made for one: open that as a layer."
        )
    empty: np.ndarray = np.broadcast_to(np.uint8(0), target.grid.shape)
    labels = yield from iter_rendered(only, LabelMap(empty, target.grid.affine, target.unit))
    axes = OutputAxes.of(target)
    data = labels.reshape(axes.shape(labels.shape))
    appearance = class_appearance(field.class_names, look.colours, look.hidden)
    return [(data, {"name": look.name, **axes.arguments(), **appearance}, "labels")]


def only_field(field: LayerField) -> OccupancyField:
    """The field of a layer that is one image; an `ImageError` is raised where it has several frames."""
    if len(field.fields) > 1:
        raise ImageError(
            f"A boundary is that of one image, and this layer has {len(field.fields)} frames: open the one "
            "you mean as a layer of its own."
        )
    return field.first


def _scalar_layer(field: LayerField, grid: Grid, found: list[Any], name: str, colours: str) -> LayerData:
    data = field.stacked([scalar.array for scalar in found])
    extra = {"name": name, "colormap": colours, "contrast_limits": (0.0, 1.0), "opacity": 0.8}
    return data, {**field.axes.arguments(grid), **extra}, "image"
