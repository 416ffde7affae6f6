"""Which connected regions a model is sure of: the others are left out of the decision.

This is thresholding with hysteresis (Canny 1986), on a field: the lower threshold says how far a
region reaches, the higher one whether it counts.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Generator, Sequence

import numpy as np
from jaxtyping import Bool, Float, Integer
from scipy import ndimage
from scipy.special import expit

from swipe_core.inference.extraction import Classify, iter_extract
from swipe_core.progress import map_reports

Allowed = Bool[np.ndarray, "classes *shape"]
KEPT = 2  # searches: one that is shown, and one that comes; each is as large as the image
REACH = 2  # voxels about a region on the lattice, within which its finer boundary runs


class FoundRegions:
    """The regions in which classes may be decided, of the last settings for which they were searched.

    Several threads may ask and keep at once.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._found: OrderedDict[tuple[object, ...], Allowed] = OrderedDict()

    def of(self, decision: tuple[object, ...]) -> Allowed | None:
        """The regions of some settings; None where they are not kept."""
        with self._lock:
            return self._found.get(decision)

    def keep(self, decision: tuple[object, ...], allowed: Allowed) -> None:
        """Keep the regions of some settings, and forget those that were kept first."""
        with self._lock:
            self._found[decision] = allowed
            while len(self._found) > KEPT:
                self._found.popitem(last=False)


def iter_confident_regions(
    classify: Classify,
    logits: Callable[[Float[np.ndarray, "points ndim"]], Float[np.ndarray, "points outputs"]],
    shape: Sequence[int],
    *,
    confidence: float,
    classes: int,
    stride: int | Sequence[int],
    points_per_call: int,
) -> Generator[float, None, Bool[np.ndarray, "classes *shape"]]:
    """`confident_regions` of a field on a lattice; yields the share of the work that is done.

    `classify` and `logits`: what is decided, and the logits of background and classes, at points of the
    lattice's voxel frame.
    `stride` and `points_per_call`: as `iter_extract` takes them.
    """
    extraction = iter_extract(classify, shape, stride, points_per_call=points_per_call)
    labels = (yield from map_reports(extraction, lambda share: share / 2)).labels
    shares = np.zeros(labels.shape, np.float32)
    decided = np.argwhere(labels)
    for start in range(0, len(decided), points_per_call):
        part = decided[start : start + points_per_call]
        values, index = logits(part.astype(np.float64)), tuple(part.T)
        own = np.take_along_axis(values, labels[index][:, None].astype(np.intp), axis=1)[:, 0]
        # The share of a class beside the background alone is the logistic function of their difference.
        shares[index] = expit(own - values[:, 0])
        yield 0.5 + 0.5 * (start + len(part)) / len(decided)
    return confident_regions(labels, shares, confidence, classes)


def confident_regions(
    labels: Integer[np.ndarray, "*shape"],
    shares: Float[np.ndarray, "*shape"],
    confidence: float,
    classes: int,
) -> Bool[np.ndarray, "classes *shape"]:
    """Return where each class may be decided: in and about its regions that reach `confidence` somewhere.

    `labels` (*shape): decided classes on a lattice; 0 is the background. Regions are connected across faces.
    `shares` (*shape): share of each voxel's class in its and the background's probability, in [0, 1]; read
    where `labels` is not 0.
    `confidence`: in (0, 1): what a region must reach in one of its voxels at least.
    `classes`: number of classes beside the background.

    Returns
    -------
    (classes, *shape)
        True within `REACH` voxels of a region that is kept, but not in or next to one that is left out
        unless the kept one is next to it too.
    """
    allowed = np.zeros((classes, *labels.shape), bool)
    for klass in range(1, classes + 1):
        decided = labels == klass
        regions, count = ndimage.label(decided)
        peaks = np.asarray(ndimage.maximum(shares, regions, np.arange(count + 1)))
        sure = peaks >= confidence
        sure[0] = False  # what is of another class
        kept = sure[regions]
        doubtful = decided & ~kept
        near, nearer = _grown(kept, REACH) & ~_grown(doubtful, 1), _grown(kept, 1)
        allowed[klass - 1] = (near | nearer) & ~doubtful
    return allowed


def _grown(mask: Bool[np.ndarray, "*shape"], voxels: int) -> Bool[np.ndarray, "*shape"]:
    """A mask and all that lies within so many voxels, across faces, edges and corners."""
    return ndimage.maximum_filter(mask, size=2 * voxels + 1, mode="constant")
