"""`SegmentedLayer`: what segmenting a layer leaves, from which all is shown, measured and written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_swipe.layers.field import LayerField
from napari_swipe.layers.source import LayerSource
from napari_swipe.live.levels import LevelPlan

if TYPE_CHECKING:
    from swipe_core.checkpoints.header import ModelDescription
    from swipe_core.inference.config import InferenceConfig
    from swipe_core.inference.estimate import RenderCost


@dataclass(frozen=True)
class SegmentJob:
    """What to segment, and with what.

    Attributes
    ----------
    settings
        Fields of `InferenceConfig` that are to be other than the model has them.
    """

    source: LayerSource
    model: ModelDescription
    device: str = "auto"
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class SegmentedLayer:
    """A layer's continuous segmentation, and its first picture.

    Attributes
    ----------
    plan, coarse
        The lattices of a live layer, and the classes on the coarsest of them.
    cost
        What rendering takes on this machine, measured at the first picture.
    model_config
        The settings that the model came with.
    """

    job: SegmentJob
    field: LayerField
    plan: LevelPlan
    coarse: np.ndarray
    cost: RenderCost
    model_config: InferenceConfig

    @property
    def config(self) -> InferenceConfig:
        return self.field.config
