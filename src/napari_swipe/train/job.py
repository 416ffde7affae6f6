"""The work behind the button Train, in a thread: write, configure, and train."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_swipe.layers.source import LayerSource
from napari_swipe.project.snapshot import PairSnapshot, iter_write_all, labelled_images
from napari_swipe.train.config_form import with_fields
from napari_swipe.train.start_panel import StartChoice
from swipe_core.data.annotations import AnnotationScheme
from swipe_core.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Iterator

    from swipe_core.checkpoints.file import Checkpoint
    from swipe_core.data.labelled import LabelledImage
    from swipe_core.data.labels import LabelConfig
    from swipe_core.project import Project
    from swipe_core.training.config import ExperimentConfig
    from swipe_core.training.preview import View
    from swipe_core.training.reports import RunControl, TrainingResult

LOOKED_AT = 6  # images that a suggestion goes by
ANSWER = "answer.safetensors"  # what teaches the rounds of a project, in its folder


@dataclass(frozen=True)
class Suggestion:
    """A configuration with the number of its weights, and what it was made for."""

    config: ExperimentConfig
    parameters: int
    minutes: float
    sources: tuple[LayerSource, ...]
    """The images that it goes by."""
    is_taught: bool = False
    """Whether there was a teacher."""
    validation_cases: int = 0
    """How many cases are held out, once that is known."""

    def is_for(self, job: TrainingJob) -> bool:
        """Whether a job has the same time budget, a teacher, too, and the same images in the same place."""
        sources = [pair.source for pair in job.pairs]
        return (
            job.minutes == self.minutes
            and (job.teacher is not None) == self.is_taught
            and len(sources) == len(self.sources)
            and all(
                old.array is new.array and old.units == new.units and np.array_equal(old.matrix, new.matrix)
                for old, new in zip(self.sources, sources, strict=True)
            )
        )


@dataclass(frozen=True, eq=False)
class TrainingJob:
    """A round as the dock has it set."""

    project: Project
    folder: Path
    """Of the round's run."""
    scheme: AnnotationScheme
    pairs: tuple[PairSnapshot, ...]
    choice: StartChoice
    minutes: float
    device: str
    suggestion: Suggestion | None = None
    """What was suggested for all the rest, if it was: the images need not be looked at again."""
    edits: Mapping[str, Any] = field(default_factory=dict)
    """The fields of the configuration that the user set, by name; the suggestion has the others."""
    painted: Mapping[str, int] = field(default_factory=dict)
    answer: Checkpoint | None = None
    """What answers strokes at once, and teaches a network that begins with nothing."""

    @property
    def teacher(self) -> Checkpoint | None:
        """What teaches the network of this job, if anything does: a model that is started from knows more."""
        return self.answer if self.choice.model is None else None


@dataclass(frozen=True, eq=False)
class RunLog:
    """The lines of the log of a run that goes on."""

    records: Sequence[Mapping[str, Any]]


def iter_training(
    job: TrainingJob, control: RunControl, view: Callable[[], View | None]
) -> Generator[Any, None, TrainingResult]:
    """Write what is painted, then train; yields reports, previews and the `Suggestion` that is used."""
    from swipe_core.compute.devices import one_core_left
    from swipe_core.project.rounds import RoundPlan, iter_round

    yield from iter_write_all(job.project, job.pairs)
    yield Progress("Configuring", 0, 1)
    config = configured(job)
    yield _suggestion(job, config, len(job.project.cases("val")))
    plan = RoundPlan(
        job.folder, config, started_from(job, config), job.minutes, job.device, painted=dict(job.painted)
    )
    with one_core_left():
        return (yield from iter_round(job.project, plan, control, view))


def iter_resume(
    project: Project,
    folder: Path,
    minutes: float,
    device: str,
    control: RunControl,
    view: Callable[[], View | None],
) -> Generator[Any, None, TrainingResult]:
    """Go on with a run of a project as it was configured; yields its `RunLog` before the reports."""
    from swipe_core.compute.devices import one_core_left
    from swipe_core.project.rounds import RoundPlan, iter_round
    from swipe_core.training.folder import RunFolder

    yield RunLog(RunFolder(folder).records())
    plan = RoundPlan(folder, None, minutes=minutes, device=device)
    with one_core_left():
        return (yield from iter_round(project, plan, control, view))


def iter_command(job: TrainingJob, unfinished: Path | None) -> Generator[Any, None, str]:
    """Return the line that does without a window what a job says, or that goes on with an unfinished run."""
    from swipe_core.project.rounds import RoundPlan, prepare_command
    from swipe_core.training.journal import command_line

    if unfinished is not None:
        plan = RoundPlan(unfinished, None, minutes=job.minutes, device=job.device)
    else:
        yield from iter_write_all(job.project, job.pairs)
        config = configured(job)
        plan = RoundPlan(job.folder, config, started_from(job, config), job.minutes, job.device)
    return command_line(["swipe", *prepare_command(job.project, plan)])


def iter_suggestion(job: TrainingJob) -> Generator[Progress, None, Suggestion]:
    """Return what `iter_training` would use before the user's edits, without writing anything."""
    yield Progress("Looking at the images", 0, 1)
    if job.suggestion is not None:
        return job.suggestion
    return _suggestion(job, suggested(job))


def _suggestion(job: TrainingJob, config: ExperimentConfig, validation_cases: int = 0) -> Suggestion:
    sources = tuple(pair.source for pair in job.pairs)
    taught = job.teacher is not None
    return Suggestion(config, parameters_of(config), job.minutes, sources, taught, validation_cases)


def started_from(job: TrainingJob, config: ExperimentConfig) -> str | None:
    """Return the file that a job starts from: that of a model, or of what teaches it, which is written."""
    from swipe_core.checkpoints.file import save_checkpoint

    if job.teacher is None or config.loss.retention_weight == 0:
        return job.choice.checkpoint
    path = job.project.folder / ANSWER
    save_checkpoint(path, job.teacher)
    return str(path)


def configured(job: TrainingJob) -> ExperimentConfig:
    """Return what is suggested for a job, with what the user set instead."""
    suggestion = job.suggestion.config if job.suggestion is not None else suggested(job)
    return with_fields(suggestion, job.edits)


def suggested(job: TrainingJob) -> ExperimentConfig:
    """Return a configuration for the images, the start and the device of a job.

    A `SwipeError` is raised when there is nothing to go by, or it does not go together.
    """
    from swipe_core.checkpoints.file import load_checkpoint
    from swipe_core.compute.devices import choose_device
    from swipe_core.training.suggestion import suggest, suggest_fine_tuning, summarise

    labels, device = job.scheme.label_config(), choose_device(job.device)
    if job.choice.model is not None:
        content = load_checkpoint(job.choice.model.path).content
        count = sum(len(pair.frames) for pair in job.pairs) + len(job.project.record.folders) * LOOKED_AT
        return suggest_fine_tuning(content, labels, count, device, job.minutes, job.project.name)
    own = _spread([pair for pair in job.pairs if pair.split == "train"] or list(job.pairs))
    images = chain(labelled_images(own), _from_folders(job, labels))
    summary = summarise(images, labels.ignore_label)
    assert job.choice.preset is not None
    preset, network = job.choice.preset, job.choice.network
    answer = None if job.teacher is None else job.teacher.content
    return suggest(summary, labels, preset, device, job.minutes, job.project.name, network, answer)


def _from_folders(job: TrainingJob, labels: LabelConfig) -> Iterator[LabelledImage]:
    """Some of the cases in the folders of a project, all of one dimension."""
    from swipe_core.data.cases import find_cases
    from swipe_core.data.labelled import read_labelled

    ndim = len(job.pairs[0].source.axes.space) if job.pairs else job.project.record.ndim or 2
    for folder in job.project.record.folders:
        for case in _spread(find_cases(folder)):
            yield read_labelled(case, ndim, labels)


def parameters_of(config: ExperimentConfig) -> int:
    """Return the number of weights of a configuration's network, without the memory that they take."""
    import torch

    from swipe_core.networks.registry import build_network

    with torch.device("meta"):
        return sum(weight.numel() for weight in build_network(config.model).parameters())


def _spread(items: Sequence[Any]) -> list[Any]:
    """A few of many, from first to last."""
    step = max(1, len(items) // LOOKED_AT)
    return list(items[::step][:LOOKED_AT])
