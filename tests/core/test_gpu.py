"""On a CUDA device: the same answers as on the CPU, and training that learns."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from swipe_core.data.cases import find_cases
from swipe_core.images import read_image
from swipe_core.networks.swipe.build import SwipeConfig, build_swipe
from swipe_core.prediction.predictor import Predictor
from swipe_core.progress import finish
from swipe_core.samples import sample_folder
from swipe_core.training.config import load_config
from swipe_core.training.runner import Trainer

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("ndim", [2, 3])
def test_a_gpu_decodes_what_the_cpu_decodes(ndim):
    torch.manual_seed(0)
    config = SwipeConfig(ndim=ndim, channels=1, connectivity={2: 8, 3: 26}[ndim], patch_size=16)
    model = build_swipe(config).for_inference()
    images = torch.randn(1, 1, *[64] * ndim)
    points = torch.rand(1, 500, ndim) * 2 - 1
    expected = model.decode(model.encode(images), points)
    model = model.cuda()
    found = model.decode(model.encode(images.cuda()), points.cuda()).cpu()
    assert torch.allclose(found, expected, atol=5e-2, rtol=5e-2)  # convolutions use TF32


def test_training_on_a_gpu_learns_the_sample_in_mixed_precision(tmp_path):
    config = load_config("nuclei", [("training.steps", "150"), ("training.validate_every", "150")])
    sample = sample_folder("nuclei")
    trainer = Trainer(
        config, find_cases(sample, "train"), find_cases(sample, "val"), tmp_path / "run", device="cuda"
    )
    result = finish(trainer.run())
    assert result.best_dice is not None and result.best_dice > 0.7
    image = read_image(sample / "val/images/mixed.png", ndim=2)
    on_gpu = Predictor.load(tmp_path / "run/best.safetensors", device="cuda").field(image).render(factor=2)
    on_cpu = Predictor.load(tmp_path / "run/best.safetensors", device="cpu").field(image).render(factor=2)
    assert np.mean(on_gpu.array == on_cpu.array) > 0.995
