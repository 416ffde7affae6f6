"""How probabilities keep what they say: a temperature that makes them, and how often each came true."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

Logits = Float[np.ndarray, "points classes"]
Labels = Int[np.ndarray, " points"]

BINS = 10
HOTTEST = 10.0  # temperatures between this and its inverse are looked at


@dataclass(frozen=True, eq=False)
class Reliability:
    """How probable places were said to be of a class, and how often they were.

    Attributes
    ----------
    said, came_true
        The mean probability in each tenth, and the share of places that are of the class; not a number
        where no place is.
    places
        How many there are in each tenth.
    """

    said: Float[np.ndarray, " bins"]
    came_true: Float[np.ndarray, " bins"]
    places: Int[np.ndarray, " bins"]

    @classmethod
    def of(cls, logits: Logits, labels: Labels, temperature: float = 1.0) -> Reliability:
        """Compare the probabilities of all classes but the background with the labels there."""
        said = softmax(logits.astype(np.float64) / temperature, axis=1)[:, 1:].reshape(-1)
        is_there = (labels[:, None] == np.arange(1, logits.shape[1])).reshape(-1)
        tenth = np.minimum((said * BINS).astype(np.int64), BINS - 1)
        places = np.bincount(tenth, minlength=BINS)
        some = np.where(places > 0, places, np.nan)
        return cls(
            np.bincount(tenth, said, minlength=BINS) / some,
            np.bincount(tenth, is_there, minlength=BINS) / some,
            places,
        )

    @property
    def dots(self) -> list[tuple[float, float]]:
        """What was said and what came true, of each tenth that has places."""
        pairs = zip(self.said.tolist(), self.came_true.tolist(), strict=True)
        return [pair for pair, places in zip(pairs, self.places, strict=True) if places]

    @property
    def error(self) -> float:
        """The expected calibration error: the mean difference of both, weighted by places."""
        gaps = np.nan_to_num(np.abs(self.said - self.came_true))
        return float((gaps * self.places).sum() / max(self.places.sum(), 1))


def fitted_temperature(logits: Logits, labels: Labels) -> float:
    """Return by which number logits are to be divided so that the labels are likeliest (Guo et al. 2017)."""
    rows = np.arange(len(labels))

    def surprise(log_temperature: float) -> float:
        return -float(log_softmax(logits / np.exp(log_temperature), axis=1)[rows, labels].mean())

    bound = float(np.log(HOTTEST))
    return float(np.exp(minimize_scalar(surprise, bounds=(-bound, bound), method="bounded").x))
