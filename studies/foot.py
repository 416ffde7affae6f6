"""What a reader must know of a table of results: data, budget, and what was chosen on what."""

from __future__ import annotations

from collections.abc import Callable

from studies.judging import TOLERANCE
from studies.results import Results
from studies.runs import PlannedRun
from swipe_core.errors import listed

SPLIT_WORDS = {"train": "training", "val": "validation", "test": "test"}


def foot(results: Results) -> str:
    """Notes below the tables, as a Markdown list."""
    lines = [_data(results), _chosen(results), _training(results), _dice(results), _surfaces(results)]
    lines += [_operations(results), _published(results)]
    return "\n".join(f"- {line}" for line in lines if line)


def _data(results: Results) -> str:
    run, setting = results.runs[0], results.setting
    counts = listed(f"{count} {SPLIT_WORDS[split]}" for split, count in run.case_counts.items())
    told = f"**Data.** `{setting.data}`: {counts} cases."
    other = {j.count for each in results.runs for j in each.judgings if j.condition.other_data}
    return told + (f" Other data: `{setting.other_data}`, all {max(other)} cases." if other else "")


def _chosen(results: Results) -> str:
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


def _training(results: Results) -> str:
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


def _by_row(results: Results, told: Callable[[PlannedRun], str]) -> str:
    """What is said of all rows, or by row where it differs."""
    rows: dict[str, list[str]] = {}
    for run in results.runs:
        names = rows.setdefault(told(run), [])
        if run.row.name not in names:
            names.append(run.row.name)
    if len(rows) == 1:
        return next(iter(rows))
    return "; ".join(f"{text} ({', '.join(names)})" for text, names in rows.items())


def _dice(results: Results) -> str:
    over = (
        "over the seeds (n - 1 in the denominator)"
        if len(results.study.seeds) > 1
        else "over the cases, since there is one seed"
    )
    return (
        "**Dice** is the mean over the cases of the mean over the classes, where a class that neither map "
        f"has counts as 1. ± is the standard deviation {over}."
    )


def _surfaces(results: Results) -> str:
    units = sorted({report.cases[0].unit for run in results.finished for report in run.scores.values()})
    unit = f" {listed(units)}" if units else ""
    return (
        "**Hausdorff 95** is over the classes that both maps have, or neither; **surface Dice** takes "
        f"surfaces within {TOLERANCE:g}{unit} for the same."
    )


def _operations(results: Results) -> str:
    shapes = sorted({run.training_shape for run in results.finished})
    told = f" ({listed(' x '.join(map(str, shape)) for shape in shapes)} voxels)" if shapes else ""
    return f"**Multiply-adds** are those of one training image{told} with its points, without the gradient."


def _published(results: Results) -> str:
    if not results.study.source:
        return ""
    if results.setting.is_published:
        return f"**In parentheses**: the numbers of {results.study.source}."
    return "The paper's numbers are of other data, and so do not stand beside these."
