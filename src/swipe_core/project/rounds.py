"""A round of training in a project: from what is written there to the next model, and on from there."""

from collections.abc import Callable, Generator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from swipe_core.checkpoints.file import load_checkpoint
from swipe_core.checkpoints.library import find_checkpoint
from swipe_core.checkpoints.summary import Provenance
from swipe_core.compute.devices import choose_device
from swipe_core.errors import ConfigError, SwipeError
from swipe_core.progress import Progress
from swipe_core.project import Project, RoundRecord
from swipe_core.training.config import ExperimentConfig, dump_config, load_config
from swipe_core.training.folder import RunFolder
from swipe_core.training.preview import Preview, Previewer, View
from swipe_core.training.reports import RunControl, TrainingResult, ValidationReport
from swipe_core.training.runner import Report, Trainer


@dataclass(frozen=True)
class RoundPlan:
    """A round to be done."""

    folder: Path
    """The run's own, in the project."""
    config: ExperimentConfig | None
    """None goes on with the run that `folder` holds, as it was configured."""
    start: str | None = None
    """A checkpoint to start from, by file or by the name of one that comes with the package; None starts from
    nothing.
    """
    minutes: float | None = None
    """How long at most, in this session."""
    device: str = "auto"
    painted: Mapping[str, int] = field(default_factory=dict)
    """Voxels by class that were painted for it."""


def iter_round(
    project: Project,
    plan: RoundPlan,
    control: RunControl | None = None,
    view: Callable[[], View | None] = lambda: None,
) -> Generator[Report | Preview, None, TrainingResult]:
    """Train on the cases of a project, or go on with one of its runs; yields reports and previews.

    The project says at any time how far the round is, also when this process is killed.

    Raises
    ------
    SwipeError
        Whatever ends the training; the project then says why, too.
    """
    yield Progress("Preparing", 0, 1)
    trainer = _trainer(project, plan, control)
    name = _name(project, plan.folder)
    _note(project, name, plan, trainer, state="running", message="")
    outcome: dict[str, Any] = {"state": "stopped"}
    try:
        run = Previewer(view).iter_run(trainer, trainer.run())
        with closing(run):
            result = yield from _kept_up_to_date(project, name, run)
        outcome["state"] = "finished" if not result.stopped else "stopped"
        return result
    except SwipeError as error:
        outcome = {"state": "failed", "message": str(error)}
        raise
    finally:
        project.update_round(name, **_how_far(trainer), **outcome)


def _kept_up_to_date(
    project: Project, name: str, run: Generator[Any, None, TrainingResult]
) -> Generator[Any, None, TrainingResult]:
    """The reports of a run; the project learns of each validation."""
    while True:
        try:
            report = next(run)
        except StopIteration as end:
            return end.value
        if isinstance(report, ValidationReport) and report.is_best:
            project.update_round(name, step=report.step, minutes=report.minutes, dice=report.mean_dice)
        yield report


def _trainer(project: Project, plan: RoundPlan, control: RunControl | None) -> Trainer:
    resumes = plan.config is None
    config = load_config(plan.folder / "config.yaml") if plan.config is None else plan.config
    if resumes and not RunFolder(plan.folder).last.exists():
        raise ConfigError(f"There is no run to resume in {plan.folder}: train anew.")
    seed = config.training.split_seed
    training, validation = (project.cases(split, seed) for split in ("train", "val"))
    if not training:
        raise ConfigError("There is no image to train on: mark at least one pair, or a folder, for training.")
    start = load_checkpoint(find_checkpoint(plan.start)) if plan.start is not None and not resumes else None
    return Trainer(
        config,
        training,
        validation,
        plan.folder,
        device=choose_device(plan.device),
        resume=resumes,
        max_minutes=plan.minutes,
        start=start,
        provenance=None if resumes else _provenance(project, plan),
        control=control,
    )


def prepare_command(project: Project, plan: RoundPlan) -> list[str]:
    """The words after ``swipe`` that do the same without a window; writes the configuration for it.

    Raises `ProjectError` when the configuration cannot be written.
    """
    resumes = plan.config is None
    if plan.config is not None:
        project.write_config(dump_config(plan.config))
    config = plan.folder / "config.yaml" if resumes else project.config_file
    words = ["train", str(config), "--data", *map(str, project.data_sets())]
    words += ["--output", str(plan.folder)]
    words += ["--from", plan.start] if plan.start is not None and not resumes else []
    words += ["--max-minutes", f"{plan.minutes:g}"] if plan.minutes is not None else []
    words += ["--device", plan.device] if plan.device != "auto" else []
    return [*words, *(["--resume"] if resumes else [])]


def _provenance(project: Project, plan: RoundPlan) -> Provenance:
    """Return where a model comes from, as its checkpoint says it."""
    return Provenance(
        project=project.name,
        round=_name(project, plan.folder),
        layers=[pair.source for pair in project.record.pairs],
        folders=[Path(folder).name for folder in project.record.folders],
        painted_voxels=dict(plan.painted),
    )


def _name(project: Project, folder: Path) -> str:
    return folder.relative_to(project.folder).as_posix()


def _how_far(trainer: Trainer) -> dict[str, Any]:
    """Return what a run came to, also before the project knew of it."""
    return {
        "step": trainer.step,
        "minutes": round(trainer.minutes, 3),
        "dice": trainer.state.best_dice,
    }


def _note(project: Project, name: str, plan: RoundPlan, trainer: Trainer, **outcome: Any) -> None:
    """Write a round down before it begins, or that it goes on."""
    if any(record.folder == name for record in project.record.rounds):
        project.update_round(name, **outcome)
        return
    project.add_round(
        RoundRecord(
            folder=name,
            started_from=plan.start or trainer.state.provenance.started_from or "nothing",
            painted=dict(plan.painted),
            **_how_far(trainer),
            **outcome,
        )
    )
