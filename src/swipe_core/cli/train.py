"""Train SwIPE, or another network, on a folder of images and labels."""

import argparse
import os
import sys
from pathlib import Path

from tqdm import tqdm

from swipe_core.checkpoints.file import Checkpoint, load_checkpoint
from swipe_core.checkpoints.library import find_checkpoint
from swipe_core.cli.arguments import typed
from swipe_core.cli.shared import StopSignals, exit_code
from swipe_core.compute.devices import choose_device
from swipe_core.data.cases import find_cases, has_split
from swipe_core.errors import ConfigError
from swipe_core.progress import Notice, Progress, finish
from swipe_core.training.config import load_config
from swipe_core.training.distributed import Ranks, joined_ranks
from swipe_core.training.folder import RunFolder
from swipe_core.training.journal import command_line
from swipe_core.training.reports import StepReport, TrainingProgress, TrainingResult, ValidationReport
from swipe_core.training.runner import TRAINING, Report, Trainer

BAR = "{desc}{percentage:3.0f}%|{bar}| [{elapsed}{postfix}]"


def train_under_bar(trainer: Trainer) -> TrainingResult:
    """Train under a progress bar, which the first of several processes shows.

    The bar follows whatever ends the run, the steps or the time.
    """
    silent = not trainer.ranks.is_first
    with tqdm(total=1.0, bar_format=BAR, dynamic_ncols=True, disable=silent) as bar:
        shown = ""  # of the losses

        def show(report: Report) -> None:
            nonlocal shown
            if isinstance(report, StepReport):
                # Drawn at once where a stage ends: steps may be quicker than the bar draws.
                bar.set_description(TRAINING, refresh=not bar.desc.startswith(TRAINING))
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


def run(options: argparse.Namespace) -> int:
    """Set up, train, and print how it ended."""
    config = load_config(options.config, options.overrides)
    if options.max_minutes is not None and not options.max_minutes > 0:
        raise ConfigError(f"--max-minutes must be above 0; got {options.max_minutes:g}.")
    data, seed = options.data, config.training.split_seed
    training = find_cases(data, "train", seed)
    validation = find_cases(data, "val", seed) if has_split(data, "val") else []
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
        with StopSignals(
            trainer.control.stop, "stopping after this step ... (once more: at once)"
        ) as signals:
            result = train_under_bar(trainer)
        if ranks.is_first:
            print_result(result, resuming_command(options.words))
        return signals.exit_code if result.stopped else 0


def start_of(options: argparse.Namespace) -> Checkpoint | None:
    """Return the model to start from; None for a run that goes on, which has weights already."""
    if options.start is None or (options.resume and RunFolder(Path(options.output)).last.exists()):
        return None
    return load_checkpoint(find_checkpoint(options.start))


def processes(ranks: Ranks) -> str:
    return f", {ranks.world} processes" if ranks.world > 1 else ""


def print_result(result: TrainingResult, resuming: str) -> None:
    """Print what came of a run, and the command that goes on with one that is not finished."""
    dice = "not validated"
    if result.best_dice is not None:
        dice = f"best validation Dice {result.best_dice:.3f}"
    print(f"{result.step} steps in {result.minutes:.1f} min, {dice}: {result.best or result.last}")
    if result.stopped:
        print(f"stopped; the state is saved, and this goes on:\n  {resuming}", file=sys.stderr)
    elif not result.finished:
        print("time ran out before the steps did; --resume goes on", file=sys.stderr)


def resuming_command(words: list[str]) -> str:
    """Return what to type to go on with a run, on every machine that takes part."""
    resume = [] if "--resume" in words else ["--resume"]
    return command_line([*launched(typed("train")), *words, *resume])


def launched(start: list[str]) -> list[str]:
    """Return the words that start the command in as many processes as there are now."""
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    here = int(os.environ.get("LOCAL_WORLD_SIZE", processes))
    if processes == 1:
        return start
    machines = ["--nnodes", str(processes // here)] if processes > here else []
    program = start[1:] if start[0] == "python" else ["-m", "swipe_core", "train"]
    return ["torchrun", *machines, "--nproc-per-node", str(here), *program]


def state_of(folder: Path) -> str:
    """Return a sentence on what an interrupted run leaves."""
    if RunFolder(folder).last.exists():
        return f"the state is saved: add --resume to go on in {folder}"
    return "nothing is saved yet"


def main(options: argparse.Namespace) -> int:
    return exit_code(
        lambda: run(options), place=options.output, stopped=lambda: state_of(Path(options.output))
    )
