"""Choosing a processor by name."""

from __future__ import annotations

import pytest
import torch

from swipe_core.devices import choose_device
from swipe_core.errors import DeviceError


def test_the_cpu_is_always_there_and_auto_finds_something():
    assert choose_device("cpu") == torch.device("cpu")
    assert isinstance(choose_device("auto"), torch.device)


@pytest.mark.parametrize("name", ["tpu", "cpu:abc", "", "cuda:99"])
def test_a_device_that_is_not_there_is_refused_in_one_sentence(name):
    with pytest.raises(DeviceError) as error:
        choose_device(name)
    assert "\n" not in str(error.value)
