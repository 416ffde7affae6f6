"""Train and judge the networks of a study, and write its tables and pictures."""

from __future__ import annotations

import argparse
import sys
import threading
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # studies are not part of the package

from studies.campaign import Campaign, Choice, chosen_studies, plan_campaign, studies_table
from studies.results import steps_taken, told
from studies.spread import Halt, halt_in, iter_on_workers
from studies.trial import Trial, TrialResult, iter_trial
from swipe_core.cli.arguments import (
    PrintAndExit,
    add_device,
    add_output,
    add_workers,
    parse_with_fields,
    text_parser,
)
from swipe_core.cli.shared import StopSignals, columns, exit_code, finish_under_bar, until_unread
from swipe_core.compute.cluster import local_cluster, remote_cluster
from swipe_core.compute.devices import choose_device
from swipe_core.progress import Notice, Progress, map_reports
from swipe_core.training.journal import command_line

SECONDS_BETWEEN = 5.0  # two looks at how far the workers are

Outcomes = Generator[tuple[Trial, TrialResult], None, None]

EPILOG = """\
examples:
  python scripts/compare.py --list
  python scripts/compare.py study1_overall_2d --setting kvasir196 --data-root /data --output runs/studies
  python scripts/compare.py study1 study4 --data-root /data --output runs/studies --device cuda --workers 4
  python scripts/compare.py my_study.yaml --data cells=/data/cells --output runs/studies --seeds 0 1 2
  python scripts/compare.py study4_ablation --data-root /data --output runs/studies --training.steps 500

The beginning of a name is enough, and stands for all studies that begin so. Any field of all configurations
can be replaced with --section.field value. Runs that studies share are trained once: all go to
DIR/runs, and tables and pictures to DIR/STUDY/SETTING.

A call that was broken off, by Ctrl-C or by being killed, goes on where it ended when it is given again. A
run that fails does not end the others; the table says why.
"""


def parse_arguments(arguments: list[str]) -> argparse.Namespace:
    parser = text_parser(str(__doc__), EPILOG)
    add = parser.add_argument
    add("studies", metavar="STUDY", nargs="+", help="a name of --list, its beginning, or a YAML file")
    add(
        "--list",
        action=PrintAndExit,
        text=lambda: columns(studies_table()),
        help="print the studies with their settings and the data they need, and end",
    )
    add_output(parser, "DIR", "folder for runs, tables and pictures")
    add("--setting", metavar="NAME", help="in which of its settings (default: the study's first)")
    add("--rows", nargs="+", metavar="ROW", help="only these networks, by the names of their rows")
    add("--seeds", nargs="+", type=_seed, metavar="N", help="in place of the study's")
    add("--table-only", action="store_true", help="train and judge nothing: write what there is")
    data = parser.add_argument_group("data")
    data.add_argument(
        "--data",
        action="append",
        type=_data,
        default=[],
        metavar="NAME=DIR",
        help="folder of a data set; once for each",
    )
    data.add_argument("--data-root", metavar="DIR", help="holds the folders of data sets, by their names")
    where = parser.add_argument_group("where it is computed")
    add_device(where)
    add_workers(where, "the runs, the cores and the GPUs")
    return parse_with_fields(parser, arguments)


def _seed(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number of 0 or more")
    return int(text)


def _data(text: str) -> tuple[str, Path]:
    name, equals, folder = text.partition("=")
    if not (name and equals and folder):
        raise argparse.ArgumentTypeError(f"{text!r} is no NAME=DIR, such as kvasir196=/data/kvasir196")
    return name, Path(folder)


def planned(options: argparse.Namespace) -> Campaign:
    """What the options ask for."""
    choice = Choice(
        setting=options.setting,
        rows=None if options.rows is None else tuple(options.rows),
        seeds=None if options.seeds is None else tuple(options.seeds),
        overrides=tuple(options.overrides),
    )
    if options.scheduler is None:
        choose_device(options.device)
    root = None if options.data_root is None else Path(options.data_root)
    studies = chosen_studies(options.studies)
    return plan_campaign(studies, choice, dict(options.data), root, Path(options.output), options.device)


def iter_here(trials: Sequence[Trial], halt: Halt) -> Outcomes:
    """One run after the other in this process, each under a bar of its own."""

    def shown(report: object) -> Progress | Notice | None:
        return report if isinstance(report, (Progress, Notice)) else None

    for trial in trials:
        work = map_reports(iter_trial(trial, halt.is_asked), shown)
        yield trial, finish_under_bar(work, inner=True)


@contextmanager
def steps_told(trials: Sequence[Trial], bar: tqdm[Any]) -> Iterator[None]:
    """Every few seconds how far all runs are, by their logs: workers tell nothing on the way."""
    ended, steps = threading.Event(), sum(trial.run.config.training.steps for trial in trials)

    def tell() -> None:
        while not ended.wait(SECONDS_BETWEEN):
            bar.set_postfix_str(f"{sum(steps_taken(trial.folder) for trial in trials)} of {steps} steps")

    thread = threading.Thread(target=tell, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@contextmanager
def at_work(
    options: argparse.Namespace, trials: Sequence[Trial], halt: Halt, bar: tqdm[Any]
) -> Iterator[Outcomes]:
    """The results of trials, from where the options want the work to be done."""
    with ExitStack() as stack:
        if options.scheduler is not None:
            cluster = stack.enter_context(remote_cluster(options.scheduler))
        elif min(options.workers, len(trials)) > 1:
            cluster = stack.enter_context(local_cluster(min(options.workers, len(trials))))
        else:
            yield iter_here(trials, halt)
            return
        stack.enter_context(steps_told(trials, bar))
        yield stack.enter_context(closing(iter_on_workers(cluster, trials, halt)))


def carry_out(options: argparse.Namespace, trials: Sequence[Trial]) -> tuple[dict[str, tuple[str, ...]], int]:
    """Train and judge; why runs failed, by their keys, and an exit code."""
    messages: dict[str, tuple[str, ...]] = {}
    with (
        halt_in(Path(options.output)) as halt,
        StopSignals(halt.ask, "saving the runs in progress ... (once more: at once)") as signals,
        tqdm(total=len(trials), unit="run", dynamic_ncols=True) as bar,
        at_work(options, trials, halt, bar) as work,
    ):
        for trial, result in work:
            if result.state == "stopped":
                continue
            bar.update()
            for message in result.messages:
                bar.write(f"error: {trial.run.name}: {message}", file=sys.stderr)
            if result.messages:
                messages[result.key] = result.messages
            else:
                bar.write(told(trial))
    return messages, signals.exit_code or (2 if messages else 0)


def run(options: argparse.Namespace, command: str) -> int:
    """Check everything that can be checked, train and judge what is not finished, and write."""
    campaign = planned(options)
    campaign.output.mkdir(parents=True, exist_ok=True)
    runs, trials = len({run.key for run in campaign.runs}), campaign.trials
    print(f"{runs} runs, {runs - len(trials)} of them finished", file=sys.stderr)
    messages, code = ({}, 0) if options.table_only or not trials else carry_out(options, trials)
    is_stopped = code not in (0, 2)
    work = campaign.iter_write(messages, command, with_pictures=not is_stopped)
    for path in finish_under_bar(work, inner=True):
        print(path)
    if is_stopped:
        print(f"stopped; what was trained is saved, and this goes on:\n  {command}", file=sys.stderr)
    return code


def main(arguments: list[str] | None = None) -> int:
    arguments = sys.argv[1:] if arguments is None else arguments
    options = parse_arguments(arguments)
    command = command_line(["python", sys.argv[0], *arguments])
    return exit_code(
        lambda: run(options, command),
        place=options.output,
        stopped=lambda: f"what was trained is saved in {options.output}, and the same command goes on",
    )


if __name__ == "__main__":
    raise SystemExit(until_unread(main))
