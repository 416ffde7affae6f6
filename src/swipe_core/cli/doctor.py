"""What is there of all that the program can use, what is missing, and how to get it; without torch.

Nothing is imported here that could be missing: the doctor must also answer where the program does not start.
"""

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, distribution, entry_points, version
from typing import Literal

import swipe_core
from swipe_core.cli.shared import FAILED
from swipe_core.compute.graphics import has_apple_gpu, nvidia_driver, torch_built_for
from swipe_core.errors import SwipeError, listed, readable_bytes

PROGRAM = "napari-swipe"
OLDEST_PYTHON = (3, 11)
OLDEST_OPENGL = (2, 1)
PATIENCE = 10.0  # seconds for the window
BINDINGS = ("PyQt6", "PySide6", "PyQt5", "PySide2")
SOFTWARE = ("llvmpipe", "softpipe", "swrast", "GDI Generic")
REQUIREMENT = re.compile(r"(?P<name>[\w.-]+)[^>;]*(>=(?P<least>[\d.]+))?[^;]*(;.*extra == .(?P<extra>\w+))?")
EXTRAS = {
    "medical": "NRRD, MetaImage and DICOM",
    "scale": "zarr, images larger than memory, several processes and machines",
    "export": "boundaries as meshes, and as regions of ImageJ",
    "dicom": "boundaries as DICOM-SEG and RTSTRUCT",
    "onnx": "models for other programs: ONNX, bioimage.io",
    "tensorboard": "the log of a training in TensorBoard",
    "benchmark": "the networks that the benchmark compares with",
}
"""What the extras of the package are for; those of its developers are left out."""
WINDOW_LIBRARIES = (
    "libegl1 libgl1 libxkbcommon-x11-0 libxcb-cursor0 libxcb-icccm4 libxcb-image0 libxcb-keysyms1 "
    "libxcb-render-util0 libxcb-shape0"
)
State = Literal["ok", "missing", "fault"]


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    topic: str
    state: State
    """``"missing"`` is something that not everybody needs, ``"fault"`` something that everybody does."""
    found: str
    remedy: str = ""
    """What to do; empty where nothing is."""


@dataclass(frozen=True)
class Requirement:
    """A package that is needed, always or for an extra (else empty), and its least version."""

    name: str
    least: str
    extra: str

    @property
    def installed(self) -> str | None:
        try:
            return version(self.name)
        except PackageNotFoundError:
            return None

    @property
    def met(self) -> bool:
        return self.installed is not None and _numbers(self.installed) >= _numbers(self.least)

    def __str__(self) -> str:
        return f"{self.name} {self.installed}" if self.installed else self.name


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", text.split("+")[0])[:3])


def requirements() -> list[Requirement]:
    """Return what the installed package requires; none where it is not installed."""
    try:
        texts = distribution(PROGRAM).requires or []
    except PackageNotFoundError:
        return []
    matches = [match for match in map(REQUIREMENT.match, texts) if match and match["name"] != PROGRAM]
    return [Requirement(match["name"], match["least"] or "0", match["extra"] or "") for match in matches]


def findings() -> list[Finding]:
    """Return all that was looked at, in the order in which it is needed."""
    window = _start_window()  # which works while the rest is looked at
    return [
        _python(),
        *_packages(),
        _computing(),
        _gpu(),
        *_files(),
        *_extras(),
        _plugin(),
        _binding(),
        _window(window),
    ]


def _python() -> Finding:
    found = f"{platform.python_version()} in {sys.prefix}"
    if sys.version_info >= OLDEST_PYTHON:
        return Finding("Python", "ok", found)
    return Finding("Python", "fault", found, "Install Python 3.11 or newer.")


def _packages() -> Iterator[Finding]:
    required = [requirement for requirement in requirements() if not requirement.extra]
    if not required:
        yield Finding(PROGRAM, "fault", "not installed", f'pip install "{PROGRAM}[all]"')
    for requirement in required:
        if not requirement.met:
            found = requirement.installed or "not installed"
            yield Finding(
                requirement.name, "fault", found, f'pip install "{requirement.name}>={requirement.least}"'
            )
    there = [str(requirement) for requirement in required if requirement.met]
    if there:
        yield Finding("packages", "ok", ", ".join(there))


def _computing() -> Finding:
    try:
        import psutil
    except ImportError:
        return Finding("processor", "ok", f"{os.cpu_count()} cores")
    memory = psutil.virtual_memory()
    free = f"{readable_bytes(memory.available)} of {readable_bytes(memory.total)} memory free"
    return Finding("processor", "ok", f"{os.cpu_count()} cores, {free}")


def _gpu() -> Finding:
    if has_apple_gpu():
        return Finding("GPU", "ok", "of the Mac (mps)")
    if hip := torch_built_for("hip"):
        return Finding("GPU", "ok", f"not looked for: torch is built for ROCm {hip}")
    driver, cuda = nvidia_driver(), torch_built_for("cuda")
    if driver is None:
        found = "none that torch computes on; the processor does"
        return Finding("GPU", "missing", found, "Where there is one of NVIDIA: install its driver.")
    found = f"{', '.join(driver.gpus)}; its driver runs CUDA up to {'.'.join(map(str, driver.cuda))}"
    if cuda is None:
        remedy = "Install torch for CUDA: https://pytorch.org/get-started/locally"
        return Finding("GPU", "missing", f"{found}; torch is built without CUDA", remedy)
    found = f"{found}; torch is built for {cuda}"
    if _numbers(cuda)[:1] > driver.cuda[:1]:
        return Finding("GPU", "missing", found, "Update the driver, or install torch for an older CUDA.")
    return Finding("GPU", "ok", found)


def _files() -> Iterator[Finding]:
    again = f"pip install --force-reinstall --no-deps {PROGRAM}"
    try:
        from swipe_core.checkpoints.header import describe_checkpoint
        from swipe_core.checkpoints.library import bundled_checkpoints

        models = [describe_checkpoint(path).name for path in bundled_checkpoints().values()]
    except ImportError as error:
        yield Finding("models", "fault", str(error), f'pip install "{PROGRAM}[all]"')
    except (SwipeError, OSError) as error:
        yield Finding("models", "fault", str(error), again)
    else:
        yield Finding("models", "ok", ", ".join(models))
    from swipe_core.samples import SAMPLES

    absent = [name for name, sample in SAMPLES.items() if not sample.image_path.is_file()]
    state: State = "fault" if absent else "ok"
    yield Finding("samples", state, ", ".join(absent or SAMPLES), again if absent else "")


def _extras() -> Iterator[Finding]:
    for extra, purpose in EXTRAS.items():
        wanted = [requirement for requirement in requirements() if requirement.extra == extra]
        absent = [requirement.name for requirement in wanted if not requirement.met]
        if absent:
            found = f"for {purpose}: without {listed(absent)}"
            yield Finding(f"extra {extra}", "missing", found, f'pip install "{PROGRAM}[{extra}]"')
        elif wanted:
            yield Finding(f"extra {extra}", "ok", ", ".join(map(str, wanted)))


def _plugin() -> Finding:
    names = [entry.name for entry in entry_points(group="napari.manifest")]
    if PROGRAM in names:
        return Finding("plugin", "ok", "in napari: Plugins > SwIPE Segment")
    return Finding("plugin", "fault", "napari does not find it", f'pip install "{PROGRAM}[all]"')


def _binding() -> Finding:
    found = [
        str(binding) for binding in (Requirement(name, "0", "") for name in BINDINGS) if binding.installed
    ]
    if found:
        return Finding("Qt binding", "ok", ", ".join(found))
    return Finding("Qt binding", "missing", "none, which napari's window needs", "pip install PyQt6")


def _start_window() -> subprocess.Popen[str]:
    # A process of its own: Qt ends the one in which it finds no screen.
    look = [sys.executable, "-m", "napari_swipe.qt.opengl"]
    return subprocess.Popen(look, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def _window(process: subprocess.Popen[str]) -> Finding:
    try:
        answer, complaint = process.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        found = f"Qt did not open one in {PATIENCE:g} seconds"
        return Finding("window", "missing", found, "Look whether napari itself opens.")
    if process.returncode:
        return _no_window(complaint)
    told = json.loads(answer)
    opengl = tuple(told["version"])
    found = f"{told['platform']}, OpenGL {'.'.join(map(str, opengl))}, {told['renderer']}"
    if opengl < OLDEST_OPENGL:
        return Finding("window", "missing", found, "Update the driver of the graphics card.")
    slow = any(name in told["renderer"] for name in SOFTWARE)
    return Finding("window", "ok", found + "; the processor draws, slowly" * slow)


def _no_window(complaint: str) -> Finding:
    if sys.platform == "linux" and not {"DISPLAY", "WAYLAND_DISPLAY"} & set(os.environ):
        remedy = (
            "Start napari at a desktop, over ssh -X, or under xvfb-run; the other commands need no screen."
        )
        return Finding("window", "missing", "there is no screen (DISPLAY is not set)", remedy)
    lines = [line for line in complaint.splitlines() if line.strip()] or ["Qt ended without a word"]
    needed = next((line for line in lines if "needed" in line or "Error" in line), lines[-1])
    remedy = "Look whether napari itself opens."
    if sys.platform == "linux":
        remedy = (
            f"Install Qt's system libraries; on Debian or Ubuntu: sudo apt-get install {WINDOW_LIBRARIES}"
        )
    return Finding("window", "missing", needed, remedy)


def text(found: list[Finding]) -> str:
    """Return findings as lines, each with its remedy below."""
    lines = [f"swipe {swipe_core.__version__}, {platform.platform()}", ""]
    for finding in found:
        head = f"  {finding.state:8} {finding.topic:18} "
        indent = " " * len(head)
        lines += textwrap.wrap(finding.found, 110, initial_indent=head, subsequent_indent=indent) or [head]
        lines += textwrap.wrap(
            finding.remedy,
            110,
            initial_indent=f"{indent}-> ",
            subsequent_indent=f"{indent}   ",
            break_long_words=False,
            break_on_hyphens=False,
        )
    faults = [finding.topic for finding in found if finding.state == "fault"]
    end = f"Needed, and not as it should be: {listed(faults)}." if faults else "All is there that is needed."
    return "\n".join([*lines, "", end])


def main(options: argparse.Namespace) -> int:
    found = findings()
    if options.json:
        about = {"version": swipe_core.__version__, "platform": platform.platform()}
        print(json.dumps(about | {"findings": [asdict(finding) for finding in found]}, indent=2))
    else:
        print(text(found))
    return FAILED if any(finding.state == "fault" for finding in found) else 0
