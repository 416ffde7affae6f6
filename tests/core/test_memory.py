"""Free memory is asked for in one place, and a lack of it is told from every other fault."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import psutil
import pytest
import torch

from swipe_core.compute.memory import free_memory, is_out_of_memory


def test_free_memory_is_what_the_system_can_still_give(monkeypatch):
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=400, total=900))
    assert free_memory() == 400


def test_where_nobody_can_tell_nothing_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "psutil", None)
    assert free_memory() is None


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("Unable to allocate 8 TiB"),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError("[enforce fail at alloc_cpu.cpp:118] DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("MPS backend out of memory (MPS allocated: 8 GB)"),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("std::bad_alloc"),
    ],
)
def test_a_lack_of_memory_is_recognised(error):
    assert is_out_of_memory(error)


@pytest.mark.parametrize(
    "error",
    [RuntimeError("a fault"), ValueError("out of memory"), OSError("DefaultCPUAllocator"), KeyError()],
)
def test_other_faults_are_not_taken_for_it(error):
    assert not is_out_of_memory(error)


def test_what_torch_really_says_is_recognised():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    assert is_out_of_memory(caught.value)
