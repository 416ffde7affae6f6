"""What a decoder is asked: which patch about which point, and how much its answer counts."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True, eq=False)
class PatchQueries:
    """Pairs of a patch and a point, in any order; a point may be asked of any number of patches.

    Attributes
    ----------
    patches
        The asked patch: a row of `Embeddings.projected`, the images of a batch one after the other.
    coordinates
        What D^P is given of the point beside the embeddings of that patch.
    points
        The number of the point.
    weights
        Of the answer; None for 1 each.
    """

    patches: Int[Tensor, " asked"]
    coordinates: Float[Tensor, "asked coordinate"]
    points: Int[Tensor, " asked"]
    weights: Float[Tensor, " asked"] | None

    def seen(self, points: Int[Tensor, " points"], weights: Float[Tensor, " points"]) -> PatchQueries:
        """The same about points that have other numbers elsewhere, and whose answers have a weight there."""
        own = weights[self.points]
        total = own if self.weights is None else self.weights * own
        return PatchQueries(self.patches, self.coordinates, points[self.points], total)

    def add(self, answers: Float[Tensor, "asked classes"], said: Float[Tensor, "points classes"]) -> None:
        """Add the answers, each times its weight, to what is said about the points."""
        if self.weights is not None:
            answers = answers * self.weights[:, None].to(answers.dtype)
        said.index_add_(0, self.points, answers)
