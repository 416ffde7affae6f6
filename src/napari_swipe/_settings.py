"""The plugin's preferences (File > Preferences > SwIPE Segment)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

PLUGIN = "napari-swipe"


@dataclass(frozen=True)
class Preferences:
    """What the user set once for all viewers.

    Attributes
    ----------
    model_folder
        Where the user keeps checkpoints, or None.
    device
        ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"mps"``.
    """

    model_folder: Path | None = None
    device: str = "auto"


def read_preferences() -> Preferences:
    """As they are now; the defaults where the plugin is not registered with napari."""
    from napari.settings import get_plugin_settings

    try:
        models = get_plugin_settings(PLUGIN).models
    except (KeyError, AttributeError):
        return Preferences()
    folder = str(models.folder).strip()
    return Preferences(Path(folder).expanduser() if folder else None, str(models.device))
