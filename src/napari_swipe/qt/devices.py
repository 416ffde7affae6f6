"""What computes, for the user to choose."""

from __future__ import annotations

from qtpy.QtWidgets import QComboBox

DEVICES = {"auto": "Automatic", "cpu": "CPU", "cuda": "NVIDIA GPU (CUDA)", "mps": "Apple GPU (MPS)"}


def device_box(chosen: str = "auto") -> QComboBox:
    """A box whose data are the names that the core knows devices by."""
    box = QComboBox()
    for name, text in DEVICES.items():
        box.addItem(text, name)
    box.setCurrentIndex(list(DEVICES).index(chosen))
    box.setToolTip("What computes. Automatic takes a GPU where there is one.")
    return box
