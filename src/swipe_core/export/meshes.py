"""Surfaces as files of meshes, in (x, y, z) order and in units of the world."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from swipe_core.export.outlines import Scene, rgb_of
from swipe_core.inference.surface import Surface

if TYPE_CHECKING:
    import trimesh

STL_HEADER = 80  # bytes at the beginning of a binary file


def write_stl(path: Path, scene: Scene) -> None:
    """Write one surface as binary STL; its header says in which space, as 3D Slicer reads it."""
    data = bytearray(_exported(_mesh(scene.surfaces[0], scene), "stl"))
    data[:STL_HEADER] = _space(scene).encode().ljust(STL_HEADER, b" ")
    path.write_bytes(data)


def write_ply(path: Path, scene: Scene) -> None:
    """Write one surface as binary PLY, in the colour of its class."""
    data = _exported(_mesh(scene.surfaces[0], scene), "ply")
    first, line, rest = data.partition(b"\n")
    path.write_bytes(first + line + b"comment " + _space(scene).encode() + b"\n" + rest)


def write_obj(path: Path, scene: Scene) -> None:
    """Write all surfaces as text, each as an object with the name of its class."""
    lines, count = [f"# {_space(scene)}"], 1
    for surface in scene.surfaces:
        mesh = _mesh(surface, scene)
        lines.append(f"o {surface.class_name}")
        lines += [f"v {x:.9g} {y:.9g} {z:.9g}" for x, y, z in mesh.vertices]
        lines += [f"f {a} {b} {c}" for a, b, c in mesh.faces + count]
        count += len(mesh.vertices)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_glb(path: Path, scene: Scene) -> None:
    """Write all surfaces as one scene, whose parts have the names and the colours of their classes."""
    import trimesh

    whole = trimesh.Scene()
    for surface in scene.surfaces:
        whole.add_geometry(_mesh(surface, scene), node_name=surface.class_name, geom_name=surface.class_name)
    path.write_bytes(_exported(whole, "glb"))


def _mesh(surface: Surface, scene: Scene) -> trimesh.Trimesh:
    import trimesh

    # From (z, y, x) to (x, y, z) is a reflection, which turns every triangle round.
    colour = scene.colours[surface.class_index - 1]
    return trimesh.Trimesh(
        surface.vertices_world[:, ::-1],
        surface.faces[:, ::-1],
        face_colors=np.array([*rgb_of(colour), 255], np.uint8),
        process=False,
    )


def _space(scene: Scene) -> str:
    space = "SPACE=RAS" if scene.is_anatomical else "SPACE=XYZ"
    return f"{space} unit={scene.unit}"


def _exported(mesh: Any, kind: str) -> bytes:
    data = mesh.export(file_type=kind)
    assert isinstance(data, bytes)
    return data
