"""What a network costs: parameters and multiply-adds, counted as the paper's Table 1 does."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from swipe_core.networks.segmenter import Segmenter


def parameter_count(model: nn.Module) -> int:
    """Number of trainable numbers."""
    return sum(p.numel() for p in model.parameters())


def multiply_adds(model: Segmenter, shape: Sequence[int], points: int = 1000) -> int:
    """Multiply-adds of one training image, by `Segmenter.forward_plainly`: for SwIPE encoder, D^I, and D^P at
    all points and their overreach.
    """
    training = model.training
    model.eval()
    device = next(model.parameters()).device
    images = torch.zeros(1, model.channels, *shape, device=device)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model.forward_plainly(images, torch.zeros(1, points, len(shape), device=device))
    model.train(training)
    return counter.get_total_flops() // 2
