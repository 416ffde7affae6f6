"""SwIPE: medical image segmentation as a continuous function (Zhang et al., MICCAI 2023).

The names below are the public interface; they are imported when first asked for, so that
``import swipe_core`` itself costs nothing.
"""

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any

_HOMES = {
    "coordinates": ("Affine", "Grid"),
    "checkpoints.file": ("Checkpoint", "load_checkpoint", "save_checkpoint"),
    "checkpoints.library": ("bundled_checkpoints", "checkpoints_in", "find_checkpoint"),
    "checkpoints.card": ("ModelCard",),
    "checkpoints.header": ("ModelDescription", "describe_checkpoint"),
    "images": (
        "LabelMap",
        "MedicalImage",
        "read_image",
        "read_label_map",
        "write_label_map",
        "write_scalar_map",
    ),
    "inference.config": ("InferenceConfig",),
    "inference.field": ("OccupancyField", "Segmentation"),
    "inference.field_file": ("SavedField", "open_field", "save_field"),
    "inference.estimate": ("RenderCost",),
    "images.medical_image": ("ScalarMap",),
    "inference.maps": (
        "iter_band",
        "iter_deciding_scale",
        "iter_half_widths",
        "iter_probability",
        "iter_uncertainty",
    ),
    "inference.surface": ("Surface", "iter_surfaces"),
    "networks.swipe.build": ("SwipeConfig", "build_swipe"),
    "networks.registry": ("build_network",),
    "prediction.predictor": ("Predictor",),
    "prediction.request": ("Request",),
    "prediction.result": ("Result", "iter_result"),
    "errors": ("SwipeError",),
    "training.config": ("ExperimentConfig", "load_config"),
    "training.runner": ("Trainer",),
    "data.cases": ("find_cases",),
    "samples": ("sample_folder",),
}

__all__ = sorted(name for names in _HOMES.values() for name in names)

try:
    __version__ = version("napari-swipe")
except PackageNotFoundError:  # run from a source tree that is not installed
    __version__ = "0+unknown"


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"swipe_core.{home}"), name)
    raise AttributeError(f"module 'swipe_core' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
