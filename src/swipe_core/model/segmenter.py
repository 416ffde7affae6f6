"""What every trainable network offers, so that one runner, one loss and one predictor serve them all."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a network says of a batch of training points, as logits over background + C classes.

    Attributes
    ----------
    patch : (batch, points, classes)
        The answer that counts: the patch decoder D^P for SwIPE, the only output of other networks.
    image : (batch, points, classes) or None
        The image decoder D^I.
    overreach : (batch, points, neighbours, classes) or None
        D^P asked through neighbouring patches (stochastic patch overreach).
    embedding_norm : scalar or None
        Mean squared norm of the patch embeddings plus that of the image embeddings.
    """

    patch: Float[Tensor, "batch points classes"]
    image: Float[Tensor, "batch points classes"] | None = None
    overreach: Float[Tensor, "batch points neighbours classes"] | None = None
    embedding_norm: Float[Tensor, ""] | None = None

    def part(self, start: int, stop: int | None = None) -> Prediction:
        """The answers at some of the points only."""
        return replace(
            self,
            patch=self.patch[:, start:stop],
            image=None if self.image is None else self.image[:, start:stop],
            overreach=None if self.overreach is None else self.overreach[:, start:stop],
        )


@runtime_checkable
class Segmenter(Protocol):
    """A network that is trained on points: SwIPE, or a network it is compared with."""

    def __call__(
        self,
        images: Float[Tensor, "batch channels *shape"],
        points_image: Float[Tensor, "batch points ndim"],
        points_source: Float[Tensor, "batch points ndim"],
        generator: torch.Generator | None = None,
    ) -> Prediction:
        """Logits at points given in the image frame and, for context, in the source frame."""
        ...
