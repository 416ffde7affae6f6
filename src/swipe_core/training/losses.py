"""The training loss, Sec. 2.3 of Zhang et al. 2023, over the points of a batch.

It is a function of a few sums over the batch (`LossSums`). Those of parts of a batch, or of the rows that
several processes have, add up to those of the batch: however a batch is split, the loss is the same.

Where the points are whole masks, those of a negative class count in no term.
Every term is computed in float32, whatever precision the network ran in, and is free of matrix
products, so that autocast leaves it alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from torch.nn import functional

from swipe_core.coordinates import sample_at
from swipe_core.networks.segmenter import Prediction
from swipe_core.training.structure_loss import structure_loss


class LossConfig(BaseModel):
    """The loss of an output, and the weights of the terms; the defaults are the paper's."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["occupancy", "structure"] = Field(
        "occupancy",
        description=(
            "What an answer costs: cross entropy and Dice (occupancy), or cross entropy and overlap weighted "
            "towards boundaries (structure: PraNet's, for whole masks)."
        ),
    )
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
    interior_weight: float = Field(
        1.0,
        ge=0,
        description="Weight of how deep inside their objects points lie, where model.interior is set.",
    )
    cross_entropy_weight: float = Field(
        0.5, ge=0, le=1, description="Cross entropy's part of the occupancy loss; Dice has the rest."
    )


@dataclass(frozen=True, eq=False)
class LossTerms:
    """The loss of a batch and the terms it is made of, as scalars and before weighting."""

    total: Float[Tensor, ""]
    """The weighted sum, to call `backward` on."""
    patch: Float[Tensor, ""]
    """Occupancy loss of D^P, or of the only output."""
    image: Float[Tensor, ""] | None = None
    overreach: Float[Tensor, ""] | None = None
    """`image` and `overreach`: occupancy losses of D^I and of the overreaching points; None where the network
    has none.
    """
    sides: Float[Tensor, ""] | None = None
    """The sum of the occupancy losses of the side outputs; None where the network has none."""
    embedding: Float[Tensor, ""] | None = None
    """Mean squared norm of the embeddings, or None."""
    likeness: Float[Tensor, ""] | None = None
    """The pairwise loss, `pairwise_loss`; None without points that have no labels."""
    retention: Float[Tensor, ""] | None = None
    """The distillation loss, `distillation_sums`; None without a model that training started from."""
    interior: Float[Tensor, ""] | None = None
    """The cross entropy of `interior_sums`; None in a network that does not learn it."""

    def as_floats(self) -> dict[str, float]:
        """Return the terms there are, by name, in one transfer from the device."""
        terms = {field.name: getattr(self, field.name) for field in fields(self)}
        present = {name: term.detach() for name, term in terms.items() if term is not None}
        return dict(zip(present, torch.stack(list(present.values())).tolist(), strict=True))


@dataclass(frozen=True, eq=False)
class LossSums:
    """What each term of the loss is computed from: sums over points or images of (a part of) a batch."""

    patch: Float[Tensor, " sums"]
    image: Float[Tensor, " sums"] | None = None
    overreach: Float[Tensor, " sums"] | None = None
    sides: Float[Tensor, "outputs sums"] | None = None
    """`patch`, `image`, `overreach` and `sides`: As `occupancy_sums` has them, or a mean as the others are; a
    row for each side output.
    """
    embedding: Float[Tensor, "2"] | None = None
    likeness: Float[Tensor, "2"] | None = None
    retention: Float[Tensor, "2"] | None = None
    interior: Float[Tensor, "2"] | None = None
    """`embedding`, `likeness`, `retention` and `interior`, (2,): the sum of what the term is the mean of, and
    the count.
    """

    def present(self) -> dict[str, Tensor]:
        """Return those there are, by name."""
        terms = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: sums for name, sums in terms.items() if sums is not None}

    def flat(self) -> Float[Tensor, " numbers"]:
        """Return all of them in a row, to be added to those of other parts of the batch."""
        return torch.cat([sums.flatten() for sums in self.present().values()])

    def as_part_of(self, whole: Float[Tensor, " numbers"]) -> LossSums:
        """Return the sums of a whole batch, which depend on the logits of this part alone.

        The gradient of a loss of them is that of the batch's loss with respect to this part's logits.

        `whole`: the sum of `flat` over all parts, this one among them.
        """
        present = self.present()
        parts = whole.detach().split([sums.numel() for sums in present.values()])
        united: dict[str, Tensor] = {
            name: part.view_as(own) + (own - own.detach())
            for (name, own), part in zip(present.items(), parts, strict=True)
        }
        return replace(self, **united)


@dataclass(frozen=True, eq=False)
class Unlabelled:
    """What is known at points without labels, which come in pairs of neighbours."""

    contrast: Float[Tensor, "batch pairs"]
    """By how much the image differs between the points of a pair, as `contrast_of` has it."""
    teacher_probabilities: Float[Tensor, "batch points classes"] | None = None
    mask: Bool[Tensor, "batch points"] | None = None
    """`teacher_probabilities` and `mask`: what the model that training started from says at each point, and
    where that counts; None without such a model.
    """


def occupancy_sums(
    logits: Float[Tensor, "*points classes"], classes: Int[Tensor, "*points"], all_valid: bool = True
) -> Float[Tensor, " sums"]:
    """Return what `occupancy_loss` is computed from: sums over the points.

    These are -log(probability of the true class), the number of points, and for each foreground class
    probability times occupancy, and the squares of both.

    `all_valid`: without it points of a negative class are left out.
    """
    logits, classes = logits.float().flatten(end_dim=-2), classes.flatten()
    # Not with `ignore_index`: a GPU sums it in a single block.
    cross_entropy = functional.cross_entropy(logits, classes.clamp(min=0), reduction="none")
    probabilities, occupied = logits.softmax(dim=-1), classes[:, None]
    if all_valid:
        count = logits.new_tensor(len(classes))
        occupancies = torch.zeros_like(probabilities).scatter_(1, occupied, 1.0)
    else:
        valid = (occupied >= 0).to(probabilities)
        cross_entropy, probabilities = cross_entropy * valid[:, 0], probabilities * valid
        count = valid.sum()
        occupancies = torch.zeros_like(probabilities).scatter_(1, occupied.clamp(min=0), valid)
    overlap = (probabilities * occupancies).sum(dim=0)
    squares = probabilities.square().sum(dim=0) + occupancies.sum(dim=0)  # a 0 or 1 is its square
    return torch.cat([torch.stack([cross_entropy.sum(), count]), overlap[1:], squares[1:]])


def occupancy_loss(sums: Float[Tensor, " sums"], cross_entropy_weight: float = 0.5) -> Float[Tensor, ""]:
    """Return L_occ of Sec. 2.3: half cross entropy (L_ce), half soft Dice with squared denominator (L_dc).

    The sums of Dice run over all points together, "similar to computing the Dice loss between a flattened
    image and its flattened mask", then the mean over the C foreground classes. Class 0, the background,
    is left out. A class without points still counts, through the smoothing 1: it costs what
    probability is given to it. Without any point the loss is 0.
    """
    overlap, squares = sums[2:].chunk(2)
    dice = 1 - ((2 * overlap + 1) / (squares + 1)).mean()
    return cross_entropy_weight * mean_of(sums[:2]) + (1 - cross_entropy_weight) * dice


def mean_of(sums: Float[Tensor, "2"]) -> Float[Tensor, ""]:
    """Return the mean that a sum and its count make; that of nothing is 0."""
    return sums[0] / sums[1].clamp(min=1)


def mean_sums(mean: Float[Tensor, ""], count: int) -> Float[Tensor, "2"]:
    """Return the sum and the count that a mean was made of."""
    return torch.stack([mean.float() * count, mean.new_tensor(count, dtype=torch.float32)])


def pairwise_loss(
    logits: Float[Tensor, "batch pairs two classes"], contrast: Float[Tensor, "batch pairs"]
) -> Float[Tensor, ""]:
    """Return how probable it is that two neighbours differ in class, where they look alike; in [0, 1].

    The pairwise term of a dense conditional random field (Kraehenbuehl & Koltun 2011) as a loss (Obukhov
    et al. 2019, "Gated CRF loss"), with points in place of pixels. Where little is labelled it draws the
    boundary to where the image changes; labels are not needed.

    `contrast`: by how much the image differs between the points of a pair, in units of what counts as alike.
    """
    first, second = logits.float().softmax(dim=-1).unbind(dim=2)
    alike = torch.exp(-0.5 * contrast.float().square())
    return (alike * (1 - (first * second).sum(dim=-1))).mean()


def contrast_of(
    images: Float[Tensor, "batch channels *shape"], pairs_image: Float[Tensor, "batch pairs two ndim"]
) -> Float[Tensor, "batch pairs"]:
    """Return the contrast of pairs: the root mean square over channels, in standard deviations of each."""
    values = torch.stack(
        [sample_at(i.float(), p, "border") for i, p in zip(images, pairs_image, strict=True)]
    )
    deviation = images.float().flatten(2).std(dim=2).clamp(min=1e-6)
    difference = (values[..., 0] - values[..., 1]) / deviation[..., None]
    return difference.square().mean(dim=1).sqrt()


def distillation_sums(
    logits: Float[Tensor, "batch points classes"],
    teacher_probabilities: Float[Tensor, "batch points classes"],
    mask: Bool[Tensor, "batch points"],
) -> Float[Tensor, "2"]:
    """Return the cross entropy with a teacher's probabilities, summed over the points of a mask; their count.

    The loss is the mean, and 0 where there is no such point.
    """
    entropy = -(teacher_probabilities * functional.log_softmax(logits.float(), dim=-1)).sum(dim=-1)
    return torch.stack([(entropy * mask).sum(), mask.sum().to(entropy)])


def interior_sums(
    logits: Float[Tensor, "batch points answers"], interior: Float[Tensor, "batch points"]
) -> Float[Tensor, "2"]:
    """Return the cross entropy with how deep points lie inside their objects, summed, and its count.

    Each patch that is asked gives an answer to every point, and all count alike.
    """
    expected = interior[..., None].expand_as(logits)
    entropy = functional.binary_cross_entropy_with_logits(logits.float(), expected, reduction="sum")
    return torch.stack([entropy, entropy.new_tensor(logits.numel())])


def swipe_loss(
    prediction: Prediction,
    classes: Int[Tensor, "batch points"],
    config: LossConfig,
    lattice: Sequence[int] | None = None,
    unlabelled: Unlabelled | None = None,
    interior: Float[Tensor, "batch points"] | None = None,
) -> LossTerms:
    """Return the loss of a batch that is not split; see `loss_sums` and `loss_terms`."""
    return loss_terms(loss_sums(prediction, classes, config, lattice, unlabelled, interior), config)


def loss_sums(
    prediction: Prediction,
    classes: Int[Tensor, "batch labelled"],
    config: LossConfig,
    lattice: Sequence[int] | None = None,
    unlabelled: Unlabelled | None = None,
    interior: Float[Tensor, "batch labelled"] | None = None,
) -> LossSums:
    """Return what `loss_terms` is computed from, of a batch or a part of it.

    `prediction`: logits at the labelled points, and after them at those of `unlabelled`, pair by pair.
    `classes` (batch, labelled) int64: the class at each labelled point, in [0, classes).
    `lattice`: the shape of the whole masks that the labelled points are in C order; their classes may be
    negative where nothing is known. None: points anywhere, all of a known class.
    `unlabelled`: for the terms that need no labels, which act on D^P; None leaves them out.
    `interior`: how deep inside its own object each labelled point lies, for a network that learns it.
    """
    images, count = classes.shape
    labelled = prediction.part(0, count)
    terms = {"patch": _cost_sums(labelled.patch, classes, config, lattice)}
    if labelled.image is not None:
        terms["image"] = _cost_sums(labelled.image, classes, config, lattice)
    if labelled.overreach is not None:
        # A point keeps its class whichever patch predicts it.
        neighbour_classes = classes[..., None].expand(labelled.overreach.shape[:-1])
        terms["overreach"] = _cost_sums(labelled.overreach, neighbour_classes, config, lattice)
    if labelled.sides:
        terms["sides"] = torch.stack([_cost_sums(side, classes, config, lattice) for side in labelled.sides])
    if labelled.embedding_norm is not None:
        terms["embedding"] = mean_sums(labelled.embedding_norm, images)
    if labelled.interior is not None and interior is not None:
        terms["interior"] = interior_sums(labelled.interior, interior)
    if unlabelled is not None:
        logits = prediction.part(count).patch
        likeness = pairwise_loss(logits.unflatten(1, (-1, 2)), unlabelled.contrast / config.likeness_contrast)
        terms["likeness"] = mean_sums(likeness, images)
        if unlabelled.teacher_probabilities is not None and unlabelled.mask is not None:
            terms["retention"] = distillation_sums(logits, unlabelled.teacher_probabilities, unlabelled.mask)
    return LossSums(**terms)


def loss_terms(sums: LossSums, config: LossConfig) -> LossTerms:
    """Return the overall loss of Sec. 2.3, and its terms.

    L = alpha L_occ(D^P) + (1 - alpha) L_occ(D^I) + beta L_SPO + lambda (|z^P|^2 + |z^I|^2)

    A network without D^I is trained on L_occ of its only output; the other terms fall away where the
    prediction has none of them. Side outputs each add their L_occ, with weight 1 as in PraNet.
    `LossConfig.kind` says whether `structure_loss` takes the place of L_occ. At points without labels a
    pairwise loss (likeness) and knowledge distillation (retention) add their means, each with its weight, and
    so does the interior, where the network learns it.
    """
    terms: dict[str, Tensor] = {}
    for name, own in sums.present().items():
        if name in ("patch", "image", "overreach"):
            terms[name] = _cost(own, config)
        elif name == "sides":
            terms[name] = torch.stack([_cost(side, config) for side in own]).sum()
        else:
            terms[name] = mean_of(own)
    total = terms["patch"]
    if "image" in terms:
        total = config.alpha * total + (1 - config.alpha) * terms["image"]
    weights = {
        "overreach": config.beta,
        "sides": 1.0,
        "embedding": config.embedding_weight,
        "likeness": config.likeness_weight,
        "retention": config.retention_weight,
        "interior": config.interior_weight,
    }
    for name, weight in weights.items():
        if name in terms:
            total = total + weight * terms[name]
    return LossTerms(total, **terms)


def _cost_sums(
    logits: Float[Tensor, "batch points *neighbours classes"],
    classes: Int[Tensor, "batch points *neighbours"],
    config: LossConfig,
    lattice: Sequence[int] | None,
) -> Float[Tensor, " sums"]:
    """Return what an output costs, as sums: of L_occ, or of what the configuration puts in its place."""
    if config.kind == "occupancy":
        return occupancy_sums(logits, classes, all_valid=lattice is None)
    assert lattice is not None  # which a configuration of this kind sees to
    if logits.ndim > 3:  # each neighbour's logits are a mask of their own
        logits, classes = (tensor.transpose(1, 2).flatten(0, 1) for tensor in (logits, classes))
    loss = structure_loss(logits.unflatten(1, lattice), classes.unflatten(1, lattice))
    return mean_sums(loss, len(logits))


def _cost(sums: Float[Tensor, " sums"], config: LossConfig) -> Float[Tensor, ""]:
    if config.kind == "occupancy":
        return occupancy_loss(sums, config.cross_entropy_weight)
    return mean_of(sums)
