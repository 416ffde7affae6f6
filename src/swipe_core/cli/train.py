"""Train SwIPE, or another network, on a folder of images and labels."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from tqdm import tqdm

from swipe_core.checkpoints.file import Checkpoint, load_checkpoint
from swipe_core.checkpoints.library import find_checkpoint
from swipe_core.cli.shared import StopSignals, exit_code
from swipe_core.compute.devices import choose_device
from swipe_core.data.cases import find_cases, has_split
from swipe_core.errors import ConfigError
from swipe_core.networks.registry import KINDS
from swipe_core.progress import Notice, Progress, finish
from swipe_core.samples import sample_folder
from swipe_core.training.config import config_names, load_config, split_overrides
from swipe_core.training.distributed import Ranks, joined_ranks
from swipe_core.training.folder import RunFolder
from swipe_core.training.reports import StepReport, TrainingProgress, TrainingResult, ValidationReport
from swipe_core.training.runner import TRAINING, Report, Trainer
from swipe_core.training.session import command_line

EPILOG = f"""\
examples:
  python scripts/train.py nuclei --data sample --output runs/nuclei --max-minutes 5
  python scripts/train.py my.yaml --data /data/liver --output runs/liver --device cuda
  python scripts/train.py my.yaml --data /data/liver --output runs/liver --resume
  python scripts/train.py nuclei --data cells --output runs/fast --training.steps 2000 --batch.size 4
  python scripts/train.py nuclei --data sample --output runs/u --model.network unet --max-minutes 5
  python scripts/train.py my.yaml --data /data/liver --output runs/mine --from runs/liver/best.safetensors
  torchrun --nproc-per-node 2 scripts/train.py my.yaml --data /data/liver --output runs/liver

any field of the configuration can be replaced with --section.field value; --model.network NAME takes another
network at its own size, of {", ".join(KINDS)}.
press Ctrl-C to stop after the step in progress; the state is saved, and --resume goes on from there.
"""

BAR = "{desc}{percentage:3.0f}%|{bar}| [{elapsed}{postfix}]"


def parse_arguments(arguments: list[str]) -> tuple[argparse.Namespace, list[tuple[str, str]]]:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "config", metavar="CONFIG", help=f"a shipped name ({', '.join(config_names())}) or a YAML file"
    )
    parser.add_argument(
        "--data",
        required=True,
        nargs="+",
        metavar="DIR",
        help="folders with images/ and labels/, or with train/ and val/ that hold them; "
        "'sample' is the small nuclei set that comes with the package",
    )
    parser.add_argument(
        "--output", required=True, metavar="RUN_DIR", help="folder for checkpoints, log and curves"
    )
    parser.add_argument(
        "--max-minutes", type=float, metavar="M", help="end after M minutes; the learning rate follows"
    )
    parser.add_argument(
        "--from",
        dest="start",
        metavar="MODEL",
        help="start from the weights of a trained model (a file, or the name of one that comes with the "
        "program), as far as they fit; the network has to be the same",
    )
    parser.add_argument(
        "--resume", action="store_true", help="continue the run in RUN_DIR; without a saved state, begin it"
    )
    parser.add_argument(
        "--device", default="auto", metavar="D", help="auto, cpu, cuda or mps (default: auto)"
    )
    # They are taken out first: argparse would take the value of an option it does not know for CONFIG.
    try:
        overrides, rest = split_overrides(arguments)
    except ConfigError as error:
        parser.error(str(error).rstrip("."))
    options, unknown = parser.parse_known_args(rest)
    if unknown:
        parser.error(f"unknown argument {unknown[0]!r}; configuration fields look like --training.steps 2000")
    return options, overrides


def train_under_bar(trainer: Trainer) -> TrainingResult:
    """Train under a progress bar, which the first of several processes shows.

    It follows whatever ends the run, the steps or the time.
    """
    silent = not trainer.ranks.is_first
    with tqdm(total=1.0, bar_format=BAR, dynamic_ncols=True, disable=silent) as bar:
        shown = ""  # of the losses

        def show(report: Report) -> None:
            nonlocal shown
            if isinstance(report, StepReport):
                bar.set_description(TRAINING, refresh=False)
                shown = f", loss {report.losses['total']:.3f}, lr {report.learning_rate:.1e}"
            elif isinstance(report, ValidationReport):
                scores = "  ".join(f"{name} {dice:.3f}" for name, dice in report.dice.items())
                best = "  (best so far)" if report.is_best else ""
                bar.write(f"step {report.step}, {report.minutes:.1f} min: validation Dice {scores}{best}")
            elif isinstance(report, TrainingProgress):
                left = tqdm.format_interval(60 * report.minutes_left)
                bar.set_postfix_str(f"{left} left, step {report.done}/{report.total}{shown}", refresh=False)
                bar.update(report.share - bar.n)
            elif isinstance(report, Progress):
                bar.set_description(f"{report.stage} {report.done}/{report.total}")
            elif isinstance(report, Notice) and not silent:
                bar.write(report.message, file=sys.stderr)

        result = finish(trainer.run(), show)
        bar.set_description(TRAINING, refresh=False)
        if not result.stopped:
            bar.set_postfix_str(shown.removeprefix(", "), refresh=False)
            bar.update(1.0 - bar.n)
        return result


def run(options: argparse.Namespace, overrides: list[tuple[str, str]], resuming: str) -> int:
    """Set up and train as asked, and say how it ended; `resuming` is the command that goes on."""
    config = load_config(options.config, overrides)
    if options.max_minutes is not None and not options.max_minutes > 0:
        raise ConfigError(f"--max-minutes must be above 0; got {options.max_minutes:g}.")
    data = [sample_folder("nuclei") if name == "sample" else Path(name) for name in options.data]
    training = find_cases(data, "train", config.training.split_seed)
    validation = find_cases(data, "val", config.training.split_seed) if has_split(data, "val") else []
    with joined_ranks(choose_device(options.device)) as (ranks, device):
        trainer = Trainer(
            config,
            training,
            validation,
            options.output,
            device=device,
            resume=options.resume,
            max_minutes=options.max_minutes,
            ranks=ranks,
            start=start_of(options),
        )
        if ranks.is_first:
            counts = f"{len(training)} cases to train on, {len(validation)} to validate on"
            print(f"{config.name}: {counts}, {device}{processes(ranks)}", file=sys.stderr)
        with StopSignals(trainer.stop, "stopping after this step ... (once more: at once)") as signals:
            result = train_under_bar(trainer)
        if ranks.is_first:
            tell_the_end(result, resuming)
        return signals.exit_code if result.stopped else 0


def start_of(options: argparse.Namespace) -> Checkpoint | None:
    """The model to start from; none for a run that goes on, which has weights already."""
    if options.start is None or (options.resume and RunFolder(Path(options.output)).last.exists()):
        return None
    return load_checkpoint(find_checkpoint(options.start))


def processes(ranks: Ranks) -> str:
    return f", {ranks.world} processes" if ranks.world > 1 else ""


def tell_the_end(result: TrainingResult, resuming: str) -> None:
    """Say what came of a run, and how to go on with one that is not finished."""
    dice = "not validated"
    if result.best_dice is not None:
        dice = f"best validation Dice {result.best_dice:.3f}"
    print(f"{result.step} steps in {result.minutes:.1f} min, {dice}: {result.best or result.last}")
    if result.stopped:
        print(f"stopped; the state is saved, and this goes on:\n  {resuming}", file=sys.stderr)
    elif not result.finished:
        print("time ran out before the steps did; --resume goes on", file=sys.stderr)


def resuming_command(arguments: list[str]) -> str:
    """What to type to go on with a run, on every machine that takes part."""
    resume = [] if "--resume" in arguments else ["--resume"]
    return command_line([*launcher(), sys.argv[0], *arguments, *resume])


def launcher() -> list[str]:
    """What started this script: python, or torchrun with as many processes."""
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    here = int(os.environ.get("LOCAL_WORLD_SIZE", processes))
    if processes == 1:
        return ["python"]
    machines = ["--nnodes", str(processes // here)] if processes > here else []
    return ["torchrun", *machines, "--nproc-per-node", str(here)]


def state_of(folder: Path) -> str:
    """What an interrupted run leaves."""
    if RunFolder(folder).last.exists():
        return f"the state is saved: add --resume to go on in {folder}"
    return "nothing is saved yet"


def main(arguments: list[str] | None = None) -> int:
    arguments = sys.argv[1:] if arguments is None else arguments
    options, overrides = parse_arguments(arguments)
    return exit_code(
        lambda: run(options, overrides, resuming_command(arguments)),
        place=options.output,
        stopped=lambda: state_of(Path(options.output)),
    )
