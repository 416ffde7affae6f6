"""Runs of studies over processes and machines: one for each worker at a time."""

from __future__ import annotations

import multiprocessing
import os
import uuid
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from studies.results import trial_of
from studies.runs import PlannedRun
from studies.trial import Trial, TrialResult, iter_trial
from swipe_core.compute.cluster import Cluster, DeviceChoice, failure_in_cluster, run_on
from swipe_core.progress import finish


@dataclass(frozen=True)
class Halt:
    """A file that asks all processes that see it to save what they do, and end.

    A signal can be passed on to the processes of one machine only, and Dask tells no task that runs already
    that nobody waits for it any more.
    """

    path: Path

    def ask(self) -> None:
        """Make the file; it may be called by a handler of signals."""
        self.path.touch()

    def is_asked(self) -> bool:
        """Whether it is there."""
        return self.path.exists()


@contextmanager
def halt_in(folder: Path) -> Iterator[Halt]:
    """A way to end the work in a folder, which is there as long as the block."""
    halt = Halt(Path(os.path.abspath(folder)) / f".halt.{uuid.uuid4().hex}")
    try:
        yield halt
    finally:
        with suppress(OSError):
            halt.path.unlink()


def merged_trials(runs: Iterable[PlannedRun], output: Path, device: str) -> list[Trial]:
    """What is left to be done of runs: each once, judged as all studies that share it ask."""
    trials: dict[str, Trial] = {}
    for run in runs:
        trial = trials.setdefault(run.key, replace(trial_of(run, output, device), judgings=()))
        known = {judging.key for judging in trial.judgings}
        more = tuple(judging for judging in run.judgings if judging.key not in known)
        trials[run.key] = replace(trial, judgings=trial.judgings + more)
    return [trial for trial in trials.values() if not trial.is_finished]


def iter_on_workers(
    cluster: Cluster, trials: Sequence[Trial], halt: Halt
) -> Generator[tuple[Trial, TrialResult], None, None]:
    """The results of trials, in the order in which they end.

    Where a worker dies, its run is tried once more, from its last saved state, when all others are done.

    Raises
    ------
    ClusterLostError
        When the scheduler is gone.
    """
    work = partial(_run_there, halt=halt)
    outcomes = run_on(cluster, map(_absolute, trials), work, partial(_needed, halt=halt), per_worker=1)
    for trial, outcome in outcomes:
        if isinstance(outcome, Exception):
            outcome = TrialResult(trial.run.key, "failed", (failure_in_cluster(outcome, "This run"),))
        yield trial, outcome


def _run_there(trial: Trial, device: DeviceChoice, halt: Halt) -> TrialResult:
    here = _batches_here(replace(trial, device=device(trial.device)))
    return finish(iter_trial(here, halt.is_asked))


def _needed(trial: Trial, halt: Halt) -> list[Path]:
    return [halt.path.parent, trial.run.data, *(judging.data for judging in trial.judgings)]


def _batches_here(trial: Trial) -> Trial:
    """The same where this process may have none of its own to prepare batches, as Dask's usual workers."""
    if not multiprocessing.current_process().daemon:
        return trial
    config = trial.run.config
    batch = config.batch.model_copy(update={"workers": 0})
    return replace(trial, run=replace(trial.run, config=config.model_copy(update={"batch": batch})))


def _absolute(trial: Trial) -> Trial:
    """The same for a process with another working directory."""
    run = replace(trial.run, data=Path(os.path.abspath(trial.run.data)))
    judgings = tuple(replace(j, data=Path(os.path.abspath(j.data))) for j in trial.judgings)
    return replace(trial, run=run, judgings=judgings, folder=Path(os.path.abspath(trial.folder)))
