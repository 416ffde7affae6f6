"""A short moving picture: strokes in the Train dock become a segmentation, in a real window.

xvfb-run -a -s "-screen 0 1600x1100x24" python tools/strokes.py docs/images/strokes.webp
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from tools.viewer import Heartbeat

WINDOW = (1080, 680)
SIZE = (864, 544)  # of the picture
BRUSH = 3  # pixels of the image
BACKGROUND, NUCLEUS = 1, 2
STROKES = (
    (BACKGROUND, (19, 192), (122, 198)),
    (NUCLEUS, (90, 94), (96, 107)),
    (NUCLEUS, (170, 121), (177, 127)),
    (BACKGROUND, (94, 145), (117, 147)),
)
"""Label, start and end of each stroke, as (y, x) in the image."""
STEPS = 4  # pictures of each stroke
BRIEF, LONG, LAST = 120, 1200, 3000  # milliseconds
CLOSER = (1.4, 2.0, 2.8, 4.0, 5.6)  # times the first zoom
PLACE = (106.0, 158.0)  # what is looked at then


def film() -> tuple[list[Image.Image], list[int]]:
    """Return the pictures and how long each is shown, in milliseconds."""
    import napari
    from qtpy.QtWidgets import QLabel

    from napari_swipe._settings import Preferences
    from napari_swipe.train import widget

    folder = Path(tempfile.mkdtemp())
    os.chdir(folder)
    widget.read_preferences = lambda: Preferences(project_folder=Path("swipe-projects"))
    viewer = napari.Viewer()
    viewer.window._qt_window.resize(*WINDOW)
    for name in ("dockLayerControls", "dockLayerList"):
        getattr(viewer.window._qt_viewer, name).setVisible(False)
    _, dock = viewer.window.add_plugin_dock_widget("napari-swipe", "Train")
    viewer.open_sample("napari-swipe", "nuclei")
    Heartbeat().wait(lambda: not dock.is_preloading)
    image = viewer.layers[0]
    image.contrast_limits = (0, 140)
    labels = dock.annotated.add(image).labels
    labels.brush_size = BRUSH
    pictures: list[Image.Image] = []
    times: list[int] = []

    def take(milliseconds: int) -> None:
        Heartbeat().wait(seconds=0.4)
        shot = viewer.screenshot(canvas_only=False, flash=False)[..., :3]
        pictures.append(Image.fromarray(shot).resize(SIZE, Image.Resampling.LANCZOS))
        times.append(milliseconds)

    def rest() -> None:
        Heartbeat().wait(seconds=0.3)
        Heartbeat().wait(lambda: not dock.annotated.is_pending and not dock.answers.is_busy)
        live = dock.answers.layer_of(image)
        if live is not None:
            Heartbeat().wait(lambda: live.pyramid.is_idle)

    for words in dock.findChildren(QLabel):
        if words.text().startswith("Saved as you go"):
            words.hide()  # a folder of this machine
    rest()
    take(LONG)
    for label, start, end in STROKES:
        for places in np.array_split(np.linspace(start, end, 40), STEPS):
            draw(labels, label, places)
            take(BRIEF)
        rest()
        take(LONG)
    zoom = viewer.scene.camera.zoom
    for factor in CLOSER:
        viewer.scene.camera.center, viewer.scene.camera.zoom = PLACE, zoom * factor
        rest()
        take(LAST if factor == CLOSER[-1] else 2 * BRIEF)
    viewer.close()
    return pictures, times


def draw(labels: object, label: int, places: Sequence[Sequence[float]]) -> None:
    """Paint a part of a stroke."""
    for place in places:
        labels.paint(tuple(place), label)  # type: ignore[attr-defined]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", help="the picture to write, .webp or .gif")
    path = Path(parser.parse_args().file).resolve()
    (first, *others), times = film()
    first.save(path, save_all=True, append_images=others, duration=times, loop=0, quality=80, method=6)


if __name__ == "__main__":
    main()
