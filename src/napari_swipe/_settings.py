"""The plugin's preferences (File > Preferences > SwIPE Segment)."""

from dataclasses import dataclass
from pathlib import Path

PLUGIN = "napari-swipe"
DEFAULT_PROJECTS = Path.home() / "swipe-projects"


@dataclass(frozen=True)
class Preferences:
    """The user's choices for all viewers."""

    model_folder: Path | None = None
    """Where the user keeps checkpoints, or None."""
    device: str = "auto"
    """``"auto"``, ``"cpu"``, ``"cuda"`` or ``"mps"``."""
    project_folder: Path = DEFAULT_PROJECTS
    """Where new projects are made."""


def read_preferences() -> Preferences:
    """Return the preferences as they are now; the defaults where the plugin is not registered with napari."""
    from napari.settings import get_plugin_settings

    try:
        models = get_plugin_settings(PLUGIN).models
    except (KeyError, AttributeError):
        return Preferences()
    return Preferences(
        model_folder=_folder(models.folder),
        device=str(models.device),
        project_folder=_folder(models.projects) or DEFAULT_PROJECTS,
    )


def _folder(text: object) -> Path | None:
    """The folder that a setting names; None where it is empty."""
    named = str(text).strip()
    return Path(named).expanduser() if named else None
