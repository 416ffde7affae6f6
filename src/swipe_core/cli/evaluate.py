"""Compare a trained model's segmentations with reference labels."""

import argparse
import math
import sys
from pathlib import Path

from swipe_core.checkpoints.file import CheckpointContent, load_checkpoint
from swipe_core.checkpoints.library import find_checkpoint
from swipe_core.cli.options import changed_config
from swipe_core.cli.shared import columns, exit_code, finish_under_bar, prepare_file
from swipe_core.data.cases import Case, find_cases, has_parts, holds_marked, split_cases
from swipe_core.errors import ConfigError
from swipe_core.evaluation.evaluate import evaluate
from swipe_core.evaluation.report import EvaluationReport, Origin, write_report
from swipe_core.measure.instances import INSTANCE_METRICS
from swipe_core.measure.metrics import METRICS, agreement_metrics
from swipe_core.pictures.charts import write_reliability
from swipe_core.prediction.calibration import iter_calibration
from swipe_core.prediction.predictor import Predictor


def choose_cases(options: argparse.Namespace, content: CheckpointContent) -> tuple[list[Case], str, str]:
    """Return the cases to evaluate on, the name of their part, and a sentence on why it is this one."""
    seed = (content.summary.split_seed or 0) if options.seed is None else options.seed
    is_divided = has_parts(options.data) or options.seed is not None
    split = options.split or ("val" if is_divided else None)
    if split is not None:
        return find_cases(options.data, None if split == "all" else split, seed), split, ""
    cases, marks = find_cases(options.data), content.summary.training_marks
    if marks is None:
        return cases, "all", ": the model does not say which cases it was trained on"
    if not holds_marked(cases, marks):
        return cases, "all", ": the model was trained on none of them"
    kept = split_cases(cases, seed)["val"]
    if not kept or holds_marked(kept, marks):
        return cases, "all", ": the model was trained on some of them, which scores better than new ones"
    return (
        kept,
        "val",
        ": the model was trained on others of this folder; --split all takes these, too",
    )


def evaluated(options: argparse.Namespace) -> tuple[EvaluationReport, Origin, str]:
    """Check what can be checked, then segment and compare; also returns why on these cases."""
    if not 0 <= options.tolerance < math.inf:
        raise ConfigError(f"--tolerance must be 0 or more; got {options.tolerance:g}.")
    checkpoint = load_checkpoint(find_checkpoint(options.checkpoint))
    config = changed_config(checkpoint.content.inference, options)
    predictor = Predictor.load(checkpoint, device=options.device, config=config)
    cases, split, reason = choose_cases(options, predictor.content)
    for option in ("json", "reliability"):
        if file := getattr(options, option):
            prepare_file(Path(file), f"--{option}")
    work = evaluate(
        predictor,
        cases,
        tolerance=options.tolerance,
        image_factor=options.image_factor,
        instances=options.instances,
    )
    report = finish_under_bar(work, unit="case")
    if options.reliability:
        judge_probabilities(predictor, cases, options.reliability)
    return report, Origin.of(predictor, split, options.image_factor), reason


def judge_probabilities(predictor: Predictor, cases: list[Case], path: str) -> None:
    """Draw how often the probabilities came true, and say it in a sentence."""
    found = finish_under_bar(iter_calibration(predictor, cases, predictor.content.temperature or 1.0))
    if found is None:
        print("No case holds a boundary of the classes: nothing is said of probabilities.", file=sys.stderr)
        return
    write_reliability(path, found.series)
    print(f"probabilities: {found}")


def table(report: EvaluationReport) -> str:
    """Return the means by class as text, with what they leave open where some case lacks a class."""
    metrics = [METRICS[key] for key in agreement_metrics()]
    rows = [["class", *(report.heading(metric.key) for metric in metrics)]]
    for name in report.class_names:
        rows.append([name, *(metric.text(report.mean(metric.key, name)) for metric in metrics)])
    rows.append(["mean", *(metric.text(report.mean(metric.key)) for metric in metrics)])
    single = [f"{INSTANCE_METRICS[name]}: {value:.3f}" for name, value in report.instances.items()]
    return "\n".join([columns(rows), *absences(report), *single])


def absences(report: EvaluationReport) -> list[str]:
    """Return, for each class that some case lacks, how often it was marked there, and its Dice where it is.

    Also how many cases have no distance.
    """
    lines = []
    for name in report.class_names:
        presence = report.presence(name)
        if name not in report.held:
            lines.append(f"{name} is in no case, nor was it marked in any: it counts in no mean")
            continue
        if left_out := presence.left_out_text(name):
            lines.append(left_out)
        if presence.absent:
            lines.append(presence.false_alarm_text(name))
        if presence.absent and presence.present:
            dice = f"Dice {presence.mean:.3f}, median {presence.median:.3f}, sd {presence.sd:.3f}"
            plural = "s" * (presence.present != 1)
            lines.append(f"{presence.present} case{plural} with {name}: {dice}")
    return lines


def run(options: argparse.Namespace) -> int:
    """Evaluate, print, and write the scores where ``--json`` names a file."""
    report, origin, reason = evaluated(options)
    if options.json:
        write_report(options.json, report, origin)
    print(f"{len(report.cases)} cases of {options.data} ({origin.split}{reason})")
    print(table(report))
    return 0


def main(options: argparse.Namespace) -> int:
    return exit_code(
        lambda: run(options), place=options.json or options.data, stopped=lambda: "no scores are written"
    )
