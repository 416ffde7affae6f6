"""Choosing a processor by name."""

from __future__ import annotations

import psutil
import pytest
import torch

from swipe_core.compute.devices import choose_device, one_core_left
from swipe_core.errors import DeviceError


def test_the_cpu_is_always_there_and_auto_finds_something():
    assert choose_device("cpu") == torch.device("cpu")
    assert isinstance(choose_device("auto"), torch.device)


@pytest.mark.parametrize("name", ["tpu", "cpu:abc", "", "cuda:99"])
def test_a_device_that_is_not_there_is_refused_in_one_sentence(name):
    with pytest.raises(DeviceError) as error:
        choose_device(name)
    assert "\n" not in str(error.value)


def test_one_core_is_left_to_the_window_and_given_back_whatever_happens():
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(4)
        with pytest.raises(KeyError), one_core_left():
            assert torch.get_num_threads() == max(1, min(4, psutil.cpu_count() - 1))
            raise KeyError
        assert torch.get_num_threads() == 4
    finally:
        torch.set_num_threads(before)
