"""Pictures of a finished study: charts, cases as every network sees them, and what SwIPE attends to."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from studies.charts import write_charts
from studies.results import FinishedRun
from studies.study import Study
from swipe_core.data.cases import find_cases
from swipe_core.data.labelled import LabelledImage, read_labelled
from swipe_core.errors import listed
from swipe_core.evaluation.figures import (
    attention_panels,
    class_legend,
    label_panel,
    own_panels,
    shown_slice,
)
from swipe_core.evaluation.report import EvaluationReport
from swipe_core.inference.stack import iter_sampled, rendering_on
from swipe_core.pictures import Panel, contact_sheet, write_png
from swipe_core.prediction.predictor import Predictor
from swipe_core.progress import Notice, Progress, only_notices

# Which cases are shown, of those in the order of their mean Dice over the networks.
QUANTILES = (0.1, 0.3, 0.5, 0.7, 0.9)
SIZE = 220  # pixels along the longer side of a picture
ACROSS = 8  # pictures side by side
OWN = ("image", "reference")  # pictures of a case before those of the networks


@dataclass(eq=False)
class _Shown:
    """A case, and the pictures of what networks made of it."""

    case: LabelledImage
    slice: tuple[int, ...] = ()
    panels: list[Panel] = field(default_factory=list)
    attention: list[Panel] = field(default_factory=list)


def write_pictures(
    study: Study,
    finished: Sequence[FinishedRun],
    folder: Path,
    *,
    is_published: bool = False,
    device: str = "auto",
) -> Generator[Progress | Notice, None, list[Path]]:
    """Draw what a study found as PNG files; yields progress and returns their paths.

    These are ``dice.png``, a chart for each of the study's, ``cases.png`` with some cases as each row's
    network segments them, and ``attention.png`` where a network has multi-stage embedding attention. What
    there are no scores for is left out.

    Parameters
    ----------
    finished
        Of a row that was trained with several seeds the first run segments the cases.
    folder
        Made where there is none.
    is_published
        Draw the paper's numbers beside ours, since they are of the same data (`Setting.is_published`).

    Raises
    ------
    SwipeError
        When a checkpoint or a case cannot be read, or a picture not be written.
    """
    written = write_charts(study, finished, folder, is_published)
    plain = [condition.name for condition in study.conditions if condition.is_plain][:1]
    judged = [run for run in finished if plain and plain[0] in run.scores]
    if judged:
        written += yield from _write_sheets(judged, plain[0], folder, device)
    return written


def cases_at(reports: Sequence[EvaluationReport], quantiles: Sequence[float]) -> list[str]:
    """Names of the cases at some quantiles of the mean Dice over several networks, from low to high.

    All networks count alike in the choice, so that it favours none. Cases are left out that not every network
    was judged on; of equals, names decide.
    """
    dice = [{case.name: case.present_dice for case in report.cases} for report in reports]
    common = set.intersection(*(set(own) for own in dice))
    ranked = sorted(common, key=lambda name: (float(np.mean([own[name] for own in dice])), name))
    last = len(ranked) - 1
    chosen = [ranked[min(int(quantile * len(ranked)), last)] for quantile in quantiles if ranked]
    return list(dict.fromkeys(chosen))


def _write_sheets(
    judged: Sequence[FinishedRun], condition: str, folder: Path, device: str
) -> Generator[Progress | Notice, None, list[Path]]:
    runs = _first_of_each_row(judged)
    quantiles = QUANTILES if len(runs) + len(OWN) <= ACROSS else QUANTILES[::2]
    names = cases_at([run.scores[condition] for run in judged], quantiles)
    if not names:
        return []
    shown = [_Shown(case) for case in _read_cases(runs[0], names)]
    attentive = _attentive(runs, condition)
    for number, run in enumerate(runs):
        predictor = Predictor.load(run.checkpoint, device=device)
        for place, one in enumerate(shown, start=1):
            yield from _segment(predictor, run, condition, one, run is attentive)
            yield Progress("Drawing cases", number * len(shown) + place, len(runs) * len(shown))
    labels = runs[0].config.labels
    rows = [line for one in shown for line in _lines(one.panels)]
    told = _chosen_so(runs[0].split, quantiles)
    sheets = {"cases": contact_sheet(rows, class_legend(labels), f"{told}.")}
    if attentive is not None:
        title = (
            f"How much each patch of {attentive.row.name} draws on fine (F2) to coarse (F5) features. {told}."
        )
        sheets["attention"] = contact_sheet([one.attention for one in shown], title=title)
    for name, sheet in sheets.items():
        write_png(folder / f"{name}.png", sheet)
    return [folder / f"{name}.png" for name in sheets]


def _first_of_each_row(runs: Sequence[FinishedRun]) -> list[FinishedRun]:
    first: dict[str, FinishedRun] = {}
    for run in runs:
        first.setdefault(run.row.name, run)
    return list(first.values())


def _read_cases(run: FinishedRun, names: Sequence[str]) -> list[LabelledImage]:
    config = run.config
    found = {case.name: case for case in find_cases(run.data, run.split, config.training.split_seed)}
    return [read_labelled(found[name], config.model.ndim, config.labels) for name in names]


def _attentive(runs: Sequence[FinishedRun], condition: str) -> FinishedRun | None:
    """Of the networks that weigh their stages the one with the greatest Dice."""
    weighing = [run for run in runs if getattr(run.config.model, "fusion", None) == "attention"]
    return max(weighing, key=lambda run: run.scores[condition].mean("dice"), default=None)


def _segment(
    predictor: Predictor, run: FinishedRun, condition: str, shown: _Shown, with_attention: bool
) -> Generator[Notice, None, None]:
    """Add what a network made of a case."""
    image, labels = shown.case.image, run.config.labels
    field = yield from only_notices(predictor.iter_field(image))
    rendered = yield from only_notices(iter_sampled(field, rendering_on(image.grid)))
    if not shown.panels:
        shown.slice = shown_slice(shown.case, rendered.array, labels)
        shown.panels += own_panels(shown.case, shown.slice, labels, title=shown.case.name, size=SIZE)
    dice = {case.name: case.present_dice for case in run.scores[condition].cases}[shown.case.name]
    words = f"{run.row.name}, Dice {dice:.2f}"
    shown.panels.append(label_panel(image, rendered.array, shown.slice, labels, title=words, size=SIZE))
    if with_attention:
        own = shown.panels[OWN.index("reference")]
        shown.attention = [replace(own, title=shown.case.name)]
        shown.attention += attention_panels(field, image, shown.slice, size=SIZE)[1:]


def _lines(panels: Sequence[Panel]) -> list[list[Panel]]:
    """The image, the reference and the networks' pictures; those beyond the width go on below."""
    own, found = list(panels[: len(OWN)]), panels[len(OWN) :]
    across = ACROSS - len(OWN)
    blank = [Panel(np.full((1, 1, 3), 255, np.uint8))] * len(OWN)
    parts = [list(found[start : start + across]) for start in range(0, len(found), across)]
    return [(blank if number else own) + part for number, part in enumerate(parts)]


def _chosen_so(split: str, quantiles: Sequence[float]) -> str:
    places = listed(f"{100 * quantile:g}" for quantile in quantiles)
    return f"Cases of {split}/, in the order of their mean Dice over all networks: those at {places} %"
