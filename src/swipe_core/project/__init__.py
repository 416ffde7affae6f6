"""Projects: images that are painted in napari, and what is trained on them, in one folder."""

from swipe_core.project.project import Project
from swipe_core.project.records import PairRecord, ProjectRecord, RoundRecord, TrainSettings

__all__ = ["PairRecord", "Project", "ProjectRecord", "RoundRecord", "TrainSettings"]
