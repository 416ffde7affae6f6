"""`SamePlace`: labels that stay over their image wherever it goes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_swipe.annotate.layers import likely_axes
from napari_swipe.layers.field import OutputAxes
from napari_swipe.layers.geometry import layer_matrix
from napari_swipe.layers.source import LayerSource
from napari_swipe.layers.watch import PLACING

if TYPE_CHECKING:
    from napari.layers import Image, Labels


class SamePlace:
    """Keeps labels over their image, when somebody sets the image's spacing or place later.

    Labels that lay elsewhere to begin with stay where they are.
    """

    def __init__(self, image: Image, labels: Labels, ndim: int) -> None:
        self._image, self._labels, self._ndim = image, labels, ndim
        self.is_kept = self._lies_over()
        for name in PLACING:
            getattr(image.events, name).connect(self._follow)

    def let_go(self) -> None:
        for name in PLACING:
            getattr(self._image.events, name).disconnect(self._follow)

    def _output(self) -> OutputAxes:
        return OutputAxes.of(LayerSource.from_layer(self._image, likely_axes(self._image, self._ndim)))

    def _lies_over(self) -> bool:
        expected = self._output().matrix()
        return np.allclose(layer_matrix(self._labels), expected, rtol=1e-5, atol=1e-9)

    def _follow(self) -> None:
        if not self.is_kept:
            return
        labels, place = self._labels, self._output().arguments()
        if len(place["scale"]) != labels.ndim:  # other data, which the pair says does not suit
            return
        labels.translate, labels.rotate = (0.0,) * labels.ndim, np.eye(labels.ndim)
        labels.shear = np.zeros(labels.ndim * (labels.ndim - 1) // 2)
        labels.scale, labels.affine = place["scale"], place["affine"]
        labels.units, labels.axis_labels = place["units"], place["axis_labels"]
