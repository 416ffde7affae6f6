"""What is written of a field: its outlines or surfaces, where they lie, and what was measured."""

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float

from swipe_core.coordinates import Grid
from swipe_core.inference.contours import Polygon, Ring, iter_contours
from swipe_core.inference.field import OccupancyField
from swipe_core.inference.surface import Surface, iter_surfaces
from swipe_core.inference.triangles import split
from swipe_core.measure import heading
from swipe_core.measure.outlines import Measured, measured_mesh, measured_polygon
from swipe_core.progress import Notice, Progress, nested_progress

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
    """

    number: int
    polygon: Polygon
    slice_index: int | None
    rings_pixel: tuple[Float[np.ndarray, "_ 2"], ...]
    colour: str

    @cached_property
    def measured(self) -> list[Measured]:
        """What was measured of it, in units of the world."""
        return measured_polygon(_flat(self.polygon.rings), _flat(self.polygon.fine_rings))


@dataclass(frozen=True, eq=False)
class Scene:
    """All that is written of one image.

    Attributes
    ----------
    title
        What the image is called.
    grid
        Of the image.
    outlines, surfaces
        The ones in an image or in slices, the others in a volume.
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

    @property
    def plane_shape(self) -> tuple[int, int]:
        """Height and width of an image, or of a slice."""
        return self.grid.shape[-2], self.grid.shape[-1]


def default_tolerance(grid: Grid) -> float:
    """Return a tenth of the finest spacing of an image."""
    return DEFAULT_TOLERANCE * min(grid.spacing)


def iter_scene(
    field: OccupancyField,
    title: str,
    colours: Sequence[str],
    tolerance: float,
    *,
    as_surfaces: bool,
    slices: Sequence[int] | None = None,
) -> Generator[Progress | Notice, None, Scene]:
    """Draw all classes of a field, as surfaces or as outlines: of an image, or of slices of a volume.

    Parameters
    ----------
    slices
        Along the first axis of a volume; all of them by default.
    """
    space = field.space.is_anatomical
    scene = (title, field.image_grid, field.unit, space, field.class_names, tuple(colours))
    if as_surfaces:
        found = yield from iter_surfaces(field, tolerance)
        return Scene(*scene, surfaces=tuple(surface for surface in found if len(surface.faces)))
    planes = _planes(field.image_grid, slices)
    outlines: list[Outline] = []
    for number, (index, plane) in enumerate(planes):
        work = iter_contours(field, tolerance, plane=plane)
        polygons = yield from nested_progress(work, number, len(planes))
        for polygon in polygons:
            rings = tuple(_in_pixels(ring, field.image_grid) for ring in polygon.rings)
            colour = colours[polygon.class_index - 1]
            outlines.append(Outline(len(outlines) + 1, polygon, index, rings, colour))
    return Scene(*scene, outlines=tuple(outlines))


def measured_surface(surface: Surface) -> list[Measured]:
    """Measure a surface, as it is drawn and with each triangle cut in four."""
    edges = np.arange(len(surface.mesh.edges.keys))
    finer = split(surface.mesh, edges, surface.middles)
    return measured_mesh(surface.vertices_world, surface.faces, finer.vertices, finer.faces)


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
