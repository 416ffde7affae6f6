"""Projects: images that are painted in napari, and what is trained on them, in one folder."""

from swipe_core.project.names import case_name
from swipe_core.project.project import Project
from swipe_core.project.records import PairRecord, ProjectRecord, RoundRecord

__all__ = ["PairRecord", "Project", "ProjectRecord", "RoundRecord", "case_name"]
