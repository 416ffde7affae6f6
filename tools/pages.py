"""A model's page in Markdown: its card, what it scored, how it was trained, and where it does worst."""

from __future__ import annotations

import re
from typing import Any

from swipe_core.checkpoints.card import ModelCard
from swipe_core.checkpoints.file import CheckpointContent
from swipe_core.errors import CheckpointError, ConfigError
from swipe_core.evaluation.report import CaseScores, EvaluationReport
from swipe_core.measure.instances import INSTANCE_METRICS
from swipe_core.measure.metrics import METRICS, agreement_metrics
from swipe_core.measure.scores import ClassScores
from tools.evidence import Evidence
from tools.markdown import markdown_table

LICENCE_TEXTS = {
    "CC0 1.0": "https://creativecommons.org/publicdomain/zero/1.0/",
    "CC BY 4.0": "https://creativecommons.org/licenses/by/4.0/",
    "CC BY-SA 4.0": "https://creativecommons.org/licenses/by-sa/4.0/",
}


def model_page(content: CheckpointContent, evidence: Evidence, configuration: str | None = None) -> str:
    """The page of a released model, as Markdown.

    Parameters
    ----------
    configuration
        Name or file of the configuration that it was trained with; left out where it is not known.

    Raises
    ------
    CheckpointError
        When the model has no card.
    """
    card = card_of(content)
    sections = [
        f"# {card.title}\n\n`{content.name}`: {card.description}",
        _about(card),
        f"## Validation\n\n{_validation(card, evidence)}",
        f"## Training\n\n{_training(content, configuration)}",
        f"## The worst {len(evidence.worst)} of {len(evidence.report.cases)} cases\n\n"
        f"{_worst(content, card, evidence)}",
    ]
    return "\n\n".join(sections) + "\n"


def card_of(content: CheckpointContent) -> ModelCard:
    """The card of a model.

    Raises
    ------
    CheckpointError
        When it has none.
    """
    if content.card is None:
        raise CheckpointError(
            f"The model {content.name} has no card, and a page is made from it: give it one with "
            "tools/release.py."
        )
    return content.card


def page_name(content: CheckpointContent) -> str:
    """The name that the files of a page are called by: the model's own.

    Raises
    ------
    ConfigError
        When it cannot be a part of a file's name.
    """
    if not re.fullmatch(r"\w[\w.+-]*", content.name):
        raise ConfigError(
            f"A page is named after its model, and {content.name!r} cannot be a file's name: release the "
            "model under a name of letters, digits, '_' and '-'."
        )
    return content.name


def _about(card: ModelCard) -> str:
    facts = {
        "Intended use": card.intended_use,
        "What it must not be used for, and what was not tested": card.limits,
        "Data": card.data,
        "Licence of the weights": card.licence,
        "To be named": card.attribution,
    }
    return "\n\n".join(f"**{fact}.** {text}" for fact, text in facts.items())


def _validation(card: ModelCard, evidence: Evidence) -> str:
    report = evidence.report
    others = [report.heading(key) for key in agreement_metrics() if key != "dice"]
    rows = [_class_row(report, name) for name in report.class_names]
    table = markdown_table(("class", "cases", "Dice, mean", "sd", "median", "quartiles", *others), rows)
    note = (
        "Each row is over the cases whose reference holds the class, HD95 (the 95 % Hausdorff distance) over "
        "those of them in which it was found; sd is the standard deviation over cases."
    )
    picture = f"![How many cases have which Dice]({evidence.histogram})"
    came_true = (
        f"![How often probabilities came true]({evidence.reliability})" if evidence.reliability else ""
    )
    parts = (card.validation, table, note, _absences(report), _single_objects(report), picture, came_true)
    return "\n\n".join(part for part in parts if part)


def _single_objects(report: EvaluationReport) -> str:
    """A table of the scores of single objects; nothing where they were not compared."""
    if not report.instances:
        return ""
    headings = [INSTANCE_METRICS[name] for name in report.instances]
    table = markdown_table(headings, [[f"{value:.3f}" for value in report.instances.values()]])
    note = (
        "Single objects, mean over the cases: AP is TP / (TP + FP + FN), where objects count as found that "
        "overlap by more than 0.5, or by more than 0.5 to 0.9; the count error is the difference of the "
        "numbers of objects as a share of the right one."
    )
    return f"{table}\n\n{note}"


def _class_row(report: EvaluationReport, name: str) -> tuple[str, ...]:
    presence, held = report.presence(name), report.holding(name)
    text = METRICS["dice"].text
    lower, upper = map(text, presence.quartiles)
    dice = (f"**{text(presence.mean)}**", text(presence.sd), text(presence.median), f"{lower} to {upper}")
    others = (METRICS[key].text(held.mean(key, name)) for key in agreement_metrics() if key != "dice")
    return (name, str(presence.present), *dice, *others)


def _absences(report: EvaluationReport) -> str:
    """False alarms, a line for each class that some case lacks; empty where none does."""
    lines = []
    for name in report.class_names:
        presence = report.presence(name)
        if presence.absent:
            mean = f"{METRICS['dice'].text(report.mean('dice', name))} over all {len(report.cases)} cases"
            lines.append(
                f"- {presence.false_alarm_text(name)}. If a case without {name} counts 1 where nothing is "
                f"marked and 0 where something is, the mean Dice is {mean}."
            )
    return "\n".join(lines)


def _training(content: CheckpointContent, configuration: str | None) -> str:
    summary = content.summary
    facts: dict[str, Any] = {}
    if configuration is not None:
        command = f"swipe train {configuration} --data DATA_DIR --output runs/{content.name}"
        facts["configuration"] = f"`{configuration.removesuffix('.yaml')}.yaml`"
        facts["command"] = f"`{command}`"
    if summary.step is not None:
        facts["steps"] = summary.step if summary.steps is None else f"{summary.step} of {summary.steps}"
    facts |= {"minutes": summary.minutes, "device": summary.device}
    cases = {"training": summary.training_cases, "validation": summary.validation_cases}
    facts["cases"] = ", ".join(f"{count} {part}" for part, count in cases.items() if count is not None)
    facts["versions"] = ", ".join(f"{name} {version}" for name, version in (summary.versions or {}).items())
    rows = [(name, str(value)) for name, value in facts.items() if value]
    if not rows:
        return "The checkpoint does not say how it was trained."
    return markdown_table(("", ""), rows, left=2) + "\n\nSteps and minutes are those of this checkpoint."


def _worst(content: CheckpointContent, card: ModelCard, evidence: Evidence) -> str:
    order = "By the mean Dice over the classes that the reference or the prediction holds, the lowest first."
    if content.model.ndim == 3:
        order += " Each volume is shown in the slice with the most of the reference."
    sheet = f"![The worst cases: image, reference and prediction]({evidence.sheet})"
    lines = [
        f"{number}. {_case_line(case, evidence.failures.get(case.name, ''))}"
        for number, case in enumerate(evidence.worst, start=1)
    ]
    return "\n\n".join([order, sheet, _credit(card), "\n".join(lines)])


def _credit(card: ModelCard) -> str:
    """Whose images these are, and under which licence; its name stands before the card's first comma."""
    licence = card.licence.partition(",")[0].strip()
    if licence in LICENCE_TEXTS:
        licence = f"[{licence}]({LICENCE_TEXTS[licence]})"
    source = card.attribution.strip().rstrip(".")
    return (
        f"*Images and reference labels: {source}. Changed: resized, with areas and outlines drawn over them. "
        f"The images, and this picture, are under {licence}.*"
    )


def _case_line(case: CaseScores, sentence: str) -> str:
    several = len(case.classes) > 1
    outcomes = [
        _outcome(name, scores)
        for name, scores in case.classes.items()
        # A single class whose Dice stands there already needs no more, unless that is 0.
        if scores.dice == 0 or (several and scores.in_reference)
    ]
    line = f"`{case.name}`: Dice {case.present_dice:.2f}" + (f" ({', '.join(outcomes)})" if outcomes else "")
    return f"{line}. {sentence.strip()}" if sentence.strip() else line


def _outcome(name: str, scores: ClassScores) -> str:
    """How a class fared that the reference or the prediction holds."""
    if scores.is_miss:
        return f"no {name} marked"
    if scores.is_false_alarm:
        return f"{name} marked where there is none"
    return f"{name} {scores.dice:.2f}" if scores.dice else f"{name} marked, but elsewhere"
