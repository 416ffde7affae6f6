"""The field itself as a file."""

from pathlib import Path

from swipe_core.export.outlines import Scene
from swipe_core.inference.field_file import save_field


def write_field(path: Path, scene: Scene) -> None:
    """Write the field, with the names and colours of its classes."""
    assert scene.field is not None
    save_field(path, scene.field, scene.title, scene.colours)
