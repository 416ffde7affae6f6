"""Where the user corrected a model: what was painted since it was made."""

from __future__ import annotations

import numpy as np


class Corrections:
    """The corrected voxels of one annotation.

    Before the first model there is nothing to correct; from then on whatever is painted, or painted
    over, is a correction, until the annotation is taken anew.
    """

    def __init__(self) -> None:
        self._baseline: np.ndarray | None = None
        self._before: np.ndarray | None = None

    def begin(self, painted: np.ndarray, corrected: np.ndarray | None = None) -> None:
        """A model was made, or a prediction was taken over: what is painted from here on corrects it.

        Parameters
        ----------
        painted
            As it is now; a copy is kept.
        corrected
            What is known as corrected already.
        """
        self._before = self.mask(painted) if corrected is None else corrected
        self._baseline = painted.copy()

    def mask(self, painted: np.ndarray) -> np.ndarray | None:
        """Where an annotation was corrected; None before the first model, and where nothing was."""
        if self._baseline is None or self._baseline.shape != painted.shape:
            return None
        changed = painted != self._baseline
        if self._before is not None:
            changed |= self._before
        return changed if changed.any() else None
