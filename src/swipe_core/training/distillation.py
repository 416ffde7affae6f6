"""The model that a run started from, as its teacher: what it knew is not to be forgotten where nobody paints.

Learning without forgetting (Li & Hoiem 2016), with points in place of images, and with the right of
reply: near a labelled point that contradicts it, the teacher is not heard.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from swipe_core.checkpoints.file import CheckpointContent
from swipe_core.data.labels import BACKGROUND
from swipe_core.errors import ConfigError
from swipe_core.networks.config import NetworkConfig
from swipe_core.networks.registry import build_network
from swipe_core.networks.segmenter import Segmenter

EARSHOT = 0.25  # of a crop's edge: as near to a contradicting point the teacher is not heard


class Teacher:
    """A frozen network and the classes that it knows.

    Parameters
    ----------
    model
        Kept as it is, in evaluation mode.
    its_classes, our_classes
        Names of the foreground classes, in order: its own, and those that are learned now.
    """

    def __init__(self, model: Segmenter, its_classes: Sequence[str], our_classes: Sequence[str]) -> None:
        self.model = model.eval().requires_grad_(False)
        self.classes = tuple(its_classes)
        ours = [BACKGROUND, *our_classes]
        # Of what it knows and we do not, it says background.
        self._ours = [ours.index(name) if name in ours else 0 for name in (BACKGROUND, *its_classes)]
        self._count = len(ours)
        self._has_new = not set(our_classes) <= set(its_classes)

    @classmethod
    def restored(
        cls,
        config: NetworkConfig,
        weights: Mapping[str, Tensor],
        its_classes: Sequence[str],
        our_classes: Sequence[str],
    ) -> Teacher:
        """From what a checkpoint holds of it."""
        model = build_network(config.model_copy(update={"classes": 1 + len(its_classes)}))
        model.load_state_dict(dict(weights))
        return cls(model, its_classes, our_classes)

    def to(self, device: torch.device, memory_format: Any) -> Teacher:
        """Itself, on a device."""
        self.model.to(device).to(memory_format=memory_format)  # type: ignore[call-overload]
        return self

    @torch.no_grad()
    def probabilities(
        self,
        images: Float[Tensor, "batch channels *shape"],
        points_image: Float[Tensor, "batch points ndim"],
        points_source: Float[Tensor, "batch points ndim"],
    ) -> Float[Tensor, "batch points classes"]:
        """What it says at points, in our classes."""
        its = self.model(images, points_image, points_source).patch.float().softmax(dim=-1)
        ours = its.new_zeros(*its.shape[:-1], self._count)
        return ours.index_add(-1, torch.tensor(self._ours, device=its.device), its)

    def is_heard(
        self,
        said: Float[Tensor, "batch points classes"],
        points_image: Float[Tensor, "batch points ndim"],
        said_at_labels: Float[Tensor, "batch labelled classes"],
        labelled_image: Float[Tensor, "batch labelled ndim"],
        classes: Int[Tensor, "batch labelled"],
    ) -> Bool[Tensor, "batch points"]:
        """Whether what it says at points counts.

        It does not near labelled points where it is wrong; nor, where there are classes that it does not
        know, does its word that something is background.
        """
        wrong = said_at_labels.argmax(dim=-1) != classes
        distance = torch.cdist(points_image, labelled_image)
        nearest = distance.masked_fill(~wrong[:, None], torch.inf).amin(dim=-1)
        heard = nearest > 2 * EARSHOT  # an image frame is 2 wide
        return heard & (said.argmax(dim=-1) != 0) if self._has_new else heard


def check_can_teach(content: CheckpointContent, network: NetworkConfig) -> None:
    """See that a model is of the same network as the one that it is to teach, but for the classes.

    Raises
    ------
    ConfigError
        When it is not: then it may share most of its weights, but cannot be run by this configuration.
    """
    if not content.model.same_network(network.model_copy(update={"classes": content.model.classes})):
        raise ConfigError(
            f"loss.retention_weight keeps what {content.name} knows, which takes the very same network: take "
            "the sections model and preprocessing of that model, or set the weight to 0."
        )


def retention_sums(
    logits: Float[Tensor, "batch points classes"],
    taught: Float[Tensor, "batch points classes"],
    heard: Bool[Tensor, "batch points"],
) -> Float[Tensor, "2"]:
    """The cross entropy with what the teacher says, summed over the points at which it is heard; their count.

    The loss is the mean, and 0 where there is no such point.
    """
    entropy = -(taught * functional.log_softmax(logits.float(), dim=-1)).sum(dim=-1)
    return torch.stack([(entropy * heard).sum(), heard.sum().to(entropy)])
