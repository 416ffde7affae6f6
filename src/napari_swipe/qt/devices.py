"""The devices that a user can choose."""

from __future__ import annotations

from napari_swipe.qt.number_box import ChoiceBox

DEVICES = {"auto": "Automatic", "cpu": "CPU", "cuda": "NVIDIA GPU (CUDA)", "mps": "Apple GPU (MPS)"}


def device_box(chosen: str = "auto") -> ChoiceBox:
    """Return a box whose choices are the names that the core knows devices by."""
    box = ChoiceBox(DEVICES)
    box.choose(chosen)
    box.setToolTip("What computes. Automatic takes a GPU where there is one.")
    return box
