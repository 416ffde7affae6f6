"""A running mean of the weights: what a run judges and keeps, steadier than the weights of any one step."""

from __future__ import annotations

import torch
from torch import nn


@torch.no_grad()
def update_average(average: nn.Module, model: nn.Module, step: int, steps: int) -> None:
    """Take the weights after `step` steps into their exponential moving average.

    Polyak & Juditsky 1992; in this form Tarvainen & Valpola 2017. Normalisation statistics are
    averaged too. Early on the mean covers a tenth of the steps so far, so that a short run does not
    drag its random start along.

    Parameters
    ----------
    average
        A copy of `model`, changed in place.
    steps
        About how many steps the mean covers, at most.
    """
    share = 1 / min(steps, 1 + step / 10)
    values = model.state_dict()
    for name, mean in average.state_dict().items():
        if mean.is_floating_point():
            mean.lerp_(values[name], share)
        else:
            mean.copy_(values[name])
