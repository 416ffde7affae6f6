"""The field itself as a file, and labels that it was rendered to."""

from pathlib import Path

from swipe_core.export.outlines import Scene
from swipe_core.images.files import write_label_map
from swipe_core.inference.field_file import save_field


def write_field(path: Path, scene: Scene) -> None:
    """Write the field, with the names and colours of its classes."""
    assert scene.field is not None
    save_field(path, scene.field, scene.title, scene.colours)


def write_labels(path: Path, scene: Scene) -> None:
    """Write the labels in the format of the suffix."""
    write_label_map(path, scene.sampled)
