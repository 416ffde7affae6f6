"""Libraries that take seconds to come, fetched while the user looks around."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from importlib import import_module

SEGMENTING = (
    "torch",
    "safetensors.torch",
    "skimage.transform",
    "swipe_core.prediction.predictor",
    "swipe_core.inference.estimate",
)
TRAINING = (*SEGMENTING, "pyqtgraph", "swipe_core.project.rounds", "swipe_core.training.suggestion")


def iter_preload(names: Sequence[str] = SEGMENTING) -> Generator[None, None, None]:
    """Import modules one by one; between them the window has its turn."""
    for name in names:
        import_module(name)
        yield
