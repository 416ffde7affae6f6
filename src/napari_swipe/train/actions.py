"""From the button Train to a model: rounds, previews, predictions to correct, and models to keep."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari.utils.notifications import show_error, show_info
from qtpy.QtCore import QObject, Signal
from qtpy.QtGui import QGuiApplication

from napari_swipe.annotate.pairs import AnnotatedPairs
from napari_swipe.layers.data import class_appearance
from napari_swipe.project.keeper import ProjectKeeper
from napari_swipe.qt.task import Task
from napari_swipe.train.config_form import ConfigForm
from napari_swipe.train.job import (
    RunLog,
    Suggestion,
    TrainingJob,
    iter_command,
    iter_resume,
    iter_training,
)
from napari_swipe.train.preview import PreviewLayer
from napari_swipe.train.round_panel import NOTHING, PAUSED, RUNNING, STOPPING, RoundPanel
from napari_swipe.train.start_panel import StartChoice, StartPanel
from swipe_core.checkpoints.header import describe_checkpoint
from swipe_core.data.annotations import FEWEST, shortage
from swipe_core.errors import CheckpointError, ConfigError, DataError, SwipeError
from swipe_core.progress import Notice, Progress
from swipe_core.training.reports import RunControl

if TYPE_CHECKING:
    from napari_swipe.project.snapshot import PairSnapshot
    from swipe_core.checkpoints.file import Checkpoint
    from swipe_core.project import TrainSettings

PAINT_LATER = "What you paint now counts from the next round on."
NO_VALIDATION = (
    "There is no validation image, so there is no Dice: the loss only tells how well the network fits what "
    "you painted. Judge by the preview on other images, or mark an image as validation."
)


class RoundActions(QObject):
    """Starts, pauses, stops and resumes rounds, and shows what they report."""

    changed = Signal()
    """A round has begun, or has come to its end."""

    def __init__(
        self,
        keeper: ProjectKeeper,
        annotated: AnnotatedPairs,
        start: StartPanel,
        form: ConfigForm,
        panel: RoundPanel,
        preview: PreviewLayer,
    ) -> None:
        super().__init__(panel)
        self._keeper, self._annotated, self._start = keeper, annotated, start
        self._form, self._panel, self._preview = form, panel, preview
        self._task: Task | None = None
        self._copying: Task | None = None
        self._control: RunControl | None = None
        self._pairs: tuple[PairSnapshot, ...] = ()
        self._validated = True
        self.suggestion: Suggestion | None = None
        """The last suggestion; None where paint, classes, folders or the start have changed since."""
        self.answer: Checkpoint | None = None
        """The model that answers strokes at once, as long as there is one."""
        panel.train.clicked.connect(lambda: self.train())
        panel.resume.clicked.connect(lambda: self.resume())
        panel.pause.clicked.connect(lambda: self.pause())
        panel.stop.clicked.connect(lambda: self.stop())
        panel.copy.clicked.connect(lambda: self.copy_command())

    @property
    def is_running(self) -> bool:
        return self._task is not None

    # Beginning

    def train(self) -> None:
        """Begin a round with everything as it is set."""
        if self.is_running:
            return
        try:
            job = self.job()
            self._check(job)
        except SwipeError as error:
            self._refuse(str(error))
            return
        self._pairs = job.pairs
        self._run(lambda control: iter_training(job, control, self._preview.view), is_writing=True)

    def job(self, with_edits: bool = True) -> TrainingJob:
        """Return a round as the dock has it set, with what the user changed of the suggested settings or not.

        A `SwipeError` is raised when there is nothing to learn from, the project cannot be written, or the
        edits do not fit.
        """
        if not self._annotated.pairs and not self._annotated.folders:
            raise ConfigError("Add an image with its labels first, or a folder of labelled images.")
        project = self._keeper.begun()
        project.set_settings(self.settings)
        job = TrainingJob(
            project=project,
            folder=project.next_run(),
            scheme=self._annotated.scheme,
            pairs=self._keeper.writer.snapshots(),
            choice=self._start.choice,
            minutes=self._start.minutes.value(),
            device=self._start.device.choice,
            edits=self._form.edits if with_edits and self._form.edited else {},
            painted=self._annotated.totals("train"),
            answer=self.answer,
        )
        if self._annotated.is_counting or self.suggestion is None or not self.suggestion.is_for(job):
            return job
        return replace(job, suggestion=self.suggestion)

    @property
    def settings(self) -> TrainSettings:
        """The settings of the dock that a project remembers."""
        from swipe_core.project import TrainSettings

        choice = self._start.choice
        return TrainSettings(
            preset=choice.preset,
            network=self._start.network.chosen,
            model=choice.checkpoint,
            minutes=self._start.minutes.value(),
            device=self._start.device.choice,
        )

    def _check(self, job: TrainingJob) -> None:
        if job.project.record.folders:
            return
        if not any(pair.split == "train" for pair in job.pairs):
            raise ConfigError("Every image is for validation: mark one at least for training.")
        if self._annotated.faults:
            raise DataError(self._annotated.faults[0])
        # A little of each class will do, where somebody wants to try.
        enough = {name: FEWEST for name, voxels in job.painted.items() if voxels}
        missing = [] if self._annotated.is_counting else shortage(enough, job.scheme)
        if missing:
            raise DataError(missing[0])

    def resume(self) -> None:
        """Go on with the last round of the project, for the time that is set."""
        project = self._keeper.project
        if self.is_running or project is None or not project.runs():
            return
        minutes, folder = self._start.minutes.value(), project.runs()[-1]
        device = self._start.device.choice
        try:
            self._pairs = self._keeper.writer.snapshots()
        except SwipeError as error:
            self._refuse(str(error))
            return
        self._run(lambda control: iter_resume(project, folder, minutes, device, control, self._preview.view))

    def _run(self, work: Callable[[RunControl], Any], is_writing: bool = False) -> None:
        self._control = RunControl()
        task = self._task = Task(work(self._control))
        task.reported.connect(self._on_report)
        task.finished.connect(self._on_finished)
        task.failed.connect(self._on_failed)
        self._validated = True
        self._keeper.hold(is_writing)
        self._show_class_colours()
        self._panel.begin()
        self._panel.show_state(RUNNING)
        task.start()
        self.changed.emit()

    def _show_class_colours(self) -> None:
        scheme = self._annotated.scheme
        colours = zip(scheme.class_names, scheme.class_colours, strict=True)
        self._panel.curves.set_class_colours(dict(colours))

    def _refuse(self, reason: str) -> None:
        self._panel.say(reason)
        show_error(reason)

    # While it goes on

    def pause(self) -> None:
        """Wait after the step in progress, or go on."""
        if self._control is None:
            return
        if self._panel.state != PAUSED:
            self._control.pause()
            self._panel.show_state(PAUSED)
            self._panel.say(f"Paused; everything is saved. {PAINT_LATER}")
        else:
            self._control.go_on()
            self._panel.show_state(RUNNING)

    def stop(self) -> None:
        """End after the step in progress."""
        if self._control is not None:
            self._control.stop()
            self._panel.show_state(STOPPING)
            self._panel.say("Stopping after this step …")

    def _on_report(self, report: Any) -> None:
        if isinstance(report, Progress):
            self._panel.show_report(report)
        elif isinstance(report, RunLog):
            self._panel.curves.load(report.records)
        elif isinstance(report, Suggestion):
            self._on_suggestion(report)
        elif isinstance(report, Notice):
            show_info(report.message)
        else:
            self._on_training(report)

    def _on_training(self, report: Any) -> None:
        """Show a report of the training itself; torch is imported by now."""
        from swipe_core.training.preview import Preview
        from swipe_core.training.reports import StepReport, ValidationReport, as_record

        if isinstance(report, (StepReport, ValidationReport)):
            self._panel.curves.add(as_record(report))
        elif isinstance(report, Preview):
            self._show_preview(report)

    def _on_suggestion(self, suggestion: Suggestion) -> None:
        self._keeper.writer.resume()
        self._form.set_config(suggestion.config, suggestion.parameters, keep_edits=True)
        self._validated = suggestion.validation_cases > 0
        self._panel.curves.load()
        self._panel.curves.expect_validation(self._validated)

    def _show_preview(self, preview: Any) -> None:
        scheme = self._annotated.scheme
        self._preview.show(preview, class_appearance(scheme.class_names, scheme.class_colours))

    # The end

    def _on_finished(self, result: Any) -> None:
        self._keeper.writer.begin_corrections(self._pairs)
        self._end()
        how = "Stopped" if result.stopped else "Finished"
        words = f"{how} after {result.step} steps in {result.minutes:.1f} min"
        if result.best_dice is not None:
            words += f", best validation Dice {result.best_dice:.3f}"
        words += ". Correct what is wrong and train again, or keep the model."
        self._panel.say(words if self._validated else f"{words} {NO_VALIDATION}")
        self.changed.emit()

    def _on_failed(self, reason: str) -> None:
        self._end()
        self._refuse(reason)
        self.changed.emit()

    def _end(self) -> None:
        self._task = self._control = None
        self._keeper.release()
        self._panel.show_state(NOTHING)

    def show_project(self) -> None:
        """Show the curves and the state of the last round of the project that is open."""
        project = self._keeper.project
        self._panel.curves.load()
        if project is None or not project.runs():
            return
        self._show_class_colours()
        self._panel.curves.load(self._keeper.log)
        settings = project.record.settings
        if settings.minutes is not None:
            self._start.minutes.setValue(settings.minutes)
        self._start.network.remember(settings.network)
        self._choose_start(settings)
        if project.record.rounds:
            last = project.record.rounds[-1]
            how = {"running": "was interrupted", "failed": f"failed: {last.message}"}.get(
                last.state, last.state
            )
            network = _network_of(project.folder / last.folder)
            self._panel.say(f"The last round ({last.folder}{network}) {how} after {last.step} steps.")

    def _choose_start(self, settings: TrainSettings) -> None:
        """Choose what a project started from last, as far as it is there still."""
        for choice in self._start.choices:
            if choice.preset is not None and choice.preset == settings.preset:
                self._start.choose(replace(choice, network=self._start.network.chosen))
        if settings.model is not None and Path(settings.model).is_file():
            with suppress(CheckpointError):
                self._start.choose(StartChoice(model=describe_checkpoint(settings.model)))

    def copy_command(self) -> None:
        """Copy the line that does without a window what Train would do, or Resume after an interruption."""
        try:
            work = iter_command(self.job(), self._unfinished)
        except SwipeError as error:
            self._refuse(str(error))
            return
        self._copying = Task(work)
        self._copying.finished.connect(self._on_command)
        self._copying.failed.connect(self._refuse)
        self._copying.start()

    def _on_command(self, line: str) -> None:
        QGuiApplication.clipboard().setText(line)
        show_info(f"On the clipboard: {line}")

    @property
    def _unfinished(self) -> Path | None:
        """The run of the last round, where it was broken off."""
        project = self._keeper.project
        rounds = [] if project is None else project.record.rounds
        if project is None or not rounds or rounds[-1].state not in ("running", "stopped"):
            return None
        folder = project.folder / rounds[-1].folder
        return folder if (folder / "last.safetensors").exists() else None

    def close(self) -> None:
        """End the round after its step, with its state saved, since the dock is closed."""
        # Not by `stop`: nobody would wait for the end of its last validation.
        for task in (self._task, self._copying):
            if task is not None:
                task.abandon()
                self._keeper.wait_for(task)
        if self._keeper.project is not None:
            with suppress(SwipeError):
                self._keeper.project.set_settings(self.settings)
        self._task = self._copying = self._control = None


def _network_of(run: Path) -> str:
    """Return the network of a run as ", U-Net", or nothing where the run has saved none yet."""
    try:
        return f", {describe_checkpoint(run / 'last.safetensors').network_title}"
    except CheckpointError:
        return ""
