"""Draw one object as the staircase of its labels and as its boundary, with what each is like.

python tools/boundary_picture.py --output docs/images/boundary.png
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from scipy.spatial import cKDTree
from skimage.measure import marching_cubes

from swipe_core import Predictor, read_image
from swipe_core.inference.field import OccupancyField
from swipe_core.inference.surface import iter_surfaces
from swipe_core.pictures.overlays import new_figure, rendered, write_png
from swipe_core.progress import finish
from swipe_core.samples import SAMPLES

Mesh = tuple[np.ndarray, np.ndarray]
CLASS = 1
REFERENCE = 0.05  # mm, of the boundary that all are compared with
LIGHT = np.array([0.3, -0.5, 0.81])


def staircase(field: OccupancyField, factor: int) -> Mesh:
    """Return marching cubes of the labels."""
    labels = field.render(factor=factor)
    vertices, faces, _, _ = marching_cubes(np.pad(labels.array == CLASS, 1).astype(np.float32), 0.5)
    return labels.affine.apply(vertices - 1), faces


def boundary(field: OccupancyField, tolerance: float) -> Mesh:
    """Return the surface of the continuous boundary."""
    (surface,) = finish(iter_surfaces(field, tolerance, [CLASS]))
    return surface.vertices_world, surface.faces


def places_on(mesh: Mesh, parts: int) -> np.ndarray:
    """Return points all over the triangles."""
    shares = [(i, j, parts - i - j) for i in range(parts + 1) for j in range(parts + 1 - i)]
    return np.einsum("sc,fcx->fsx", np.array(shares) / parts, mesh[0][mesh[1]]).reshape(-1, 3)


def drawn(places: object, mesh: Mesh, title: str) -> None:
    """Draw a mesh with flat shading."""
    from mpl_toolkits.mplot3d.art3d import Poly3DCollection

    triangles = mesh[0][mesh[1]][..., ::-1]
    normals = np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0])
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
    shade = 0.35 + 0.65 * np.abs(normals @ LIGHT)
    colours = np.clip(shade[:, None] * np.array([0.0, 0.78, 0.9]), 0, 1)
    places.add_collection3d(
        Poly3DCollection(triangles, facecolors=colours, edgecolors=colours, linewidths=0.2)
    )
    low, high = triangles.min((0, 1)), triangles.max((0, 1))
    for axis, start, stop in zip("xyz", low, high, strict=True):
        getattr(places, f"set_{axis}lim")(start, stop)
    places.set_box_aspect(high - low, zoom=1.0)
    places.view_init(25, -60)
    places.set_axis_off()
    places.set_title(title, fontsize=10)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, required=True)
    output = parser.parse_args().output
    field = Predictor.load("hippocampus", device="cpu").field(read_image(SAMPLES["hippocampus"].image_path))
    reference = cKDTree(places_on(boundary(field, REFERENCE), 6))
    meshes = {
        "labels of the image's voxels": staircase(field, 1),
        "labels at 4 times the resolution": staircase(field, 4),
        "the boundary itself, to 0.1 mm": boundary(field, 0.1),
    }
    figure = new_figure(1320, 340, layout="constrained")
    for number, (name, mesh) in enumerate(meshes.items(), start=1):
        far, _ = reference.query(places_on(mesh, 3))
        words = f"{len(mesh[1])} triangles, {far.max():.2f} mm off at most, {far.mean():.3f} mm in the mean"
        print(f"{name}: {words}")
        drawn(figure.add_subplot(1, 3, number, projection="3d"), mesh, f"{name}\n{words}")
    write_png(output, rendered(figure))


if __name__ == "__main__":
    main()
