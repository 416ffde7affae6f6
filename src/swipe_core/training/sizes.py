"""How large a network is, and how fast it learns: for every network, preset and dimension.

What is not named here is as the network's configuration has it by default, which is about the size that
Zhang et al. 2023 compare. SwIPE's smaller sizes were chosen by training; those of the others have fewer
channels, in the proportions of their defaults.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

Preset = Literal["quick", "standard", "paper"]
PRESETS: dict[Preset, str] = {
    "quick": "a small network that learns in minutes, on a CPU too",
    "standard": "a network about four times as large, for an hour on a GPU",
    "paper": "the network as large as in Zhang et al. 2023, for a day on a GPU",
}

CROPS: dict[tuple[Preset, int], int] = {
    ("quick", 2): 128,
    ("standard", 2): 192,
    ("paper", 2): 384,
    ("quick", 3): 48,
    ("standard", 3): 64,
    ("paper", 3): 96,
}

Sizes = dict[tuple[Preset, int], dict[str, Any]]


def _in_2d_and_3d(quick: dict[str, Any], standard: dict[str, Any]) -> Sizes:
    """The same in both dimensions."""
    by_preset: dict[Preset, dict[str, Any]] = {"quick": quick, "standard": standard, "paper": {}}
    return {(preset, ndim): size for ndim in (2, 3) for preset, size in by_preset.items()}


# Each was trained for real, but for the larger ones of "standard".
SMALL_SWIPE = {
    "stem_stride": 2,
    "stem_channels": 16,
    "stem_outputs": 32,
    "blocks": [1, 1, 1, 1],
    "neck_width": 32,
    "embedding_width": 128,
    "cascade_stride": 4,
    "patch_size": 4,
    "patch_hidden": [128, 128, 128],
    "image_hidden": [128, 64],
}
LARGER_SWIPE = SMALL_SWIPE | {
    "stem_outputs": 48,
    "blocks": [2, 2, 2, 2],
    "neck_width": 48,
    "embedding_width": 192,
    "patch_hidden": [192, 192, 192],
}
THIN = {"expansion": 1, "connectivity": 6}  # of SwIPE in 3D

SWIPE: Sizes = {
    ("quick", 2): SMALL_SWIPE | {"planes": [24, 32, 48, 64], "fourier_frequencies": 2, "overreach": 4},
    ("standard", 2): LARGER_SWIPE | {"planes": [40, 56, 80, 112], "fourier_frequencies": 2, "overreach": 4},
    ("paper", 2): {},
    ("quick", 3): SMALL_SWIPE | THIN | {"planes": [32, 48, 64, 96], "fourier_frequencies": 3, "overreach": 2},
    ("standard", 3): LARGER_SWIPE
    | THIN
    | {"planes": [48, 64, 96, 128], "fourier_frequencies": 3, "overreach": 4},
    ("paper", 3): THIN
    | {
        "blocks": [3, 4, 6, 3],
        "neck_width": 32,
        "embedding_width": 512,
        "patch_size": 8,
        "cascade_stride": 8,
        "patch_hidden": [256, 256, 256, 256],
        "image_hidden": [256, 256, 128],
    },
}

U_NET: Sizes = {
    ("quick", 2): {"widths": [16, 32, 64, 128]},
    ("standard", 2): {"widths": [32, 64, 128, 256]},
    ("paper", 2): {},
    ("quick", 3): {"widths": [12, 24, 48, 96]},
    ("standard", 3): {"widths": [24, 48, 96, 192]},
    ("paper", 3): {},
}

# The encoder of Res2UNet and PraNet.
SMALL_ENCODER = {
    "blocks": [1, 1, 1, 1],
    "planes": [24, 32, 48, 64],
    "expansion": 2,
    "stem_channels": 16,
    "stem_outputs": 32,
}
LARGER_ENCODER = SMALL_ENCODER | {"blocks": [2, 2, 2, 2], "planes": [40, 64, 96, 128]}

RES2_U_NET = _in_2d_and_3d(
    SMALL_ENCODER | {"decoder_widths": [16, 32, 32, 32]},
    LARGER_ENCODER | {"decoder_widths": [16, 64, 64, 64]},
)

# Its answer has a stride of 8, which is too coarse for small objects: half of that in small networks.
PRA_NET: Sizes = {
    ("quick", 2): SMALL_ENCODER | {"stem_stride": 2, "context_width": 16, "reverse_widths": [16, 16, 32]},
    ("standard", 2): LARGER_ENCODER | {"stem_stride": 2, "context_width": 24, "reverse_widths": [32, 32, 64]},
    ("paper", 2): {},
}

IOS_NET = _in_2d_and_3d(
    {"widths": [16, 24, 40, 64, 96, 128], "hidden": [128, 128, 128]},
    {"widths": [24, 32, 64, 96, 128, 192], "hidden": [192, 192, 192]},
)

OSS_NET = _in_2d_and_3d(
    {
        "widths": [12, 16, 24, 32, 48, 64],
        "code_length": 128,
        "patch_widths": [12, 16, 32],
        "decoder_width": 128,
        "decoder_blocks": 3,
    },
    {
        "widths": [24, 32, 48, 64, 128, 192],
        "code_length": 192,
        "patch_widths": [16, 24, 48],
        "decoder_width": 192,
        "decoder_blocks": 4,
    },
)

UNETR: Sizes = {
    ("quick", 3): {"feature_size": 8, "hidden_size": 192, "mlp_dim": 384, "num_heads": 6},
    ("standard", 3): {"feature_size": 16, "hidden_size": 384, "mlp_dim": 1536, "num_heads": 6},
    ("paper", 3): {},
}

NETWORKS: dict[str, Sizes] = {
    "swipe": SWIPE,
    "unet": U_NET,
    "res2unet": RES2_U_NET,
    "pranet": PRA_NET,
    "iosnet": IOS_NET,
    "ossnet": OSS_NET,
    "unetr": UNETR,
}

QUICK_RATE = 1e-3  # of "quick", whatever the network

# Of the larger ones: Table 1 of the supplement of Zhang et al. 2023, but for SwIPE in 3D (0.00075).
RATES: dict[str, dict[int, float]] = {
    "swipe": {2: 5e-4, 3: 5e-4},
    "unet": {2: 7.5e-4, 3: 6e-4},
    "res2unet": {2: 1e-3, 3: 1e-3},
    "pranet": {2: 1e-3},
    "iosnet": {2: 2e-4, 3: 1e-3},
    "ossnet": {2: 5e-4, 3: 1e-3},
    "unetr": {3: 1e-3},
}

CPU_BATCH = 4  # images a step
GPU_BATCH = {2: 12, 3: 6}
# A network with many channels at the full resolution: as the paper has it.
LARGE_BATCH: dict[tuple[str, Preset, int], int] = {("unet", "paper", 3): 4}


def network_fields(network: str, preset: Preset, ndim: int, crop: Sequence[int]) -> dict[str, Any]:
    """The fields of a section `model` that are about the size.

    Parameters
    ----------
    crop
        The size of what the network learns from, in voxels.
    """
    fields = {"network": network, "ndim": ndim} | NETWORKS[network][preset, ndim]
    return fields | {"window": list(crop)} if network == "unetr" else fields


def learning_rate(network: str, preset: Preset, ndim: int) -> float:
    """The peak learning rate of a training from nothing."""
    return QUICK_RATE if preset == "quick" else RATES[network][ndim]


def gpu_batch(network: str, preset: Preset, ndim: int) -> int:
    """Images a step on a GPU."""
    return LARGE_BATCH.get((network, preset, ndim), GPU_BATCH[ndim])
