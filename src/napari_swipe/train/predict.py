"""A prediction as labels that can be edited: what a user corrects."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_swipe.layers.data import LayerData
from napari_swipe.layers.field import LayerField
from napari_swipe.layers.source import LayerSource
from swipe_core.data.annotations import AnnotationScheme
from swipe_core.progress import Notice, Progress

if TYPE_CHECKING:
    from napari_swipe.viewer.state import PredictorCache


def iter_prediction(
    source: LayerSource, model: Path, scheme: AnnotationScheme, device: str, cache: PredictorCache
) -> Generator[Progress | Notice, None, LayerData]:
    """Segment a layer with a model, into painted labels on the image's own voxels; yields progress.

    Classes go by their names; those that the scheme does not have become background.

    Raises
    ------
    SwipeError
        When the model cannot be used, or not for this layer.
    """
    yield Progress("Loading the model", 0, 1)
    predictor = cache.load(model, device)
    stack = yield from predictor.iter_stack(source.frames, source.image)
    field = LayerField(stack.fields, source)
    maps = yield from field.iter_render(field.image_grid)
    names = predictor.content.labels.class_names
    known = [scheme.class_names.index(name) + 1 if name in scheme.class_names else 0 for name in names]
    table = np.array([0, *known], np.uint8)
    painted = [scheme.to_painted(table[found.array]) for found in maps]
    return field.stacked(painted), field.axes.arguments(field.image_grid), "labels"
