"""What is written of a field: its outlines or surfaces, where they lie, and what was measured."""

import dataclasses
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from swipe_core.coordinates import Grid
from swipe_core.export.intensity import intensity_inside, iter_class_intensities
from swipe_core.images import LabelMap, MedicalImage
from swipe_core.inference.contours import Polygon, Ring, iter_contours
from swipe_core.inference.field import OccupancyField
from swipe_core.inference.instances import iter_field_objects
from swipe_core.inference.maps import OUTSIDE
from swipe_core.inference.surface import Surface, iter_surfaces
from swipe_core.inference.triangles import split
from swipe_core.measure import heading
from swipe_core.measure.outlines import Measured, measured_mesh, measured_polygon
from swipe_core.progress import Notice, Progress, nested_progress

Content = Literal["outlines", "surfaces", "labels", "field"]
DEFAULT_TOLERANCE = 0.1  # times the finest spacing of the image


@dataclass(frozen=True, eq=False)
class Outline:
    """One object in an image, or in one slice of a volume.

    Attributes
    ----------
    number
        From 1 on, over all of a file.
    slice_index
        Along the first axis of a volume.
    rings_pixel
        The outer ring and those of holes, in pixels as (x, y), where (0, 0) is the outer corner of the first
        pixel: so programs count that draw within pixels.
    image
        What was segmented, where it is at hand.
    """

    number: int
    polygon: Polygon
    slice_index: int | None
    rings_pixel: tuple[Float[np.ndarray, "_ 2"], ...]
    colour: str
    image: MedicalImage | None = None

    @cached_property
    def measured(self) -> list[Measured]:
        """What was measured of it, in units of the world; and how bright the image is inside."""
        rings, fine = _flat(self.polygon.rings), _flat(self.polygon.fine_rings)
        shape = measured_polygon(rings, fine, self.polygon.fine_deviation)
        if self.image is None:
            return shape
        return shape + intensity_inside(self.image, self.rings_pixel, self.slice_index)


@dataclass(frozen=True, eq=False)
class Scene:
    """All that is written of one image.

    Attributes
    ----------
    title
        What the image is called.
    grid
        Of the image.
    outlines, surfaces, labels, field
        Outlines are in an image or in slices, surfaces and labels in a volume: what the format holds of them.
    source
        The file or folder of the image, where it came from one.
    bands
        Of a calibrated model, by class: the least and the largest volume, in unit^3, of what is inside with a
        probability of 95 % and of 5 %.
    intensities
        By class, in a volume whose image is at hand.
    colours
        ``"#rrggbb"`` of the classes 1, 2, ...
    """

    title: str
    grid: Grid
    unit: str
    is_anatomical: bool
    class_names: tuple[str, ...]
    colours: tuple[str, ...]
    outlines: tuple[Outline, ...] = ()
    surfaces: tuple[Surface, ...] = ()
    labels: LabelMap | None = None
    field: OccupancyField | None = None
    source: Path | None = None
    bands: Mapping[int, tuple[float, float]] = dataclasses.field(default_factory=dict)
    intensities: Mapping[int, list[Measured]] = dataclasses.field(default_factory=dict)

    @property
    def sampled(self) -> LabelMap:
        """The labels, of a scene that was made of them."""
        assert self.labels is not None
        return self.labels

    @property
    def plane_shape(self) -> tuple[int, int]:
        """Height and width of an image, or of a slice."""
        return self.grid.shape[-2], self.grid.shape[-1]


def rgb_of(colour: str) -> list[int]:
    """Return red, green and blue, 0 to 255, of ``"#rrggbb"``."""
    return list(bytes.fromhex(colour.lstrip("#")[:6]))


def default_tolerance(grid: Grid) -> float:
    """Return a tenth of the finest spacing of an image."""
    return DEFAULT_TOLERANCE * min(grid.spacing)


def iter_scene(
    field: OccupancyField,
    title: str,
    colours: Sequence[str],
    tolerance: float,
    *,
    content: Content,
    slices: Sequence[int] | None = None,
    source: Path | None = None,
    image: MedicalImage | None = None,
    factor: float = 1.0,
    strict: bool = False,
) -> Generator[Progress | Notice, None, Scene]:
    """Draw all classes of a field, as surfaces, labels or outlines: of an image, or of slices of a volume.

    The field itself is not drawn.

    Parameters
    ----------
    content
        What is drawn.
    slices
        Along the first axis of a volume; all of them by default.
    source
        The file or folder of the image.
    image
        What was segmented: its intensities are measured, too.
    factor
        Times as many voxels as the image along each axis, of labels.
    strict
        Keep the tolerance of surfaces also at sharp creases, as `iter_surfaces`.
    """
    space = field.space.is_anatomical
    scene = (title, field.image_grid, field.unit, space, field.class_names, tuple(colours))
    if content == "field":
        return Scene(*scene, field=field)
    if content == "labels":
        labels = yield from field.iter_render(field.image_grid.scaled(factor))
        return Scene(*scene, labels=labels, source=source)
    if content == "surfaces":
        found = yield from iter_surfaces(field, tolerance, strict=strict)
        bands = {} if field.temperature is None else (yield from _iter_bands(field))
        surfaces = tuple(surface for surface in found if len(surface.faces))
        within = {} if image is None else (yield from iter_class_intensities(field, image))
        return Scene(*scene, surfaces=surfaces, bands=bands, intensities=within)
    planes = _planes(field.image_grid, slices)
    objects = (yield from iter_field_objects(field)) if field.tells_apart else None
    outlines: list[Outline] = []
    for number, (index, plane) in enumerate(planes):
        work = iter_contours(field, tolerance, plane=plane, objects=objects)
        polygons = yield from nested_progress(work, number, len(planes))
        for polygon in polygons:
            rings = tuple(_in_pixels(ring, field.image_grid) for ring in polygon.rings)
            colour = colours[polygon.class_index - 1]
            outlines.append(Outline(len(outlines) + 1, polygon, index, rings, colour, image))
    return Scene(*scene, outlines=tuple(outlines), source=source)


def _iter_bands(field: OccupancyField) -> Generator[Progress | Notice, None, dict[int, tuple[float, float]]]:
    """Return between which volumes each class lies, sampled twice as finely as the image."""
    grid, volumes = field.image_grid.scaled(2), []
    for share in (1 - OUTSIDE, OUTSIDE):
        config = field.config.model_copy(update={"threshold": share})
        labels = yield from field.with_config(config).iter_render(grid)
        counts = np.bincount(labels.array.reshape(-1), minlength=1 + len(field.class_names))
        volumes.append(counts * abs(np.linalg.det(grid.affine.linear)))
    low, high = volumes
    return {index: (float(low[index]), float(high[index])) for index in range(1, len(low))}


def measured_surface(surface: Surface) -> list[Measured]:
    """Measure a surface, as it is drawn and with each triangle cut in four."""
    return _measured(surface, np.ones(len(surface.vertices_world), bool))


def measured_objects(surface: Surface) -> list[list[Measured]]:
    """Measure each connected object of a surface, with the cavities inside of it."""
    vertices, faces = surface.vertices_world, surface.faces
    ends = surface.mesh.edges.ends
    joined = coo_array((np.ones(len(ends), bool), ends.T), (len(vertices),) * 2)
    count, shell = connected_components(joined, directed=False)
    corners = vertices[faces]
    volumes = np.bincount(shell[faces[:, 0]], np.linalg.det(corners - vertices[0]), count)
    boxes = [(vertices[shell == n].min(axis=0), vertices[shell == n].max(axis=0)) for n in range(count)]
    owner = np.arange(count)
    for cavity in np.flatnonzero(volumes < 0):
        low, high = boxes[cavity]
        around = [
            n
            for n in np.flatnonzero(volumes > 0)
            if (boxes[n][0] <= low).all() and (boxes[n][1] >= high).all()
        ]
        owner[cavity] = min(around, key=lambda n: volumes[n], default=cavity)
    return [_measured(surface, owner[shell] == number) for number in np.unique(owner) if volumes[number] > 0]


def _measured(surface: Surface, chosen: Bool[np.ndarray, " vertices"]) -> list[Measured]:
    """Measure the part of a surface that has some of the vertices."""
    edges = np.arange(len(surface.mesh.edges.keys))
    finer = split(surface.mesh, edges, surface.middles)
    of_middles = chosen[surface.mesh.edges.ends[:, 0]]
    drawn = _part(surface.vertices_world, surface.faces, chosen)
    return measured_mesh(
        *drawn, *_part(finer.vertices, finer.faces, np.concatenate([chosen, of_middles])), surface.deviation
    )


def _part(
    vertices: Float[np.ndarray, "_ 3"], faces: Int[np.ndarray, "_ 3"], chosen: Bool[np.ndarray, " vertices"]
) -> tuple[Float[np.ndarray, "_ 3"], Int[np.ndarray, "_ 3"]]:
    return vertices[chosen], (np.cumsum(chosen) - 1)[faces[chosen[faces[:, 0]]]]


def headed(measured: Measured, unit: str, ndim: int = 2) -> str:
    """Return what a measurement is called in a file, with its unit in ASCII."""
    return heading(measured.title, measured.quantity, unit, ndim, is_plain=True)


def _planes(grid: Grid, slices: Sequence[int] | None) -> list[tuple[int | None, Grid | None]]:
    if grid.ndim == 2:
        return [(None, None)]
    shape = (1, *grid.shape[1:])
    chosen = range(grid.shape[0]) if slices is None else slices
    return [(index, grid.window((index, 0, 0), shape)) for index in chosen]


def _in_pixels(ring: Ring, grid: Grid) -> Float[np.ndarray, "_ 2"]:
    return grid.affine.inverse().apply(ring)[:, :-3:-1] + 0.5


def _flat(rings: Sequence[Ring]) -> list[Float[np.ndarray, "_ 2"]]:
    """The rings in the plane that they lie in: (y, x) of an image; in a volume the last two axes, turned."""
    if rings[0].shape[1] == 2:
        return list(rings)
    about = rings[0] - rings[0].mean(axis=0)
    normal = np.linalg.svd(about, full_matrices=False)[2][2]
    across = np.cross(normal, np.array([0.0, 0.0, 1.0]))
    across = across / np.linalg.norm(across) if np.linalg.norm(across) > 1e-6 else np.array([0.0, 1.0, 0.0])
    along = np.cross(across, normal)
    basis = np.stack([across * np.sign(across[1] or 1), along * np.sign(along[2] or 1)], axis=1)
    return [ring @ basis for ring in rings]
