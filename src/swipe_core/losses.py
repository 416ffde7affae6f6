"""The training loss, Sec. 2.3 of Zhang et al. 2023, over the points of a batch.

Every term is computed in float32, whatever precision the network ran in, and is free of matrix
products, so that autocast leaves it alone.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import torch
from jaxtyping import Float, Int
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from torch.nn import functional

from swipe_core.coordinates import sample_at
from swipe_core.model.segmenter import Prediction


class LossConfig(BaseModel):
    """The weights of the terms; the defaults are the paper's."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    alpha: float = Field(0.5, ge=0, le=1, description="Weight of D^P; D^I has the rest (alpha).")
    beta: float = Field(0.1, ge=0, description="Weight of stochastic patch overreach (beta).")
    embedding_weight: float = Field(
        1e-4, ge=0, description="Weight of the embeddings' squared norm (lambda)."
    )
    likeness_weight: float = Field(
        0.0,
        ge=0,
        description="Weight of the likeness of neighbouring points that look alike: for sparse labels.",
    )
    likeness_contrast: float = Field(
        0.25, gt=0, description="What 'alike' means, in standard deviations of each channel of the image."
    )
    retention_weight: float = Field(
        0.0,
        ge=0,
        description="Weight of what the model that a run started from says where nothing is labelled.",
    )
    cross_entropy_weight: float = Field(
        0.5, ge=0, le=1, description="Cross entropy's part; Dice has the rest."
    )


@dataclass(frozen=True, eq=False)
class LossTerms:
    """The loss of a batch and the terms it is made of, as scalars and before weighting.

    Attributes
    ----------
    total
        The weighted sum, to call `backward` on.
    patch
        Occupancy loss of D^P.
    image, overreach
        Occupancy losses of D^I and of the overreaching points; None where the network has none.
    embedding
        Mean squared norm of the embeddings, or None.
    likeness
        How often neighbours that look alike differ in their class; None without pairs of them.
    retention
        How far the network is from what the model that it started from says; None without one.
    """

    total: Float[Tensor, ""]
    patch: Float[Tensor, ""]
    image: Float[Tensor, ""] | None = None
    overreach: Float[Tensor, ""] | None = None
    embedding: Float[Tensor, ""] | None = None
    likeness: Float[Tensor, ""] | None = None
    retention: Float[Tensor, ""] | None = None

    def as_floats(self) -> dict[str, float]:
        """The terms there are, by name, in one transfer from the device."""
        terms = {field.name: getattr(self, field.name) for field in fields(self)}
        present = {name: term.detach() for name, term in terms.items() if term is not None}
        return dict(zip(present, torch.stack(list(present.values())).tolist(), strict=True))


def cross_entropy_loss(
    logits: Float[Tensor, "*points classes"], classes: Int[Tensor, "*points"]
) -> Float[Tensor, ""]:
    """Mean over the points of -log(probability of the true class): L_ce of Sec. 2.3."""
    return functional.cross_entropy(logits.float().flatten(end_dim=-2), classes.flatten())


def dice_loss(logits: Float[Tensor, "*points classes"], classes: Int[Tensor, "*points"]) -> Float[Tensor, ""]:
    """Soft Dice loss with squared denominator: L_dc of Sec. 2.3, in [0, 1).

    The sums run over all points together, "similar to computing the Dice loss between a flattened
    image and its flattened mask", then the mean over the C foreground classes. Class 0, the background,
    is left out. A class without points still counts, through the smoothing 1: it costs what
    probability is given to it.
    """
    probabilities = logits.float().flatten(end_dim=-2).softmax(dim=-1)
    occupancies = torch.zeros_like(probabilities).scatter_(1, classes.flatten()[:, None], 1.0)
    overlap = (probabilities * occupancies).sum(dim=0)
    size = probabilities.square().sum(dim=0) + occupancies.sum(dim=0)  # an occupancy of 0 or 1 is its square
    return 1 - ((2 * overlap + 1) / (size + 1))[1:].mean()


def occupancy_loss(
    logits: Float[Tensor, "*points classes"],
    classes: Int[Tensor, "*points"],
    cross_entropy_weight: float = 0.5,
) -> Float[Tensor, ""]:
    """L_occ of Sec. 2.3: half cross entropy, half Dice."""
    cross_entropy, dice = cross_entropy_loss(logits, classes), dice_loss(logits, classes)
    return cross_entropy_weight * cross_entropy + (1 - cross_entropy_weight) * dice


def likeness_loss(
    logits: Float[Tensor, "batch pairs two classes"], contrast: Float[Tensor, "batch pairs"]
) -> Float[Tensor, ""]:
    """How probable it is that two neighbours differ in their class, where they look alike; in [0, 1].

    The pairwise part of a dense conditional random field (Kraehenbuehl & Koltun 2011) as a loss (Obukhov
    et al. 2019, "Gated CRF loss"), with points in place of pixels. Where little is labelled it draws the
    boundary to where the image changes; labels are not needed.

    Parameters
    ----------
    contrast
        By how much the image differs between the points of a pair, in units of what counts as alike.
    """
    first, second = logits.float().softmax(dim=-1).unbind(dim=2)
    alike = torch.exp(-0.5 * contrast.float().square())
    return (alike * (1 - (first * second).sum(dim=-1))).mean()


def contrast_of(
    images: Float[Tensor, "batch channels *shape"], pairs_image: Float[Tensor, "batch pairs two ndim"]
) -> Float[Tensor, "batch pairs"]:
    """By how much images differ between two points: root mean square over channels, in their deviations."""
    values = torch.stack(
        [sample_at(i.float(), p, "border") for i, p in zip(images, pairs_image, strict=True)]
    )
    deviation = images.float().flatten(2).std(dim=2).clamp(min=1e-6)
    difference = (values[..., 0] - values[..., 1]) / deviation[..., None]
    return difference.square().mean(dim=1).sqrt()


def swipe_loss(prediction: Prediction, classes: Int[Tensor, "batch points"], config: LossConfig) -> LossTerms:
    """The overall loss of Sec. 2.3.

    L = alpha L_occ(D^P) + (1 - alpha) L_occ(D^I) + beta L_SPO + lambda (|z^P|^2 + |z^I|^2)

    A network without D^I is trained on L_occ of its only output; the other terms fall away where the
    prediction has none of them.

    Parameters
    ----------
    prediction
        Logits at the points.
    classes : (batch, points) int64
        The class at each point, in [0, classes).
    """
    patch = total = occupancy_loss(prediction.patch, classes, config.cross_entropy_weight)
    image = overreach = embedding = None
    if prediction.image is not None:
        image = occupancy_loss(prediction.image, classes, config.cross_entropy_weight)
        total = config.alpha * patch + (1 - config.alpha) * image
    if prediction.overreach is not None:
        # A point keeps its class whichever patch is asked about it.
        neighbour_classes = classes[..., None].expand(prediction.overreach.shape[:-1])
        overreach = occupancy_loss(prediction.overreach, neighbour_classes, config.cross_entropy_weight)
        total = total + config.beta * overreach
    if prediction.embedding_norm is not None:
        embedding = prediction.embedding_norm.float()
        total = total + config.embedding_weight * embedding
    return LossTerms(total, patch, image, overreach, embedding)


def with_likeness(
    terms: LossTerms,
    logits: Float[Tensor, "batch pairs two classes"],
    images: Float[Tensor, "batch channels *shape"],
    pairs_image: Float[Tensor, "batch pairs two ndim"],
    config: LossConfig,
) -> LossTerms:
    """A loss with the likeness of neighbours besides, which needs no labels.

    Parameters
    ----------
    logits
        Of D^P at the points of each pair.
    images, pairs_image
        What the network saw, and where in it the points lie.
    """
    likeness = likeness_loss(logits, contrast_of(images, pairs_image) / config.likeness_contrast)
    return replace(terms, total=terms.total + config.likeness_weight * likeness, likeness=likeness)
