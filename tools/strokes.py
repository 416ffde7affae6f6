"""Strokes in the Train dock become a segmentation, in a real window: as a film, and as a strip with seconds.

xvfb-run -a -s "-screen 0 1600x1100x24" python -m tools.strokes docs/images/strokes.webp
xvfb-run -a -s "-screen 0 1600x1100x24" python -m tools.strokes --strip docs/images/seconds.png
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

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
CLOSEST = 16.0
IN_VOLUME = (
    (BACKGROUND, (10, 5, 3), (10, 5, 29)),
    (BACKGROUND, (10, 12, 27), (10, 33, 29)),
    (BACKGROUND, (2, 10, 16), (2, 44, 16)),
    (BACKGROUND, (21, 10, 16), (21, 44, 16)),
    (NUCLEUS, (10, 15, 10), (10, 40, 12)),
    (NUCLEUS, (7, 35, 11), (7, 42, 15)),
    (NUCLEUS, (13, 13, 13), (13, 26, 12)),
)
"""As `STROKES`, as (z, y, x)."""
ANGLES = (20.0, 25.0, 130.0)  # of the volume
COLUMNS, MARGIN, LINE = 3, 8, 30  # of the strip, in pixels


class Stage:
    """The Train dock over an image of the samples, in a window without what only distracts."""

    def __init__(self, sample: str) -> None:
        import napari

        from napari_swipe._settings import Preferences
        from napari_swipe.train import widget

        os.chdir(tempfile.mkdtemp())
        widget.read_preferences = lambda: Preferences(project_folder=Path("swipe-projects"))
        self.viewer = napari.Viewer()
        self.viewer.window._qt_window.resize(*WINDOW)
        for name in ("dockLayerControls", "dockLayerList"):
            getattr(self.viewer.window._qt_viewer, name).setVisible(False)
        _, self.dock = self.viewer.window.add_plugin_dock_widget("napari-swipe", "Train")
        self.viewer.open_sample("napari-swipe", sample)
        Heartbeat().wait(lambda: not self.dock.is_preloading)
        self.image = self.viewer.layers[0]

    def annotate(self) -> float:
        """Add the image; returns after how many seconds strokes can be answered."""
        from qtpy.QtWidgets import QLabel

        begun = time.perf_counter()
        self.labels: Any = self.dock.annotated.add(self.image).labels
        self.labels.brush_size = BRUSH
        self.rest()
        self.zoom = self.viewer.scene.camera.zoom  # at which the image fills the canvas
        seconds = time.perf_counter() - begun
        for words in self.dock.findChildren(QLabel):
            if words.text().startswith("Saved as you go"):
                words.hide()  # a folder of this machine
        return seconds

    def paint(self, label: int, places: Sequence[Sequence[float]]) -> None:
        """Paint a part of a stroke."""
        for place in places:
            self.labels.paint(tuple(place), label)

    def rest(self) -> float:
        """Wait until all strokes are answered; returns how many seconds that took."""
        begun = time.perf_counter()
        Heartbeat().wait(seconds=0.1)
        Heartbeat().wait(lambda: not self.dock.annotated.is_pending and not self.dock.answers.is_busy)
        live = self.dock.answers.layer_of(self.image)
        if live is not None:
            Heartbeat().wait(lambda: live.pyramid.is_idle)
        return time.perf_counter() - begun

    def look(self, factor: float) -> None:
        """Look closer at `PLACE`, so many times the first zoom."""
        camera = self.viewer.scene.camera
        camera.center, camera.zoom = PLACE, self.zoom * factor
        self.rest()

    def keep_and_show_surface(self) -> float:
        """Keep the answer as a model, and show the surface of what it finds; returns the seconds it took."""
        begun = time.perf_counter()
        self.dock.keep_model("strokes", "")
        Heartbeat().wait(lambda: not self.dock.task_bar.is_busy)
        _, segment = self.viewer.window.add_plugin_dock_widget("napari-swipe", "Segment", tabify=True)
        Heartbeat().wait(lambda: not segment.is_preloading)
        segment.models.pick("strokes")
        for work in (segment.segment, segment.outputs.show_surfaces):
            work()
            Heartbeat().wait(lambda: not segment.task_bar.is_busy)
        seconds = time.perf_counter() - begun
        self.labels.visible = False
        self.viewer.dims.ndisplay = 3
        self.viewer.scene.camera.angles = ANGLES
        return seconds

    def picture(self) -> Image.Image:
        """Return what is seen."""
        Heartbeat().wait(seconds=0.4)
        shot = self.viewer.screenshot(canvas_only=False, flash=False)[..., :3]
        return Image.fromarray(shot).resize(SIZE, Image.Resampling.LANCZOS)


def film() -> tuple[list[Image.Image], list[int]]:
    """Return the pictures and how long each is shown, in milliseconds."""
    stage = Stage("nuclei")
    stage.image.contrast_limits = (0, 140)
    stage.annotate()
    shown = [(stage.picture(), LONG)]
    for label, start, end in STROKES:
        for places in np.array_split(np.linspace(start, end, 40), STEPS):
            stage.paint(label, places)
            shown.append((stage.picture(), BRIEF))
        stage.rest()
        shown.append((stage.picture(), LONG))
    for factor in CLOSER:
        stage.look(factor)
        shown.append((stage.picture(), LAST if factor == CLOSER[-1] else 2 * BRIEF))
    stage.viewer.close()
    pictures, times = zip(*shown, strict=True)
    return list(pictures), list(times)


def strip() -> Image.Image:
    """Return pictures side by side, each with what one waited for it."""
    shown = list[tuple[Image.Image, str]]()
    stage = Stage("nuclei")
    stage.image.contrast_limits = (0, 140)
    seconds = stage.annotate()
    shown.append((stage.picture(), f"An image is added: ready after {seconds:.1f} s"))
    waits = []
    for number, (label, start, end) in enumerate(STROKES):
        stage.paint(label, np.linspace(start, end, 40))
        waits.append(stage.rest())
        if number == 1:
            shown.append((stage.picture(), f"A stroke of each class: first answer after {waits[1]:.1f} s"))
    shown.append((stage.picture(), f"Two corrections, answered after {waits[2]:.1f} and {waits[3]:.1f} s"))
    stage.look(CLOSEST)
    shown.append((stage.picture(), f"{CLOSEST:.0f} times closer: as sharp"))
    stage.viewer.close()
    stage = Stage("hippocampus")
    ready = stage.annotate()
    for label, start, end in IN_VOLUME:
        stage.paint(label, np.linspace(start, end, 40))
    seconds = stage.rest()
    stage.viewer.dims.set_point(0, stage.labels.data_to_world(IN_VOLUME[0][1])[0])
    stage.rest()
    shown.append(
        (stage.picture(), f"A volume, ready after {ready:.1f} s: strokes on five slices, {seconds:.1f} s")
    )
    seconds = stage.keep_and_show_surface()
    shown.append((stage.picture(), f"Kept, segmented, and its surface: {seconds:.1f} s"))
    stage.viewer.close()
    rows = -(-len(shown) // COLUMNS)
    width, height = SIZE[0] + MARGIN, SIZE[1] + LINE + MARGIN
    whole = Image.new("RGB", (COLUMNS * width - MARGIN, rows * height - MARGIN), "white")
    drawn = ImageDraw.Draw(whole)
    for number, (picture, words) in enumerate(shown):
        corner = (number % COLUMNS * width, number // COLUMNS * height)
        drawn.text(corner, words, "black", ImageFont.load_default(20))
        whole.paste(picture, (corner[0], corner[1] + LINE))
    return whole


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", help="the picture to write, .webp or .gif, or of the strip .png")
    parser.add_argument("--strip", action="store_true", help="pictures side by side, with seconds")
    options = parser.parse_args()
    path = Path(options.file).resolve()
    if options.strip:
        strip().save(path)
        return
    (first, *others), times = film()
    first.save(path, save_all=True, append_images=others, duration=times, loop=0, quality=80, method=6)


if __name__ == "__main__":
    main()
