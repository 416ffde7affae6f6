"""What was measured from the boundary, as a table: a row for each object, each number with its error."""

import csv
from dataclasses import dataclass
from pathlib import Path

from swipe_core.export.outlines import Outline, Scene, headed, measured_objects, measured_surface
from swipe_core.images.units import symbol_of
from swipe_core.inference.surface import Surface
from swipe_core.measure import heading
from swipe_core.measure.outlines import Measured


@dataclass(frozen=True)
class Row:
    """One object in a table, or all of a class in a volume.

    Attributes
    ----------
    about
        What says which it is, by the headings of columns.
    measured
        Its numbers.
    """

    about: dict[str, str]
    measured: list[Measured]
    ndim: int


def rows_of(scene: Scene) -> list[Row]:
    """Return the outlines of an image or of slices; of a volume each class and, of several, each object."""
    rows = [_row_of_outline(outline) for outline in scene.outlines]
    for surface in scene.surfaces:
        objects = measured_objects(surface)
        about = {"class": surface.class_name, "object": "all" if len(objects) > 1 else "1"}
        whole = measured_surface(surface) + scene.intensities.get(surface.class_index, [])
        rows.append(Row(about | _band(scene, surface), whole, 3))
        if len(objects) > 1:
            rows += [Row(about | {"object": str(n)}, each, 3) for n, each in enumerate(objects, start=1)]
    return rows


def lines_of(scene: Scene) -> list[list[str]]:
    """Return headings and rows for people: numbers with their errors, and volumes with their bands."""
    rows = rows_of(scene)
    about, numbers = _columns(rows, scene.unit)
    bands = [title for title in about if title.startswith("volume ")]
    shown = [title for title in about if title not in bands]
    lines = [[*shown, *numbers.values()]]
    for row in rows:
        cells = [row.about.get(title, "") for title in shown]
        values = {headed(each, scene.unit, row.ndim): each for each in row.measured}
        for title in numbers:
            each = values.get(title)
            text = "" if each is None else f"{each.value:.5g} ± {each.error:.1g}"
            if each is not None and each.title == "volume" and bands and bands[0] in row.about:
                text += f" ({' to '.join(f'{float(row.about[band]):.4g}' for band in bands)})"
            cells.append(text)
        lines.append(cells)
    return lines


def _columns(rows: list[Row], unit: str) -> tuple[list[str], dict[str, str]]:
    """The headings of what says which object it is, and those of numbers, in files and for people."""
    about = dict.fromkeys(title for row in rows for title in row.about)
    numbers = {
        headed(each, unit, row.ndim): heading(each.title, each.quantity, unit, row.ndim)
        for row in rows
        for each in row.measured
    }
    return list(about), numbers


def write_table(path: Path, scene: Scene) -> None:
    """Write the rows as CSV; numbers that a row lacks are left empty."""
    rows = rows_of(scene)
    about, numbers = _columns(rows, scene.unit)
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(
            file, [*about, *(title for each in numbers for title in (each, f"{each} error"))]
        )
        table.writeheader()
        for row in rows:
            cells = dict(row.about)
            for each in row.measured:
                title = headed(each, scene.unit, row.ndim)
                cells |= {title: f"{each.value:.8g}", f"{title} error": f"{each.error:.2g}"}
            table.writerow(cells)


def _row_of_outline(outline: Outline) -> Row:
    about = {"number": str(outline.number), "class": outline.polygon.class_name}
    if outline.slice_index is not None:
        about["slice"] = str(outline.slice_index)
    return Row(about | {"score": f"{outline.polygon.score:.6g}"}, outline.measured, 2)


def _band(scene: Scene, surface: Surface) -> dict[str, str]:
    if not scene.bands:
        return {}
    ends = zip(("low", "high"), scene.bands[surface.class_index], strict=True)
    return {f"volume {end} [{symbol_of(scene.unit)}^3]": f"{volume:.6g}" for end, volume in ends}
