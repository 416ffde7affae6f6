"""What the page of a model shows besides its card: scores that are its own, and what goes wrong in cases."""

from __future__ import annotations

import textwrap
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle, pairwise
from pathlib import Path

import numpy as np

from swipe_core.data.cases import Case
from swipe_core.errors import ConfigError, DataError, nearest_name
from swipe_core.evaluation.evaluate import evaluate
from swipe_core.evaluation.report import CaseScores, EvaluationReport
from swipe_core.files.strict_yaml import fault_of, read_yaml
from swipe_core.pictures import write_png
from swipe_core.pictures.charts import SERIES_COLOURS, Number, name_below, plain_axes
from swipe_core.pictures.overlays import new_figure, rendered
from swipe_core.prediction.predictor import Predictor
from swipe_core.progress import Notice, Progress

# Another device rounds differently, and weights are in half precision once a model is released.
AGREEMENT = 0.02  # of Dice
FORM = (
    "each line is 'case name: sentence', with quotes round a name that is a number and round a sentence with "
    "a colon"
)


@dataclass(frozen=True)
class Evidence:
    """What a page shows of a model besides what its checkpoint says.

    Attributes
    ----------
    report
        Of the validation cases.
    worst
        The cases on the sheet, in its order.
    failures
        What goes wrong in a case, in a sentence, by the case's name; looked at and written by people.
    sheet, histogram, reliability
        Links to the pictures, relative to the page; the last one is drawn by tools/calibrate.py, or empty.
    """

    report: EvaluationReport
    worst: tuple[CaseScores, ...]
    failures: Mapping[str, str]
    sheet: str
    histogram: str
    reliability: str = ""


def check_cases(report: EvaluationReport, cases: Sequence[Case], class_names: Sequence[str]) -> None:
    """See that a report is of just these cases and classes.

    Raises
    ------
    DataError
        Otherwise.
    """
    scored, found = {case.name for case in report.cases}, {case.name for case in cases}
    if scored != found or len(report.cases) != len(cases):
        odd = min(scored ^ found, default="a name that stands twice")
        raise DataError(
            f"The scores are of {len(report.cases)} cases and the data holds {len(cases)}, which are not the "
            f"same ({odd}): evaluate the model on this data, and this split, anew."
        )
    if report.class_names != tuple(class_names):
        raise DataError(
            f"The scores are of {', '.join(report.class_names)}, and the model finds "
            f"{', '.join(class_names)}: evaluate this model anew."
        )


def check_worst(
    predictor: Predictor, cases: Sequence[Case], report: EvaluationReport, count: int
) -> Generator[Progress | Notice, None, None]:
    """Evaluate the worst cases of a report again, and see that their Dice is this model's; yields progress.

    Raises
    ------
    DataError
        When one differs by more than `AGREEMENT`.
    """
    by_name = {case.name: case for case in cases}
    worst = report.worst(count)
    again = yield from evaluate(predictor, [by_name[case.name] for case in worst])
    for given, found in zip(worst, again.cases, strict=True):
        if abs(given.present_dice - found.present_dice) > AGREEMENT:
            raise DataError(
                f"The scores give {given.name} a Dice of {given.present_dice:.3f}, and this model one of "
                f"{found.present_dice:.3f}: they are of another model or other data; evaluate this one anew."
            )


def dice_histogram(report: EvaluationReport) -> dict[str, dict[str, int]]:
    """By class, how many of the cases that hold it have a Dice in each tenth, for `write_bars`.

    The last tenth includes 1; the others do not include their upper end.
    """
    ends = np.linspace(0, 1, 11)
    tenths = [f"{low:.1f}-{high:.1f}" for low, high in pairwise(ends)]
    counts = {}
    for name in report.class_names:
        dice = [case.classes[name].dice for case in report.holding(name).cases]
        counts[name] = dict(zip(tenths, np.histogram(dice, ends)[0].tolist(), strict=True))
    return counts


def write_bars(
    values: Mapping[str, Mapping[str, Number]],
    path: Path | str,
    y_label: str,
    title: str = "",
    digits: int = 2,
) -> None:
    """Groups of bars from zero, as a PNG: `values[series][group]`; a series may lack some groups."""
    groups = list(dict.fromkeys(group for row in values.values() for group in row))
    figure = new_figure(max(500, 120 + 56 * len(groups) * len(values)), 450, layout="constrained")
    axes = figure.subplots()
    width = 0.8 / len(values)
    for index, ((name, row), colour) in enumerate(zip(values.items(), cycle(SERIES_COLOURS), strict=False)):
        present = [place for place, group in enumerate(groups) if np.isfinite(row.get(group, np.nan))]
        places = np.array(present) + (index - (len(values) - 1) / 2) * width
        heights = [row[groups[place]] for place in present]
        bars = axes.bar(places, heights, 0.94 * width, color=colour, label=name)
        axes.bar_label(bars, fmt=f"%.{digits}f", fontsize=8, padding=2)
    axes.set_xticks(range(len(groups)), [textwrap.fill(group, 7 * len(values) + 4) for group in groups])
    axes.set(ylabel=y_label, title=title)
    axes.margins(y=0.1)
    plain_axes(axes)
    axes.grid(False, axis="x")
    name_below(figure, list(values))
    write_png(path, rendered(figure))


def read_failures(path: str | Path, case_names: Iterable[str]) -> dict[str, str]:
    """What goes wrong in single cases, from a YAML file that maps names to sentences; {} without a file.

    Raises
    ------
    ConfigError
        When the file is no such map, or names a case twice or one that is none of `case_names`.
    """
    import yaml

    path, known = Path(path), list(case_names)
    if not path.exists():
        return {}
    try:
        values = read_yaml(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} cannot be read as YAML ({fault_of(error)}): {FORM}.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read as a text file ({error}).") from error
    values = {} if values is None else values
    if not isinstance(values, dict) or not all(isinstance(v, str) for pair in values.items() for v in pair):
        raise ConfigError(f"{path} must map names of cases to sentences: {FORM}.")
    for name in values:
        if name not in known:
            hint = nearest_name(name, known)
            raise ConfigError(f"{path} names {name!r}, which is no validation case.{hint}")
    return values
