"""Plugins > SwIPE Segment > Train: paint, learn, look, correct, and keep the model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from napari.utils.notifications import show_error, show_info
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QWidget

from napari_swipe._settings import read_preferences
from napari_swipe.annotate.pair import Split, likely_axes
from napari_swipe.annotate.pairs import AnnotatedPairs
from napari_swipe.annotate.panel import AnnotatePanel
from napari_swipe.layers.metadata import LayerMetadata
from napari_swipe.layers.source import LayerSource
from napari_swipe.project.keeper import ProjectKeeper
from napari_swipe.project.panel import ProjectPanel, proposed_folder
from napari_swipe.qt.layouts import rest_timer
from napari_swipe.qt.task import Task, TaskBar
from napari_swipe.train.actions import RoundActions
from napari_swipe.train.answer import AnswerPanel, StrokeAnswers
from napari_swipe.train.config_form import ConfigForm
from napari_swipe.train.job import Suggestion, iter_suggestion
from napari_swipe.train.keep import KeepPanel, iter_keep
from napari_swipe.train.preview import CorrectPanel, PreviewLayer, iter_editable, iter_prediction
from napari_swipe.train.round_panel import RoundPanel
from napari_swipe.train.start_panel import StartPanel
from napari_swipe.viewer.dock import TRAINING, Dock, heading
from swipe_core.checkpoints.header import describe_checkpoint
from swipe_core.errors import SwipeError

if TYPE_CHECKING:
    from napari import Viewer
    from napari.layers import Image

    from napari_swipe.layers.data import LayerData

SUGGEST_AFTER = 700  # milliseconds without another change


class TrainWidget(Dock):
    """The dock in which a user makes a model.

    `napari_viewer`: napari fills it in by this name.
    """

    def __init__(self, napari_viewer: Viewer) -> None:
        super().__init__(napari_viewer)
        preferences = read_preferences()
        self.project = ProjectPanel()
        self.annotated = AnnotatedPairs(self._viewer, self)
        self.annotate = AnnotatePanel(self._viewer, self.annotated)
        self.answer = AnswerPanel()
        self.start = StartPanel(device=preferences.device)
        self.form = ConfigForm()
        self.round = RoundPanel()
        self.correct = CorrectPanel(self._viewer)
        self.task_bar = TaskBar()
        self.keep = KeepPanel()
        self.preview = PreviewLayer(self._viewer, lambda image: likely_axes(image, self.annotated.ndim))
        folder = proposed_folder(preferences.project_folder)
        self.keeper = ProjectKeeper(self._viewer, self.annotated, folder, self)
        self.actions = RoundActions(
            self.keeper, self.annotated, self.start, self.form, self.round, self.preview
        )
        self.answers = StrokeAnswers(
            self._viewer,
            self.annotated,
            self.keeper.writer.snapshots,
            lambda: self.actions.is_running,
            self.answer,
        )
        self._suggesting: Task | None = None
        self._is_outdated = False  # what is being suggested, by what the user did meanwhile
        self._suggest_soon = rest_timer(self, SUGGEST_AFTER, lambda: self._suggest())
        sections: list[QWidget] = [
            *(heading("Project"), self.project),
            *(heading("1  Annotate"), self.annotate, self.answer),
            *(heading("2  Start"), self.start, self.form),
            *(heading("3  Train"), self.round),
            *(heading("4  Look and correct"), self.correct, self.task_bar),
            *(heading("5  Keep"), self.keep),
        ]
        self.lay_out(sections)
        self._connect()
        for path in self._state.models:
            self._offer(path)
        self._show_project()
        # A first round would wait for torch; it loads while the user paints.
        QTimer.singleShot(0, self._settle_in)

    def _connect(self) -> None:
        self.project.opened.connect(self.open_project)
        self.project.moved.connect(self._on_new_project)
        self.keeper.changed.connect(self._on_project)
        writer = self.keeper.writer
        self.keeper.failed.connect(show_error)
        writer.noticed.connect(show_info)
        writer.unsaved_changed.connect(lambda: self.project.show_unsaved(writer.sentences))
        self.annotated.noticed.connect(show_info)
        self.annotated.changed.connect(self._on_annotation)
        self.annotated.painted.connect(lambda _: self._on_change())
        self.start.changed.connect(self._on_change)
        self.start.refused.connect(show_error)
        self.form.reset_button.clicked.connect(lambda: self._suggest(anew=True))
        self.correct.images.changed.connect(self._follow)
        self.correct.live.toggled.connect(lambda _: self._follow())
        self.correct.predict.clicked.connect(lambda: self.predict())
        self.keep.button.clicked.connect(lambda: self.keep_model(*self.keep.words))
        self.actions.changed.connect(self._on_round)
        self.answers.changed.connect(self._on_answer)
        self._state.model_added.connect(self._offer)

    def _settle_in(self) -> None:
        """Do what waits until the dock has its place in the window."""
        self.preload(TRAINING)
        self._reopen()

    # The project

    def open_project(self, folder: Path) -> None:
        """Go on with a project: its images, what was painted, its rounds."""
        if self._may_leave():
            self.keeper.open(folder, self.task_bar.run)

    def _on_new_project(self, folder: Path) -> None:
        if self._may_leave():
            self.keeper.propose(folder)

    def _may_leave(self) -> bool:
        if self.actions.is_running:
            show_error("Stop the training first: it belongs to the project that is open.")
        return not self.actions.is_running

    def _on_project(self) -> None:
        """Another project, or the first one has begun."""
        self._show_project()
        self.actions.show_project()
        self._on_round()
        if self.keeper.project is not None:
            self._state.choices.project = self.keeper.folder
            for kept in self.keeper.project.record.kept:
                if Path(kept).is_file():
                    self._state.add_model(Path(kept))

    def _show_project(self) -> None:
        self.project.show_folder(self.keeper.folder, self.keeper.project is not None)
        self._on_round()

    def _reopen(self) -> None:
        """Open the project that a dock of this viewer had when it was closed."""
        folder = self._state.choices.project
        if folder is not None and folder.is_dir():
            self.open_project(folder)

    def _on_annotation(self) -> None:
        self.start.network.offer(self.annotated.ndim)
        if self.correct.images.image is None and self.annotated.pairs:
            self.correct.images.pick(self.annotated.pairs[0].image)
        self._on_change()

    # Settings

    def _on_change(self) -> None:
        """Paint, classes, folders or the start have changed, by which a suggestion goes."""
        self.actions.suggestion = None
        self._suggest_soon.start()

    def _suggest(self, anew: bool = False) -> None:
        """Suggest settings that fit what is annotated; what the user has changed stays, unless `anew`."""
        if self.actions.is_running:
            return
        if self._suggesting is not None and not anew:
            self._is_outdated = True
            return
        self._stop_suggesting()
        if not self.annotated.pairs and not self.annotated.folders:
            return
        try:
            work = iter_suggestion(self.actions.job(with_edits=False))
        except SwipeError:  # what is missing yet is said when Train is pressed
            return
        self._suggesting = Task(work)
        self._suggesting.finished.connect(lambda made: self._on_suggested(made, anew))
        self._suggesting.failed.connect(lambda _: self._on_suggested(None))
        self._suggesting.start()

    def _on_suggested(self, suggestion: Suggestion | None, anew: bool = False) -> None:
        if not self._is_outdated:
            self.actions.suggestion = suggestion
        self._stop_suggesting()
        if suggestion is not None and not self.actions.is_running:
            self.form.set_config(suggestion.config, suggestion.parameters, keep_edits=not anew)

    def _stop_suggesting(self) -> None:
        """Make way for another suggestion, which follows at once where something changed meanwhile."""
        if self._suggesting is not None:
            self._suggesting.abandon()
        self._suggesting = None
        if self._is_outdated:
            self._is_outdated = False
            self._suggest_soon.start()

    # Rounds

    def _on_round(self) -> None:
        """A round has begun or ended, or there is another project."""
        project, running, latest = self.keeper.project, self.actions.is_running, self._latest_model
        if not running:
            self.start.offer_latest(latest)
            can_resume = project is not None and any(
                (folder / "last.safetensors").exists() for folder in project.runs()[-1:]
            )
            self.round.show_state(self.round.state, can_resume)
        is_known = (latest or self.answers.checkpoint) is not None
        self.correct.predict.setEnabled(is_known and not running)
        self.keep.button.setEnabled(is_known)
        self._follow()

    def _on_answer(self) -> None:
        """Strokes have another answer, which a network that begins with nothing is taught by."""
        is_first, self.actions.answer = self.actions.answer is None, self.answers.checkpoint
        if is_first:
            self._on_change()
        self._on_round()

    @property
    def _latest_model(self) -> Path | None:
        project = self.keeper.project
        return None if project is None else project.latest_model()

    def _follow(self) -> None:
        """Preview the chosen image while a round runs."""
        is_shown = self.actions.is_running and self.correct.live.isChecked()
        self.preview.follow(self.correct.images.image if is_shown else None)

    # Correct

    def predict(self) -> None:
        """Turn what is known of the chosen image into labels that can be edited.

        That is by the model of the last round, or the answer to the strokes where there was no round yet.
        """
        image, model = self.correct.images.image, self._latest_model
        if image is None:
            show_error("Choose an image first, which the prediction is of.")
            return
        scheme, answer = self.annotated.scheme, self.answers.field_of(image)
        if model is not None:
            source = LayerSource.from_layer(image, likely_axes(image, self.annotated.ndim))
            work = iter_prediction(source, model, scheme, self.start.device.choice, self._state.predictors)
        elif answer is not None:
            work = iter_editable(answer, scheme)
        else:
            show_error(f"Paint on {image.name}, or train a round: then there is something to correct on it.")
            return
        self.task_bar.run(work, f"Predicting {image.name}", lambda layer: self._on_predicted(image, layer))

    def _on_predicted(self, image: Image, layer: LayerData) -> None:
        if image not in self._viewer.layers:
            return
        data, arguments, _ = layer
        old = next((pair for pair in self.annotated.pairs if pair.image is image), None)
        arguments |= {"name": f"{image.name} · corrected"}
        metadata = LayerMetadata(is_annotation=True, is_whole=True).entries
        labels = self._viewer.add_labels(data, metadata=metadata, **arguments)
        split: Split = "train" if old is None else old.split
        if old is not None:
            old.labels.visible = False
            self.annotated.remove(old.name)
        self.preview.remove()
        answer = self.answers.layer_of(image)
        if answer is not None:
            answer.layer.visible = False
        try:
            pair = self.annotated.add(image, labels, split, None if old is None else old.name)
        except SwipeError as error:
            show_error(str(error))
            return
        self.keeper.writer.take_over(pair, data)
        self._viewer.layers.selection.active = labels
        self.task_bar.say("Correct these labels, then train again.")

    # Keep

    def keep_model(self, name: str, note: str) -> None:
        """Write a model under a name, and offer it in the Segment dock.

        It is that of the last round, or the answer to the strokes where there was no round yet.
        """
        model = self._latest_model or self.answers.checkpoint
        if model is None:
            show_error("Train a round first, or paint two classes: then there is a model to keep.")
            return
        try:
            project = self.keeper.begun()
        except SwipeError as error:
            show_error(str(error))
            return
        folder = read_preferences().model_folder or project.models
        self.task_bar.run(iter_keep(project, model, folder, name, note), "Keeping the model", self._on_kept)

    def _on_kept(self, path: Path) -> None:
        self._state.add_model(path)
        self.task_bar.say(f"Kept: {path.name} is in the Segment dock now.")

    def _offer(self, path: Path) -> None:
        try:
            self.start.add_model(describe_checkpoint(path))
        except SwipeError as error:
            show_error(str(error))

    # The end

    def let_go(self) -> None:
        """The dock was closed: end its work with everything saved; what is in the viewer stays."""
        self._suggest_soon.stop()
        if self._suggesting is not None:
            self._suggesting.abandon()
        self.task_bar.abandon()
        self.answers.close()
        self.actions.close()
        self.keeper.close()
        self.preview.close()
        self.annotate.disconnect_viewer()
        self.annotated.disconnect_viewer()
        self.correct.images.disconnect_viewer()
        self._state.model_added.disconnect(self._offer)
