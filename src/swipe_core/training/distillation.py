"""Knowledge distillation from the model that a run started from, which would forget what nobody labels, or
from the pixel classifier that learned from the same strokes.

Learning without forgetting (Li & Hoiem 2016), with points in place of images, and a mask: near a labelled
point that the teacher gets wrong, its probabilities do not count.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from swipe_core.checkpoints.file import CheckpointContent
from swipe_core.data.labels import BACKGROUND
from swipe_core.errors import ConfigError
from swipe_core.networks.pixel_classifier import PixelClassifierConfig
from swipe_core.networks.segmenter import Segmenter
from swipe_core.training.config import ExperimentConfig

MASK_RADIUS = 0.25  # of a crop's edge: the teacher does not count this near to a labelled point it gets wrong


class Teacher:
    """A frozen network and the classes that it knows.

    `model`: put into evaluation mode, and never changed.
    `its_classes` and `our_classes`: names of the foreground classes, in order: its own, and those that are
    learned now.
    """

    def __init__(self, model: Segmenter, its_classes: Sequence[str], our_classes: Sequence[str]) -> None:
        self.model = model.eval().requires_grad_(False)
        self.classes = tuple(its_classes)
        ours = [BACKGROUND, *our_classes]
        # A class that it knows and we do not is background.
        self._ours = [ours.index(name) if name in ours else 0 for name in (BACKGROUND, *its_classes)]
        self._count = len(ours)
        self._has_new = not set(our_classes) <= set(its_classes)

    @torch.no_grad()
    def probabilities(
        self,
        images: Float[Tensor, "batch channels *shape"],
        points_image: Float[Tensor, "batch points ndim"],
        points_source: Float[Tensor, "batch points ndim"],
    ) -> Float[Tensor, "batch points classes"]:
        """Return its probabilities at points, of our classes."""
        its = self.model(images, points_image, points_source).patch.float().softmax(dim=-1)
        ours = its.new_zeros(*its.shape[:-1], self._count)
        return ours.index_add(-1, torch.tensor(self._ours, device=its.device), its)

    def mask(
        self,
        probabilities: Float[Tensor, "batch points classes"],
        points_image: Float[Tensor, "batch points ndim"],
        probabilities_at_labels: Float[Tensor, "batch labelled classes"],
        labelled_image: Float[Tensor, "batch labelled ndim"],
        classes: Int[Tensor, "batch labelled"],
    ) -> Bool[Tensor, "batch points"]:
        """Return at which points its probabilities count.

        They do not near labelled points where it is wrong; nor, where there are classes that it does not
        know, where it finds background.
        """
        wrong = probabilities_at_labels.argmax(dim=-1) != classes
        distance = torch.cdist(points_image, labelled_image)
        nearest = distance.masked_fill(~wrong[:, None], torch.inf).amin(dim=-1)
        counts = nearest > 2 * MASK_RADIUS  # an image frame is 2 wide
        return counts & (probabilities.argmax(dim=-1) != 0) if self._has_new else counts


def only_teaches(content: CheckpointContent, config: ExperimentConfig) -> bool:
    """Return whether a model that is started from has no weights to take over, but an answer to strokes."""
    is_answer = isinstance(content.model, PixelClassifierConfig)
    return is_answer and content.model.network != config.model.network and config.loss.retention_weight > 0


def check_can_teach(content: CheckpointContent, config: ExperimentConfig) -> None:
    """Check that a model can be run on the images that a network learns from.

    It is of the same network, but for the classes, or a pixel classifier. Raises `ConfigError` when not,
    or takes images otherwise.
    """
    own, its = config.preprocessing, content.preprocessing
    sizes = ("size", "crop_size")
    if only_teaches(content, config):
        if own.model_dump(exclude=set(sizes)) != its.model_dump(exclude=set(sizes)):
            raise ConfigError(
                f"{content.name} was learned from strokes on images that were taken otherwise: take its "
                "section preprocessing, but for crop_size, or set loss.retention_weight to 0."
            )
    elif not content.model.same_network(config.model.model_copy(update={"classes": content.model.classes})):
        raise ConfigError(
            f"loss.retention_weight keeps what {content.name} knows, which takes the very same network: take "
            "the sections model and preprocessing of that model, or set the weight to 0."
        )
