"""What all docks have in common: they scroll, are as wide as what is in them, and let go when closed."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from importlib import import_module
from typing import TYPE_CHECKING

from qtpy.QtCore import QEvent, QObject, Qt
from qtpy.QtWidgets import (
    QDockWidget,
    QFrame,
    QLabel,
    QMainWindow,
    QOpenGLWidget,
    QScrollArea,
    QVBoxLayout,
    QWidget,
)

from napari_swipe.qt.task import Task
from napari_swipe.viewer.state import state_of, unwrapped

if TYPE_CHECKING:
    from napari import Viewer

# Libraries that take seconds to come, fetched while the user looks around.
SEGMENTING = (
    "torch",
    "safetensors.torch",
    "skimage.transform",
    "swipe_core.prediction.predictor",
    "swipe_core.inference.estimate",
)
TRAINING = (*SEGMENTING, "pyqtgraph", "swipe_core.project.rounds", "swipe_core.training.strokes")


class Dock(QScrollArea):
    """A column of sections that scrolls up and down, and never sideways."""

    def __init__(self, viewer: Viewer) -> None:
        super().__init__()
        self._viewer = unwrapped(viewer)
        self._state = state_of(self._viewer)
        self._is_docked = False
        self._window: QMainWindow | None = None
        self._preloading: Task | None = None

    def lay_out(self, sections: Sequence[QWidget]) -> None:
        """Put the sections below one another."""
        inner = QWidget()
        layout = QVBoxLayout(inner)
        for section in sections:
            layout.addWidget(section)
        layout.addStretch(1)
        self.setWidget(inner)
        self.setWidgetResizable(True)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        inner.installEventFilter(self)

    def preload(self, modules: Sequence[str]) -> None:
        """Import modules in a thread; between them the window has its turn."""
        self._preloading = Task(_iter_import(modules))
        self._preloading.start()

    @property
    def is_preloading(self) -> bool:
        """Whether modules are to come still."""
        return self._preloading is None or self._preloading.is_running

    def let_go(self) -> None:
        """The dock was closed: end its work. What is in the viewer stays."""
        raise NotImplementedError

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:  # noqa: N802 - Qt's name
        """Keep the dock wide enough for what is in it, and notice when the window goes."""
        if watched is self._window:
            # Not its closing, which the user may yet call off.
            if event.type() == QEvent.Type.DeferredDelete:
                self._leave()
        elif event.type() == QEvent.Type.LayoutRequest and isinstance(watched, QWidget):
            bar = self.verticalScrollBar().sizeHint().width()
            self.setMinimumWidth(watched.minimumSizeHint().width() + bar)
        return bool(super().eventFilter(watched, event))

    def event(self, event: QEvent) -> bool:
        """Notice when napari takes the dock in, and when it lets it go."""
        if event.type() == QEvent.Type.ParentChange:
            if self.parent() is not None:
                self._is_docked = True
            elif self._is_docked:
                self._leave()
                self._unwatch()
                self.deleteLater()
        elif event.type() == QEvent.Type.Show and self._window is None:
            self._window = _main_window(self)
            if self._window is not None:
                self._window.installEventFilter(self)
                self._viewer.layers.events.removing.connect(self._make_canvas_current)
                self._join_others(self._window)
        return bool(super().event(event))

    def _join_others(self, window: QMainWindow) -> None:
        """Open as a tab beside another dock of the plugin, and in front of it."""
        mine = _frame(self)
        frames = [_frame(dock) for dock in window.findChildren(Dock) if dock is not self]
        docked = [frame for frame in frames if frame and not frame.isFloating() and not frame.isHidden()]
        if mine is not None and docked:
            window.tabifyDockWidget(docked[-1], mine)
            mine.show()
            mine.raise_()

    def _make_canvas_current(self) -> None:
        """Let napari free what a layer has on the graphics card where it was made.

        It does so in whatever context is current; in that of the window, Mesa's drivers crash at the next
        drawing after the lower one of two layers was removed.
        """
        centre = None if self._window is None else self._window.centralWidget()
        canvas = None if centre is None else centre.findChild(QOpenGLWidget)
        if canvas is not None and canvas.isValid():
            canvas.makeCurrent()

    def _unwatch(self) -> None:
        # Not where the window goes itself: the last reference to it must not go in the midst of that.
        if self._window is not None:
            self._window.removeEventFilter(self)
            self._window = None

    def _leave(self) -> None:
        if self._is_docked:
            self._is_docked = False
            self._viewer.layers.events.removing.disconnect(self._make_canvas_current)
            if self._preloading is not None:
                self._preloading.abandon()
            self.let_go()


def _iter_import(modules: Sequence[str]) -> Generator[None, None, None]:
    for name in modules:
        import_module(name)
        yield


def _frame(widget: QWidget) -> QDockWidget | None:
    """Return what holds a widget in its window, or None."""
    while widget is not None and not isinstance(widget, QDockWidget):
        widget = widget.parentWidget()
    return widget


def _main_window(widget: QWidget) -> QMainWindow | None:
    """Return the window that a widget is docked to, or None."""
    while widget is not None and not isinstance(widget, QMainWindow):
        widget = widget.parentWidget()
    return widget


def heading(text: str) -> QLabel:
    """Make the name of a section."""
    label = QLabel(f"<b>{text}</b>")
    label.setContentsMargins(0, 8, 0, 0)
    return label
