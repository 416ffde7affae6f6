"""SwIPE: medical image segmentation as a continuous function (Zhang et al., MICCAI 2023).

The names below are the public interface; they are imported when first asked for, so that
``import swipe_core`` itself costs nothing.
"""

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any

_HOMES = {
    "Affine": "coordinates",
    "Grid": "coordinates",
    "Checkpoint": "checkpoints.file",
    "load_checkpoint": "checkpoints.file",
    "save_checkpoint": "checkpoints.file",
    "bundled_checkpoints": "checkpoints.library",
    "checkpoints_in": "checkpoints.library",
    "find_checkpoint": "checkpoints.library",
    "ModelCard": "checkpoints.card",
    "ModelDescription": "checkpoints.header",
    "describe_checkpoint": "checkpoints.header",
    "LabelMap": "images",
    "MedicalImage": "images",
    "read_image": "images",
    "read_label_map": "images",
    "write_label_map": "images",
    "InferenceConfig": "inference.config",
    "OccupancyField": "inference.field",
    "Segmentation": "inference.field",
    "RenderCost": "inference.estimate",
    "ScalarMap": "images.medical_image",
    "iter_deciding_scale": "inference.maps",
    "iter_probability": "inference.maps",
    "iter_uncertainty": "inference.maps",
    "write_scalar_map": "images",
    "Surface": "inference.surface",
    "iter_surfaces": "inference.surface",
    "SwipeConfig": "networks.swipe.build",
    "build_swipe": "networks.swipe.build",
    "build_network": "networks.registry",
    "Predictor": "prediction.predictor",
    "Request": "prediction.request",
    "Result": "prediction.result",
    "iter_result": "prediction.result",
    "SwipeError": "errors",
    "ExperimentConfig": "training.config",
    "load_config": "training.config",
    "Trainer": "training.runner",
    "find_cases": "data.cases",
    "sample_folder": "samples",
}

__all__ = sorted(_HOMES)

try:
    __version__ = version("napari-swipe")
except PackageNotFoundError:  # run from a source tree that is not installed
    __version__ = "0+unknown"


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"swipe_core.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'swipe_core' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
