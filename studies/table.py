"""The results of a study as Markdown."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from studies.foot import foot
from studies.results import FAILED, NOT_JUDGED, NOT_TRAINED, Results
from studies.study import Condition, Published, Row

MILLION, BILLION = 1e6, 1e9
NONE = "-"

Cells = list[str]


def markdown(results: Results, command: str = "", pictures: Sequence[str] = ()) -> str:
    """The tables of a study, and below them all that a reader must know to judge them.

    Parameters
    ----------
    command
        That makes them.
    pictures
        Names of files that lie beside them.
    """
    study = results.study
    source = f"Repeats {study.source}. " if study.source else ""
    parts = [f"# {study.title}", f"{source}Setting: `{results.setting_name}`."]
    parts += _by_metric(results) if len(study.conditions) > 1 else [_at_once(results, study.conditions[0])]
    parts += [f"![{Path(name).stem.replace('_', ' ')}]({name})" for name in pictures]
    parts += _failures(results)
    parts.append(f"## What the numbers are\n\n{foot(results)}")
    parts += [f"Made with:\n\n    {command}"] if command else []
    return "\n\n".join(parts) + "\n"


def _at_once(results: Results, condition: Condition) -> str:
    """Costs and all scores under the only condition."""
    head, rows = _costs(results)
    for title, metric in _metrics(results).items():
        head.append(title)
        for row, cells in zip(results.study.rows, rows, strict=True):
            cells.append(_score(results, row, condition, metric))
    return _table(head, rows)


def _by_metric(results: Results) -> list[str]:
    """Costs, and a table of each kind of scores with a column for each condition."""
    study = results.study
    names = [condition.name for condition in study.conditions]
    parts = [_table(*_costs(results))]
    for title, metric in _metrics(results).items():
        rows = [
            [row.name, *(_score(results, row, c, metric) for c in study.conditions)] for row in study.rows
        ]
        parts += [f"## {title[0].upper()}{title[1:]}", _table(["network", *names], rows)]
    return parts


def _metrics(results: Results) -> dict[str, str]:
    """Kinds of scores by their titles."""
    reports = [report for run in results.finished for report in run.scores.values()]
    unit = f" ({reports[0].cases[0].unit})" if reports else ""
    return {"Dice (%)": "dice", f"Hausdorff 95{unit}": "hausdorff_95", "surface Dice (%)": "surface_dice"}


def _costs(results: Results) -> tuple[Cells, list[Cells]]:
    """Networks and what they cost: the head of the table, and the beginning of its rows."""
    seeds = len(results.study.seeds)
    head = ["network", "parameters (M)", "multiply-adds (G)", "training (min)"]
    rows = []
    for row in results.study.rows:
        runs = results.finished_of(row)
        theirs = row.published if results.setting.is_published else Published()
        cells = [
            row.name,
            _beside([run.parameters / MILLION for run in runs], theirs.parameters),
            _beside([run.multiply_adds / BILLION for run in runs], theirs.multiply_adds),
            _with_sd(_mean([run.minutes for run in runs]), None, 1),
        ]
        rows.append([*cells, f"{len(runs)} of {seeds}"] if seeds > 1 else cells)
    return [*head, "seeds"] if seeds > 1 else head, rows


def _score(results: Results, row: Row, condition: Condition, metric: str) -> str:
    """A mean, with its sd and the paper's number for the Dice; or why there is none."""
    if not condition.concerns(row):
        return ""
    is_dice = metric == "dice"
    scores = [run.scores[condition.name] for run in results.finished_of(row) if condition.name in run.scores]
    if scores:
        scale, digits = (1.0, 2) if metric == "hausdorff_95" else (100.0, 1)
        means = [scale * report.mean(metric) for report in scores]
        spread = _spread(results, means, scale * scores[0].spread(metric)) if is_dice else None
        told = _with_sd(_mean(means), spread, digits)
    else:
        told = _missing(results, row) if is_dice else NONE
    theirs, their_sd = results.published(row, condition.name) if is_dice else (None, None)
    return told if theirs is None else f"{told} (*{_with_sd(theirs, their_sd, 2)}*)"


def _spread(results: Results, means: Sequence[float], over_cases: float) -> float | None:
    """The sd of a row's Dice: over the seeds where the study has several, else over the cases."""
    if len(results.study.seeds) == 1:
        return over_cases
    return float(np.std(means, ddof=1)) if len(means) > 1 else None


def _mean(numbers: Sequence[float]) -> float:
    finite = [number for number in numbers if math.isfinite(number)]
    return float(np.mean(finite)) if finite else math.nan


def _missing(results: Results, row: Row) -> str:
    """Why a row has no scores under a condition."""
    planned = results.planned_of(row)
    if any(run.key in results.messages for run in planned):
        return FAILED
    if results.finished_of(row):
        return NOT_JUDGED
    taken = max((results.steps.get(run.key, 0) for run in planned), default=0)
    steps = planned[0].config.training.steps if planned else 0
    return f"{NOT_TRAINED} (step {taken} of {steps})" if taken else NOT_TRAINED


def _failures(results: Results) -> list[str]:
    lines = [
        f"- {run.name}: {message}" for run in results.runs for message in results.messages.get(run.key, ())
    ]
    return ["## Failed", "\n".join(lines)] if lines else []


def _beside(ours: Sequence[float], theirs: float | None) -> str:
    """Our number, which is the same for all seeds, and the paper's in parentheses."""
    told = f"{ours[0]:.3g}" if ours else NONE
    return told if theirs is None else f"{told} (*{theirs:g}*)"


def _with_sd(mean: float, sd: float | None, digits: int) -> str:
    if not math.isfinite(mean):
        return NONE
    return f"{mean:.{digits}f}" + ("" if sd is None else f" ± {sd:.{digits}f}")


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Numbers to the right, under a left column of names; aligned in the text, too."""
    lines = [[cell.replace("|", r"\|") for cell in line] for line in (head, *rows)]
    widths = [max(3, *map(len, column)) for column in zip(*lines, strict=True)]
    rule = [":" + "-" * (widths[0] - 1), *("-" * (width - 1) + ":" for width in widths[1:])]
    lines = [lines[0], rule, *lines[1:]]
    return "\n".join("| " + " | ".join(_aligned(line, widths)) + " |" for line in lines)


def _aligned(cells: Sequence[str], widths: Sequence[int]) -> list[str]:
    first, *others = zip(cells, widths, strict=True)
    return [first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)]
