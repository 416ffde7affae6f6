"""Write the page of a released model: card, validation scores, training, and the cases it does worst on."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # tools are not part of the package

from swipe_core.cli.shared import exit_code, finish_under_bar, prepare_file, until_unread
from swipe_core.data.cases import Case, find_cases
from swipe_core.data.labelled import read_labelled
from swipe_core.errors import ConfigError
from swipe_core.evaluation.evaluate import evaluate
from swipe_core.evaluation.figures import case_sheet
from swipe_core.evaluation.report import EvaluationReport
from swipe_core.files.atomic import write_text
from swipe_core.pictures import write_png
from swipe_core.prediction.predictor import Predictor
from swipe_core.training.config import config_names, load_config
from tools.evidence import Evidence, check_cases, check_worst, dice_histogram, read_failures, write_bars
from tools.pages import card_of, model_page, page_name
from tools.scores_file import read_report

PANEL_SIZE = 200  # pixels: ten cases, two in a row, make a picture of less than a megabyte
COLUMNS = 2

EPILOG = """\
examples:
  python tools/model_page.py nuclei data/nuclei
  python tools/model_page.py nuclei data/nuclei --scores scores.json --worst 6

what is written: docs/models/NAME.md, docs/images/worst_NAME.png and docs/images/dice_NAME.png. What goes
wrong in a case is for people to say, after a look at the sheet: docs/models/NAME.failures.yaml maps
names of cases to sentences, which stand on the page when it is made again.
"""


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", metavar="MODEL", help="a model of the package, or a checkpoint with a card")
    parser.add_argument("data", metavar="DATA_DIR", help="the data it was trained on; its val part is used")
    parser.add_argument(
        "--scores", metavar="FILE", help="take the scores from this file, which `swipe evaluate --json` wrote"
    )
    parser.add_argument(
        "--output", default="docs/models", metavar="DIR", help="folder of the page (default: docs/models)"
    )
    parser.add_argument(
        "--images", default="docs/images", metavar="DIR", help="folder of its pictures (default: docs/images)"
    )
    parser.add_argument("--worst", type=int, default=10, metavar="N", help="cases on the sheet (default: 10)")
    parser.add_argument(
        "--config",
        metavar="CONFIG",
        help="the configuration it was trained with (default: the one of the model's name, if there is one)",
    )
    parser.add_argument(
        "--device", default="auto", metavar="D", help="auto, cpu, cuda or mps (default: auto)"
    )
    return parser.parse_args(arguments)


def scores_of(predictor: Predictor, cases: list[Case], options: argparse.Namespace) -> EvaluationReport:
    """The scores of the file where one is given and fits, else what an evaluation finds."""
    if options.scores is None:
        work = evaluate(predictor, cases, instances=predictor.model.has_interior)
        return finish_under_bar(work, unit="case")
    report = read_report(options.scores)
    check_cases(report, cases, predictor.content.labels.class_names)
    finish_under_bar(check_worst(predictor, cases, report, options.worst), unit="case")
    return report


def configuration_of(name: str, config: str | None) -> str | None:
    """The configuration to name on the page; one that was given must be there."""
    if config is not None:
        load_config(config)
        return config
    return name if name in config_names() else None


def linked(target: Path, page: Path) -> str:
    """A link from a page to a file."""
    try:
        return Path(os.path.relpath(target, page.parent)).as_posix()
    except ValueError as error:
        raise ConfigError("--output and --images must lie on the same drive.") from error


def paths_of(name: str, options: argparse.Namespace) -> dict[str, Path]:
    """The three files, whose folders are there from here on."""
    output, images = Path(options.output), Path(options.images)
    paths = {
        "page": output / f"{name}.md",
        "sheet": images / f"worst_{name}.png",
        "histogram": images / f"dice_{name}.png",
    }
    for kind, path in paths.items():
        prepare_file(path, "--output" if kind == "page" else "--images")
    return paths


def gathered(
    predictor: Predictor, options: argparse.Namespace, paths: Mapping[str, Path]
) -> tuple[Evidence, list[Case]]:
    """What the page shows besides the card, and the cases of its sheet."""
    seed = predictor.content.summary.split_seed or 0
    cases = find_cases(options.data, "val", seed)
    by_name = {case.name: case for case in cases}
    failures = read_failures(paths["page"].with_suffix(".failures.yaml"), by_name)
    report = scores_of(predictor, cases, options)
    worst = report.worst(options.worst)
    sheet, histogram = (linked(paths[kind], paths["page"]) for kind in ("sheet", "histogram"))
    plot = paths["histogram"].with_name(f"reliability_{paths['page'].stem}.png")
    reliability = linked(plot, paths["page"]) if plot.exists() else ""
    return Evidence(report, worst, failures, sheet, histogram, reliability), [
        by_name[case.name] for case in worst
    ]


def run(options: argparse.Namespace) -> int:
    """Check, evaluate, draw, and write; say where everything is."""
    if options.worst < 1:
        raise ConfigError(f"--worst must be 1 or more; got {options.worst}.")
    predictor = Predictor.load(options.model, device=options.device)
    content = predictor.content
    card_of(content)
    name = page_name(content)
    configuration = configuration_of(name, options.config)
    paths = paths_of(name, options)
    evidence, worst = gathered(predictor, options, paths)
    labelled = [read_labelled(case, content.model.ndim, content.labels) for case in worst]
    sheet = case_sheet(predictor, labelled, columns=COLUMNS, size=PANEL_SIZE, numbered=True)
    text = model_page(content, evidence, configuration)
    write_png(paths["sheet"], sheet)
    counts, axis = dice_histogram(evidence.report), "cases that hold the class"
    write_bars(counts, paths["histogram"], axis, "Validation cases by their Dice", digits=0)
    write_text(paths["page"], text)
    print("\n".join(str(path) for path in paths.values()))
    return 0


def main(arguments: list[str] | None = None) -> int:
    options = parse_arguments(arguments)
    return exit_code(lambda: run(options), place=options.output, stopped=lambda: "no page is written")


if __name__ == "__main__":
    raise SystemExit(until_unread(main))
