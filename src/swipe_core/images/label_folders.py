"""How a folder of labels is known, without reading it and without zarr."""

from __future__ import annotations

import json
from pathlib import Path

FORMAT = "swipe labels"


def is_label_folder(path: Path) -> bool:
    """Whether a folder calls itself one of a `LabelStore`, by a glance at its metadata."""
    described = path / "zarr.json"
    return described.is_file() and json.dumps(FORMAT) in described.read_text("utf-8", errors="replace")
