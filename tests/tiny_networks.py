"""Fields of networks of a few thousand parameters: every kind, in every number of dimensions it has."""

from __future__ import annotations

SWIPE = {
    "stem_stride": 2,
    "stem_channels": 4,
    "stem_outputs": 8,
    "blocks": (1, 2, 1, 1),
    "planes": (8, 8, 8, 8),
    "expansion": 1,
    "scale": 2,
    "receptive_field": False,
    "neck_width": 8,
    "embedding_width": 16,
    "cascade_stride": 8,
    "patch_size": 8,
    "patch_hidden": (16, 16),
    "image_hidden": (16, 16),
    "overreach": 2,
}
ENCODER = {"blocks": (1, 2, 1, 1), "planes": (8, 8, 8, 8), "expansion": 2, "scale": 2, "stem_outputs": 8}
PRANET = ENCODER | {"context_width": 4, "reverse_widths": (4, 4, 8)}
UNETR = {"window": (32, 32, 48), "feature_size": 2, "hidden_size": 12, "mlp_dim": 8, "num_heads": 2}
OSSNET = {
    "widths": (4, 6, 8),
    "code_length": 8,
    "patch_widths": (3, 4, 5),
    "decoder_width": 16,
    "decoder_blocks": 2,
}
PIXEL_CLASSIFIER = {"stages": 2, "octaves": 2, "hidden": (12, 8), "dropout": 0.0}
IOSNET = {"widths": (3, 4, 5, 6, 7, 8), "hidden": (16, 12)}

TINY = {
    ("swipe", 2): SWIPE | {"connectivity": 4},
    ("swipe", 3): SWIPE | {"connectivity": 6},
    ("unet", 2): {"widths": (4, 6, 8)},
    ("unet", 3): {"widths": (4, 6, 8)},
    ("res2unet", 2): ENCODER | {"decoder_widths": (4, 6, 8, 8)},
    ("res2unet", 3): ENCODER | {"decoder_widths": (4, 6, 8, 8), "stem_stride": 2},
    ("pranet", 2): PRANET,
    ("unetr", 3): UNETR,
    ("ossnet", 2): OSSNET,
    ("ossnet", 3): OSSNET,
    ("iosnet", 2): IOSNET,
    ("iosnet", 3): IOSNET,
    ("pixel_classifier", 2): PIXEL_CLASSIFIER,
    ("pixel_classifier", 3): PIXEL_CLASSIFIER | {"position": True},
}
