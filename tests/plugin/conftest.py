"""A viewer that is cleaned up whatever the test leaves running, and a dock with a model that knows discs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

PATIENCE = 60_000  # milliseconds; only a hang comes near it


@pytest.fixture
def viewer(make_napari_viewer, request) -> Iterator:
    """A napari viewer; everything of the plugin's that still runs is ended before napari looks for leaks.

    Its window is shown unless the parameter of the fixture says otherwise.
    """
    from qtpy.QtWidgets import QApplication
    from superqt.utils import WorkerBase

    from napari_swipe.viewer.state import state_of

    # Shown, because a hidden canvas draws nothing.
    viewer = make_napari_viewer(show=getattr(request, "param", True))
    yield viewer
    for dock in list(viewer.window.dock_widgets):
        viewer.window.remove_dock_widget(viewer.window.dock_widgets[dock])
    state_of(viewer).close()
    WorkerBase.await_workers(PATIENCE)
    QApplication.processEvents()


@pytest.fixture(autouse=True)
def no_answers(monkeypatch) -> None:
    """Strokes are answered only where that is what is tested: it takes a moment of every stroke."""
    from napari_swipe.train.answer import AnswerPanel

    monkeypatch.setattr(AnswerPanel, "on_by_default", False)


@pytest.fixture
def disc_pixels() -> np.ndarray:
    """A bright disc in noise, 32 x 32, as the model of `disc_run` has learned it."""
    rows, columns = np.mgrid[:32, :32]
    disc = np.hypot(rows - 14, columns - 17) < 8.5
    noise = np.random.default_rng(0).normal(60, 10, disc.shape)
    return (noise + 120 * disc).clip(0, 255).astype(np.uint8)


@pytest.fixture
def dock(viewer, qtbot, disc_run: Path):
    """The Segment dock in the viewer, with the disc model picked."""
    _, widget = viewer.window.add_plugin_dock_widget("napari-swipe", "Segment")
    qtbot.waitUntil(lambda: not widget.is_preloading, timeout=PATIENCE)
    widget.models.open_file(disc_run / "best.safetensors")
    return widget


@pytest.fixture
def wait_idle(qtbot) -> Callable:
    """Wait until a dock's work, and what follows from it, is done."""

    def wait(widget) -> None:
        qtbot.waitUntil(lambda: not widget.task_bar.is_busy, timeout=PATIENCE)
        qtbot.wait(20)
        qtbot.waitUntil(lambda: not widget.task_bar.is_busy, timeout=PATIENCE)

    return wait


@pytest.fixture
def errors() -> Iterator[list[str]]:
    """What the user is told went wrong, or should know."""
    from napari.utils.notifications import NotificationSeverity, notification_manager

    told: list[str] = []

    def keep(notification) -> None:
        if notification.severity >= NotificationSeverity.WARNING:
            told.append(str(notification.message))

    notification_manager.notification_ready.connect(keep)
    yield told
    notification_manager.notification_ready.disconnect(keep)
