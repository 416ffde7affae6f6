"""The plugin in a real window: what it costs a user in seconds, and pictures of it.

python tools/viewer.py benchmark                  a table: seconds to a picture, live tiles, freezes
python tools/viewer.py pictures --output docs/images
xvfb-run -a -s "-screen 0 1600x1100x24" python tools/viewer.py benchmark      without a screen
"""

from __future__ import annotations

import argparse
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from swipe_core.cli.shared import exit_code, until_unread
from swipe_core.images import MedicalImage
from swipe_core.pictures import Panel, contact_sheet, write_png

PATIENCE = 600.0  # seconds
WINDOW = (1500, 1000)
ZOOMS = (1, 8, 64)
POSES = 40  # views of one boundary that are decoded, one after the other
THICK = 5  # slices of a volume that become one, in the picture of thick slices
PANEL = 420  # pixels


@dataclass
class Heartbeat:
    """How long the window's event loop stood still, measured by running it in short turns."""

    gaps: list[float] = field(default_factory=list)

    def wait(self, until: Callable[[], bool] | None = None, seconds: float = PATIENCE) -> None:
        """Let the window live until something is so, or for some seconds."""
        from qtpy.QtWidgets import QApplication

        deadline, last = time.perf_counter() + seconds, time.perf_counter()
        while time.perf_counter() < deadline and not (until is not None and until()):
            QApplication.processEvents()
            now = time.perf_counter()
            self.gaps.append(now - last)
            last = now
            time.sleep(0.001)
        if until is not None and not until():
            raise TimeoutError("the window never came to rest")

    @property
    def longest(self) -> float:
        return max(self.gaps, default=0.0)


class DrivenViewer:
    """A viewer with the Segment dock, driven as a user would."""

    def __init__(self) -> None:
        import napari

        self.viewer = napari.Viewer()
        self.viewer.window._qt_window.resize(*WINDOW)
        _, self.dock = self.viewer.window.add_plugin_dock_widget("napari-swipe", "Segment")
        Heartbeat().wait(seconds=0.2)
        Heartbeat().wait(lambda: not self.dock.is_preloading)

    def open_sample(self, name: str) -> None:
        self.clear()
        self.viewer.open_sample("napari-swipe", name)
        Heartbeat().wait(seconds=0.5)

    def clear(self) -> None:
        self.viewer.layers.clear()
        self.viewer.dims.ndisplay = 2
        # OpenGL in software crashes where new layers follow before the empty canvas was drawn.
        Heartbeat().wait(seconds=0.5)

    def finish(self, heartbeat: Heartbeat | None = None) -> None:
        """Wait for the dock's task."""
        (heartbeat or Heartbeat()).wait(lambda: not self.dock.task_bar.is_busy)

    def settle(self) -> None:
        """Wait until the live layer shows all it knows."""
        for _ in range(3):
            Heartbeat().wait(seconds=0.1)
            Heartbeat().wait(lambda: all(live.pyramid.is_idle for live in self.live_layers))
        Heartbeat().wait(seconds=0.2)

    @property
    def live_layers(self) -> list[Any]:
        from napari_swipe.viewer.state import state_of

        return [live for layer in self.viewer.layers if (live := state_of(self.viewer).live(layer))]

    @property
    def segmented(self) -> Any:
        """The segmentation of the image that is picked."""
        from napari_swipe.viewer.state import state_of

        return state_of(self.viewer).segmented(self.dock.images.layer)

    def segment(self, heartbeat: Heartbeat | None = None) -> None:
        self.dock.segment_button.click()
        self.finish(heartbeat)

    def boundary(self) -> tuple[float, ...]:
        """A place in the world on a boundary of the segmentation, near its middle."""
        segmented = self.segmented
        coarse = segmented.coarse > 0
        edges = np.argwhere(np.diff(coarse.astype(int), axis=-1) != 0)
        middle = (
            edges[np.argmin(np.linalg.norm(edges - edges.mean(axis=0), axis=1))]
            + 0.5 * np.eye(coarse.ndim)[-1]
        )
        matrix = segmented.field.axes.matrix(segmented.plan.base)
        return tuple(float(c) for c in matrix[:-1, :-1] @ middle + matrix[:-1, -1])

    def fullest(self, axis: int) -> float:
        """Where on a world axis a slice shows most of the segmentation."""
        segmented = self.segmented
        others = tuple(other for other in range(segmented.coarse.ndim) if other != axis)
        index = int(np.count_nonzero(segmented.coarse, axis=others).argmax())
        matrix = segmented.field.axes.matrix(segmented.plan.base)
        return float(matrix[axis, -1] + matrix[axis, axis] * index)

    def look_at(self, place: tuple[float, ...], zoom: float) -> None:
        for axis, position in enumerate(place):
            if axis not in self.viewer.dims.displayed:
                self.viewer.dims.set_point(axis, position)
        camera = self.viewer.scene.camera
        camera.center = tuple(place[axis] for axis in self.viewer.dims.displayed)
        camera.zoom = zoom

    def close(self) -> None:
        self.viewer.close()


# What it costs


def measure(driven: DrivenViewer, sample: str) -> dict[str, float]:
    """What a user waits for on one sample, in seconds."""
    driven.open_sample(sample)
    heartbeat, start = Heartbeat(), time.perf_counter()
    driven.segment(heartbeat)
    costs = {"Segment to first picture": time.perf_counter() - start}
    driven.settle()
    costs |= measure_tiles(driven)
    driven.dock.result.set_factor(4)
    rendering, start = Heartbeat(), time.perf_counter()
    driven.dock.outputs.render_labels()
    driven.finish(rendering)
    costs["labels at 4x"] = time.perf_counter() - start
    # Layers are made in the last turn of the loop, by napari itself: see the row of a plain layer.
    costs["longest freeze while it computes"] = max(*heartbeat.gaps[:-1], *rendering.gaps[:-1])
    costs["freeze when layers are added"] = max(heartbeat.gaps[-1], rendering.gaps[-1])
    start = time.perf_counter()
    driven.viewer.add_labels(np.zeros((8,) * driven.dock.images.layer.ndim, np.uint8))
    costs["the same for a plain empty layer"] = time.perf_counter() - start
    return costs


def measure_tiles(driven: DrivenViewer) -> dict[str, float]:
    """Views of a boundary at 64x: from asking to the sharp picture."""
    place, zoom = driven.boundary(), driven.viewer.scene.camera.zoom
    seconds, heartbeat = [], Heartbeat()
    (live,) = driven.live_layers
    rng = np.random.default_rng(0)
    driven.look_at(place, zoom * 64)
    driven.settle()
    for _ in range(POSES):
        arrived = threading.Event()
        live.decoded.connect(arrived.set)
        start = time.perf_counter()
        # Within a few pixels of the image, so that the boundary stays near and every view is new.
        driven.look_at(tuple(np.add(place, rng.normal(0, 1.0, len(place)))), zoom * 64)
        heartbeat.wait(seconds=0.01)
        heartbeat.wait(lambda: live.pyramid.is_idle)
        if arrived.is_set() or live.pyramid.decodes:
            seconds.append(time.perf_counter() - start)
        live.decoded.disconnect(arrived.set)
    driven.look_at(place, zoom)
    return {
        "live view at 64x, median": float(np.median(seconds)),
        "live view at 64x, 95th percentile": float(np.percentile(seconds, 95)),
        "longest freeze while looking": heartbeat.longest,
    }


def benchmark(samples: list[str]) -> str:
    """A Markdown table, one column for each sample."""
    import torch

    driven = DrivenViewer()
    measure(driven, samples[0])  # shaders, and what else is made but once
    columns = {sample: measure(driven, sample) for sample in samples}
    driven.close()
    canvas = " x ".join(map(str, WINDOW))
    rows = [f"Window {canvas}, {torch.get_num_threads()} threads; seconds.", ""]
    rows += ["| | " + " | ".join(columns) + " |", "|---|" + "---|" * len(columns)]
    for name in next(iter(columns.values())):
        rows.append(f"| {name} | " + " | ".join(f"{costs[name]:.3f}" for costs in columns.values()) + " |")
    return "\n".join(rows)


# What it looks like


def take_pictures(folder: Path) -> None:
    """All pictures of the plugin in the documentation."""
    driven = DrivenViewer()
    for sample in ("polyp", "nuclei", "hippocampus"):
        picture_dock(driven, sample, folder / f"dock_{sample}.png")
        picture_zooms(driven, folder / f"live_{sample}.png")
    picture_thick_slices(driven, folder / "thick_slices.png")
    picture_surfaces(driven, folder / "surfaces.png")
    picture_sureness(driven, folder / "sureness.png")
    driven.close()


def picture_dock(driven: DrivenViewer, sample: str, path: Path) -> None:
    """The whole window after Open Sample and Segment."""
    driven.open_sample(sample)
    driven.segment()
    driven.settle()
    write_png(path, driven.viewer.screenshot(canvas_only=False, flash=False)[..., :3])


def picture_zooms(driven: DrivenViewer, path: Path) -> None:
    """One boundary at three zooms: an ordinary labels layer above, the live layer below."""
    dock, viewer = driven.dock, driven.viewer
    place, zoom = driven.boundary(), viewer.scene.camera.zoom
    dock.result.set_factor(1)
    dock.outputs.render_labels()
    driven.finish()
    plain, live = viewer.layers[-1], driven.live_layers[0].layer
    rows = []
    for shown, hidden, name in (
        (plain, live, "labels at the image's resolution"),
        (live, plain, "live layer"),
    ):
        shown.visible, hidden.visible = True, False
        panels = []
        for factor in ZOOMS:
            driven.look_at(place, zoom * factor)
            driven.settle()
            panels.append(Panel(canvas(driven), f"{name}, {factor}x"))
        rows.append(panels)
    write_png(path, contact_sheet(rows))
    viewer.layers.remove(plain)
    live.visible = True
    driven.look_at(place, zoom)


def picture_thick_slices(driven: DrivenViewer, path: Path) -> None:
    """The XZ plane of a volume whose slices were merged: ordinary labels beside the live layer."""
    from napari_swipe.layers.data import image_layer_data
    from swipe_core.images import read_image
    from swipe_core.samples import SAMPLES

    viewer = driven.viewer
    driven.clear()
    data, arguments, _ = image_layer_data(merged_slices(read_image(SAMPLES["hippocampus"].image_path)))
    viewer.add_image(data, **arguments)
    driven.dock.models.pick("hippocampus")
    driven.segment()
    driven.dock.result.set_factor(1)
    driven.dock.result._isotropic.setChecked(False)
    driven.dock.outputs.render_labels()
    driven.finish()
    plain, live = viewer.layers[-1], driven.live_layers[0].layer
    viewer.dims.order = (1, 0, 2)
    viewer.reset_view()
    viewer.dims.set_point(1, driven.fullest(axis=1))
    panels = []
    for shown, hidden, name in ((plain, live, "labels of the volume's voxels"), (live, plain, "live layer")):
        shown.visible, hidden.visible = True, False
        driven.settle()
        panels.append(Panel(canvas(driven), f"XZ, {THICK} mm slices: {name}"))
    write_png(path, contact_sheet([panels]))
    viewer.dims.order = (0, 1, 2)


def merged_slices(image: MedicalImage) -> MedicalImage:
    """A volume whose slices are means of `THICK` neighbours."""
    from swipe_core.coordinates import Affine

    count = image.shape[0] // THICK
    array = image.array[: count * THICK].reshape(count, THICK, *image.array.shape[1:]).mean(axis=1)
    step = Affine.from_parts(np.diag([THICK, 1.0, 1.0]), [(THICK - 1) / 2, 0.0, 0.0])
    return MedicalImage(array.astype(np.float32), image.affine @ step, image.unit)


def picture_surfaces(driven: DrivenViewer, path: Path) -> None:
    """The surfaces of a volume in 3D."""
    driven.open_sample("hippocampus")
    driven.segment()
    driven.dock.result.set_factor(2)
    driven.dock.outputs.show_surfaces()
    driven.finish()
    driven.viewer.reset_view()
    driven.viewer.scene.camera.angles = (20.0, 35.0, 110.0)
    Heartbeat().wait(seconds=1.0)
    write_png(path, driven.viewer.screenshot(canvas_only=False, flash=False)[..., :3])


def picture_sureness(driven: DrivenViewer, path: Path) -> None:
    """A boundary in colours for how sure it is, and for how far it is from the labels of the data set."""
    driven.open_sample("hippocampus")
    driven.segment()
    reference = driven.viewer.layers["Hippocampus reference"]
    panels = []
    for act, name in (
        (driven.dock.outputs.show_half_widths, "half width of the band of 90 %"),
        (lambda: driven.dock.others.show_distances(reference), "distance to the annotator's boundary"),
    ):
        act()
        driven.finish()
        driven.viewer.reset_view()
        driven.viewer.scene.camera.angles = (20.0, 35.0, 110.0)
        Heartbeat().wait(seconds=1.0)
        limits = driven.viewer.layers[-1].contrast_limits
        panels.append(Panel(canvas(driven), f"{name}: {limits[0]:.2g} to {limits[1]:.2g} mm"))
    write_png(path, contact_sheet([panels]))


def canvas(driven: DrivenViewer) -> np.ndarray:
    """The middle of the canvas."""
    shot = driven.viewer.screenshot(canvas_only=True, flash=False)[..., :3]
    rows, columns = (max(0, (n - PANEL) // 2) for n in shot.shape[:2])
    return np.ascontiguousarray(shot[rows : rows + PANEL, columns : columns + PANEL])


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    costs = commands.add_parser("benchmark", help="print a table")
    costs.add_argument("--samples", nargs="+", default=["nuclei", "hippocampus"], metavar="NAME")
    pictures = commands.add_parser("pictures", help="write pictures")
    pictures.add_argument("--output", type=Path, required=True, metavar="DIR")
    return parser.parse_args(arguments)


def run(options: argparse.Namespace) -> int:
    if options.command == "benchmark":
        print(benchmark(options.samples))
    else:
        take_pictures(options.output)
    return 0


def main(arguments: list[str] | None = None) -> int:
    options = parse_arguments(arguments)
    place = str(getattr(options, "output", "."))
    return exit_code(lambda: run(options), place=place, stopped=lambda: "nothing was changed")


if __name__ == "__main__":
    raise SystemExit(until_unread(main))
