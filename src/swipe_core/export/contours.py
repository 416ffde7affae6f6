"""Outlines as files of drawings and annotations, in pixels of the image."""

import json
import uuid
import zipfile
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape, quoteattr

import numpy as np
from jaxtyping import Float

from swipe_core.errors import ConfigError
from swipe_core.export.outlines import Outline, Scene, headed, rgb_of

Flat = Float[np.ndarray, "_ 2"]
Ring = Float[np.ndarray, "_ ndim"]
DIGITS = 4  # behind the point of a pixel


def write_geojson(path: Path, scene: Scene) -> None:
    """Write a FeatureCollection as QuPath exports it: one annotation for each object, with holes.

    Of a volume each says its slice, from 0 on, as ``plane``.
    """
    features = [_feature(outline, scene) for outline in scene.outlines]
    _write_json(path, {"type": "FeatureCollection", "features": features})


def write_svg(path: Path, scene: Scene) -> None:
    """Write a drawing as large as the image in pixels, with a group for each class.

    Raises
    ------
    ConfigError
        When the outlines are of several slices.
    """
    if len({outline.slice_index for outline in scene.outlines}) > 1:
        raise ConfigError("An SVG drawing holds one slice: say which one with --slice.")
    height, width = scene.plane_shape
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}">'
    ]
    for index, (name, colour) in enumerate(zip(scene.class_names, scene.colours, strict=True), start=1):
        lines.append(f'  <g id={quoteattr(name)} fill="none" stroke="{colour}" stroke-width="0.5">')
        for outline in scene.outlines:
            if outline.polygon.class_index == index:
                shape = " ".join(f"M {_points(ring)} Z" for ring in outline.rings_pixel)
                title = escape(f"{name} {outline.number}")
                lines.append(f'    <path fill-rule="evenodd" d="{shape}"><title>{title}</title></path>')
        lines.append("  </g>")
    path.write_text("\n".join([*lines, "</svg>", ""]), encoding="utf-8")


def write_coco(path: Path, scene: Scene) -> None:
    """Write annotations as COCO has them: of a volume each slice is an image of its own.

    A hole is joined to its outer ring by a line that is run through twice.
    """
    height, width = scene.plane_shape
    slices = sorted({outline.slice_index for outline in scene.outlines}, key=lambda each: each or 0) or [None]
    images = [
        {"id": number, "file_name": _image_name(scene, index), "height": height, "width": width}
        for number, index in enumerate(slices, start=1)
    ]
    number_of = {index: number for number, index in enumerate(slices, start=1)}
    content = {
        "images": images,
        "categories": [
            {"id": index, "name": name, "supercategory": ""}
            for index, name in enumerate(scene.class_names, start=1)
        ],
        "annotations": [
            _annotation(outline, number_of[outline.slice_index], scene) for outline in scene.outlines
        ],
    }
    _write_json(path, content)


def write_imagej(path: Path, scene: Scene) -> None:
    """Write a zip of regions with parts of pixels, as ImageJ opens it; slices count from 1 on."""
    import roifile

    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for outline in scene.outlines:
            name = f"{outline.polygon.class_name}_{outline.number:04d}"
            position = 0 if outline.slice_index is None else outline.slice_index + 1
            roi = roifile.ImagejRoi.frompoints(keyhole(outline.rings_pixel), name=name, position=position)
            roi.roitype = roifile.ROI_TYPE.POLYGON
            roi.stroke_color = bytes([255, *rgb_of(outline.colour)])
            file.writestr(f"{name}.roi", roi.tobytes())


def keyhole(rings: tuple[Ring, ...]) -> Ring:
    """Return one ring that goes about a polygon and, along lines run through twice, about its holes."""
    whole = rings[0]
    for hole in rings[1:]:
        distances = ((whole[:, None] - hole[None]) ** 2).sum(axis=2)
        here, there = np.unravel_index(int(distances.argmin()), distances.shape)
        around = np.roll(hole, -there, axis=0)
        whole = np.concatenate([whole[: here + 1], around, around[:1], whole[here:]])
    return whole


def _feature(outline: Outline, scene: Scene) -> dict[str, Any]:
    rings = [_closed(ring) for ring in outline.rings_pixel]
    geometry: dict[str, Any] = {"type": "Polygon", "coordinates": rings}
    if outline.slice_index is not None:
        geometry["plane"] = {"c": -1, "z": outline.slice_index, "t": 0}
    polygon = outline.polygon
    name = f"{polygon.class_name} {outline.number}"
    return {
        "type": "Feature",
        "id": str(uuid.uuid5(uuid.NAMESPACE_OID, f"{scene.title} {name} {rings[0][:2]}")),
        "geometry": geometry,
        "properties": {
            "objectType": "annotation",
            "name": name,
            "classification": {"name": polygon.class_name, "color": rgb_of(outline.colour)},
            "measurements": _measurements(outline, scene),
        },
    }


def _annotation(outline: Outline, image: int, scene: Scene) -> dict[str, Any]:
    ring = outline.rings_pixel[0]
    low, size = ring.min(axis=0), np.ptp(ring, axis=0)
    area = sum(_area(each) for each in outline.rings_pixel)
    return {
        "id": outline.number,
        "image_id": image,
        "category_id": outline.polygon.class_index,
        "segmentation": [np.round(keyhole(outline.rings_pixel), DIGITS).reshape(-1).tolist()],
        "bbox": np.round([*low, *size], DIGITS).tolist(),
        "area": round(abs(area), DIGITS),
        "iscrowd": 0,
        "score": round(outline.polygon.score, 6),
        "measurements": _measurements(outline, scene),
    }


def _measurements(outline: Outline, scene: Scene) -> dict[str, float]:
    values = {"score": round(outline.polygon.score, 6)}
    for each in outline.measured:
        title = headed(each, scene.unit)
        values |= {title: float(f"{each.value:.8g}"), f"{title} error": float(f"{each.error:.2g}")}
    return values


def _area(ring: Flat) -> float:
    x, y = ring.T
    return float((x * np.roll(y, -1) - y * np.roll(x, -1)).sum()) / 2


def _closed(ring: Flat) -> list[list[float]]:
    points: list[list[float]] = np.round(np.concatenate([ring, ring[:1]]), DIGITS).tolist()
    return points


def _points(ring: Flat) -> str:
    return " L ".join(f"{x:.{DIGITS}f} {y:.{DIGITS}f}" for x, y in ring)


def _image_name(scene: Scene, index: int | None) -> str:
    return scene.title if index is None else f"{scene.title} slice {index}"


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
