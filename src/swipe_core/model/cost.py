"""What a network costs: parameters and multiply-adds, counted as the paper's Table 1 does."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from swipe_core.model.swipe import Swipe


def parameter_count(model: nn.Module) -> int:
    """Number of trainable numbers."""
    return sum(p.numel() for p in model.parameters())


def multiply_adds(model: Swipe, shape: Sequence[int], points: int = 1000) -> int:
    """Multiply-adds of one training image: encoder, D^I, and D^P at all points and their overreach.

    Decoding is counted by its definition (`Swipe.decode_plain`), without the economy of products
    that are shared within a patch.
    """
    training = model.training
    model.eval()
    channels = model.backbone.in_channels
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        embeddings = model.encode(torch.zeros(1, channels, *shape))
        where = torch.zeros(1, points, len(shape))
        model.decode_plain(embeddings, where.repeat(1, 1 + model.overreach, 1))
        if model.image_decoder is not None:
            model.decode_image(embeddings, where)
    model.train(training)
    return counter.get_total_flops() // 2
