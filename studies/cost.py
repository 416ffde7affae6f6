"""What a network costs: parameters and multiply-adds, counted as the paper's Table 1 does."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from swipe_core.networks.segmenter import Segmenter
from swipe_core.networks.swipe.swipe import Swipe


def parameter_count(model: nn.Module) -> int:
    """Return the number of trainable numbers."""
    return sum(p.numel() for p in model.parameters())


def multiply_adds(model: Segmenter, shape: Sequence[int], points: int = 1000) -> int:
    """Count the multiply-adds of one training image.

    Those of SwIPE are its encoder, D^I, and D^P at all points and their overreach, by definition: without
    the economy of products that are shared within a patch.
    """
    training = model.training
    model.eval()
    device = next(model.parameters()).device
    images = torch.zeros(1, model.channels, *shape, device=device)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        _train_plainly(model, images, torch.zeros(1, points, len(shape), device=device))
    model.train(training)
    return counter.get_total_flops() // 2


def _train_plainly(model: Segmenter, images: Tensor, points_image: Tensor) -> None:
    if not isinstance(model, Swipe):
        model(images, points_image, points_image)
        return
    embeddings = model.encode(images)
    model.decode_plain(embeddings, points_image.repeat(1, 1 + model.overreach, 1))
    if model.image_decoder is not None:
        model.decode_image(embeddings, points_image)
