"""The results of a study as Markdown."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from studies.judging import TOLERANCE
from studies.results import FAILED, NOT_JUDGED, NOT_TRAINED, Results
from studies.runs import PlannedRun
from studies.study import Condition, Published, Row
from swipe_core.errors import listed
from swipe_core.measure.metrics import METRICS, agreement_metrics
from tools.markdown import markdown_table

MILLION, BILLION = 1e6, 1e9
NONE = "-"
SPLIT_WORDS = {"train": "training", "val": "validation", "test": "test"}

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
    parts.append(f"## What the numbers are\n\n{notes(results)}")
    parts += [f"Made with:\n\n    {command}"] if command else []
    return "\n\n".join(parts) + "\n"


def _at_once(results: Results, condition: Condition) -> str:
    """Costs and all scores under the only condition."""
    head, rows = _costs(results)
    for title, metric in _metrics(results).items():
        head.append(title)
        for row, cells in zip(results.study.rows, rows, strict=True):
            cells.append(_score(results, row, condition, metric))
    return markdown_table(head, rows)


def _by_metric(results: Results) -> list[str]:
    """Costs, and a table of each kind of scores with a column for each condition."""
    study = results.study
    names = [condition.name for condition in study.conditions]
    parts = [markdown_table(*_costs(results))]
    for title, metric in _metrics(results).items():
        rows = [
            [row.name, *(_score(results, row, c, metric) for c in study.conditions)] for row in study.rows
        ]
        parts += [f"## {title[0].upper()}{title[1:]}", markdown_table(["network", *names], rows)]
    return parts


def _metrics(results: Results) -> dict[str, str]:
    """Kinds of scores by their titles."""
    reports = [report for run in results.finished for report in run.scores.values()]
    unit = f" ({reports[0].cases[0].unit})" if reports else ""
    metrics = [METRICS[key] for key in agreement_metrics() if key != "iou"]  # which says the same as Dice
    return {
        metric.title.partition(" (")[0] + (" (%)" if metric.quantity == "number" else unit): metric.key
        for metric in metrics
    }


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
        scale, digits = (100.0, 1) if METRICS[metric].quantity == "number" else (1.0, 2)
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


def notes(results: Results) -> str:
    """Return what a reader must know of the tables, as a Markdown list."""
    lines = [_data_note(results), _chosen_note(results), _training_note(results), _dice_note(results)]
    lines += [_surfaces_note(results), _operations_note(results), _published_note(results)]
    return "\n".join(f"- {line}" for line in lines if line)


def _data_note(results: Results) -> str:
    run, setting = results.runs[0], results.setting
    counts = listed(f"{count} {SPLIT_WORDS[split]}" for split, count in run.case_counts.items())
    own = f"**Data.** `{setting.data}`: {counts} cases."
    other = {j.count for each in results.runs for j in each.judgings if j.condition.other_data}
    return own + (f" Other data: `{setting.other_data}`, all {max(other)} cases." if other else "")


def _chosen_note(results: Results) -> str:
    run = results.runs[0]
    count = run.case_counts[run.split]
    if run.split == "val":
        return (
            f"**Judged** on the {count} validation cases, with the weights of the last step: nothing was "
            "chosen by the cases that it is judged on."
        )
    if not run.is_chosen:
        return f"**Judged** on the {count} test cases, with the weights of the last step."
    return (
        f"**Judged** on the {count} test cases, with the weights of the best Dice on the "
        f"{run.case_counts['val']} validation cases."
    )


def _training_note(results: Results) -> str:
    seeds = results.study.seeds
    budget = _by_row(
        results, lambda run: f"{run.config.training.steps} steps of {run.config.batch.size} images"
    )
    shares = {run.config.training.case_share for run in results.runs}
    partly = " Some rows see a part of the training cases." if shares != {1.0} else ""
    devices = sorted({run.device for run in results.finished})
    device = f", on {listed(devices)}" if devices else ""
    validated = " Minutes include the validations on the way." if results.runs[0].is_chosen else ""
    return (
        f"**Training.** {budget}; seed{'s' * (len(seeds) > 1)} {listed(map(str, seeds))}{device}."
        f"{validated}{partly}"
    )


def _by_row(results: Results, text_of: Callable[[PlannedRun], str]) -> str:
    """Return what `text_of` says of all rows, or by row where it differs."""
    rows: dict[str, list[str]] = {}
    for run in results.runs:
        names = rows.setdefault(text_of(run), [])
        if run.row.name not in names:
            names.append(run.row.name)
    if len(rows) == 1:
        return next(iter(rows))
    return "; ".join(f"{text} ({', '.join(names)})" for text, names in rows.items())


def _dice_note(results: Results) -> str:
    over = (
        "over the seeds (n - 1 in the denominator)"
        if len(results.study.seeds) > 1
        else "over the cases, since there is one seed"
    )
    return (
        "**Dice** is the mean over the cases of the mean over the classes, where a class that neither map "
        f"has counts as 1. ± is the standard deviation {over}."
    )


def _surfaces_note(results: Results) -> str:
    units = sorted({report.cases[0].unit for run in results.finished for report in run.scores.values()})
    unit = f" {listed(units)}" if units else ""
    return (
        "**HD95** (the 95 % Hausdorff distance) is over the classes that both maps have, or neither; "
        f"**surface Dice** takes surfaces within {TOLERANCE:g}{unit} for the same."
    )


def _operations_note(results: Results) -> str:
    shapes = sorted({run.training_shape for run in results.finished})
    voxels = f" ({listed(' x '.join(map(str, shape)) for shape in shapes)} voxels)" if shapes else ""
    return f"**Multiply-adds** are those of one training image{voxels} with its points, without the gradient."


def _published_note(results: Results) -> str:
    if not results.study.source:
        return ""
    if results.setting.is_published:
        return f"**In parentheses**: the numbers of {results.study.source}."
    return "The paper's numbers are of other data, and so do not stand beside these."


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
