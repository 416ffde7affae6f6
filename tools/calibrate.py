"""Fit the temperature of a model on labelled cases, keep it in its file, and draw how probabilities fare."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # tools are not part of the package

from swipe_core.checkpoints.file import load_checkpoint, save_checkpoint
from swipe_core.checkpoints.library import find_checkpoint
from swipe_core.cli.shared import exit_code, finish_under_bar, until_unread
from swipe_core.data.cases import find_cases
from swipe_core.errors import ConfigError
from swipe_core.pictures.charts import write_reliability
from swipe_core.prediction.calibration import Calibration, iter_calibration
from swipe_core.prediction.predictor import Predictor

EPILOG = """\
example:
  python tools/calibrate.py hippocampus data/hippocampus --plot docs/images/reliability_hippocampus.png --keep

a training does this at its end; it is for models that are older. The weights stay as they are.
"""


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", metavar="MODEL", help="a model of the package, or a checkpoint")
    parser.add_argument("data", metavar="DATA_DIR", help="the data it was trained on; its val part is used")
    parser.add_argument("--plot", metavar="FILE", help="a PNG of how often probabilities came true")
    parser.add_argument(
        "--keep", action="store_true", help="write the temperature into the file of the model"
    )
    return parser.parse_args(arguments)


def run(options: argparse.Namespace) -> int:
    """Fit, say what was found, and keep it where wanted."""
    path = find_checkpoint(options.model)
    checkpoint = load_checkpoint(path)
    cases = find_cases(options.data, "val")
    found: Calibration | None = finish_under_bar(
        iter_calibration(Predictor.load(checkpoint, device="cpu"), cases)
    )
    if found is None:
        raise ConfigError("No case holds a boundary of the classes: give other data.")
    print(f"{checkpoint.content.name}: {found}")
    if options.plot:
        write_reliability(options.plot, found.series)
    if options.keep:
        save_checkpoint(path, found.of(checkpoint), half=True)
    return 0


def main(arguments: list[str] | None = None) -> int:
    options = parse_arguments(arguments)
    return exit_code(lambda: run(options), place=options.model, stopped=lambda: "nothing was kept")


if __name__ == "__main__":
    raise SystemExit(until_unread(main))
