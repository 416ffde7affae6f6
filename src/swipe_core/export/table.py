"""What was measured from the boundary, as CSV: a row for each object, each number with its error."""

import csv
from pathlib import Path

from swipe_core.export.outlines import Scene, headed, measured_surface
from swipe_core.images.units import symbol_of
from swipe_core.measure.outlines import Measured


def write_table(path: Path, scene: Scene) -> None:
    """Write the outlines of an image, or the surfaces of a volume, one for each class."""
    rows: list[tuple[dict[str, object], list[Measured], int]] = []
    for outline in scene.outlines:
        about: dict[str, object] = {"number": outline.number, "class": outline.polygon.class_name}
        if outline.slice_index is not None:
            about["slice"] = outline.slice_index
        rows.append((about | {"score": f"{outline.polygon.score:.6g}"}, outline.measured, 2))
    for number, surface in enumerate(scene.surfaces, start=1):
        about = {"number": number, "class": surface.class_name, "triangles": len(surface.faces)}
        about["watertight"] = surface.is_watertight
        if scene.bands:
            for end, volume in zip(("low", "high"), scene.bands[surface.class_index], strict=True):
                about[f"volume {end} [{symbol_of(scene.unit)}^3]"] = f"{volume:.6g}"
        rows.append((about, measured_surface(surface), 3))
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        for place, (about, measured, ndim) in enumerate(rows):
            titles = [headed(each, scene.unit, ndim) for each in measured]
            if place == 0:
                table.writerow([*about, *(word for title in titles for word in (title, f"{title} error"))])
            numbers = [word for each in measured for word in (f"{each.value:.8g}", f"{each.error:.2g}")]
            table.writerow([*about.values(), *numbers])
