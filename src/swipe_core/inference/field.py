"""`OccupancyField`: an encoded image as a continuous function of position."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Float, Integer
from torch import Tensor

from swipe_core.blocks import Block, cut_blocks
from swipe_core.coordinates import Grid, image_to_voxel
from swipe_core.errors import ConfigError
from swipe_core.images import LabelMap, Space
from swipe_core.inference.config import InferenceConfig
from swipe_core.inference.decoding import (
    PointFunction,
    attention_of_windows,
    decode_windows,
    in_chunks,
    smoothly,
    stencil,
)
from swipe_core.inference.extraction import Extraction, iter_extract
from swipe_core.inference.regions import Allowed, FoundRegions, iter_confident_regions
from swipe_core.inference.windows import EncodedWindow
from swipe_core.networks.segmenter import Segmenter
from swipe_core.progress import Progress, finish, map_reports

Points = Float[np.ndarray, "points ndim"] | Sequence[Sequence[float]]
Frame = Literal["world", "voxel", "image"]
Method = Literal["mise", "dense"]
METHODS: tuple[Method, ...] = get_args(Method)

# Enough to spread the cost of each call, few enough to be stopped soon; the decoder cuts them further.
CPU_CHUNK_POINTS = 2**14
GPU_CHUNK_POINTS = 2**18
PARTS_OF_BLOCK = 1000  # that progress is counted in


@dataclass(frozen=True, eq=False)
class Segmentation(LabelMap):
    """A sampled field: a label map whose classes have names, and what it cost.

    Attributes
    ----------
    class_names
        Names of the classes 1, 2, ...
    evaluated_points
        At how many points the field was asked.
    """

    class_names: tuple[str, ...] = ()
    evaluated_points: int = 0


@dataclass(frozen=True, eq=False)
class OccupancyField:
    """The classes of an image as a function of position, from one encoding.

    Attributes
    ----------
    model
        Its decoder is evaluated; its encoder is not needed any more.
    windows
        Encoded windows that cover the image; one if the image was encoded whole.
    grid
        The lattice of the encoded image: its voxel frame is the frame ``voxel``.
    image_grid
        The lattice of the image as it was stored: the default to render on.
    unit
        Of the world.
    regions
        Where each class may be decided: what was searched last, which copies of a field share.
    space
        What is known of the world.
    temperature
        By which logits are divided for probabilities; None where it was never fitted. At a threshold of 0.5
        what is decided does not depend on it.
    """

    model: Segmenter
    windows: tuple[EncodedWindow, ...]
    grid: Grid
    image_grid: Grid
    unit: str
    class_names: tuple[str, ...]
    config: InferenceConfig
    regions: FoundRegions = field(default_factory=FoundRegions, repr=False)
    space: Space = Space()
    temperature: float | None = None

    @property
    def ndim(self) -> int:
        return self.grid.ndim

    @property
    def tells_apart(self) -> bool:
        """Whether touching objects are told apart: by what the model learned, or by distance."""
        return self.model.has_interior or self.config.touching == "distance"

    @property
    def device(self) -> torch.device:
        return self.windows[0].encoding.device

    @property
    def chunk_points(self) -> int:
        """Points answered at once: those decoded at once, or fewer where each is a mean of several."""
        decoded = self.config.chunk_points
        if decoded == "auto":
            decoded = CPU_CHUNK_POINTS if self.device.type == "cpu" else GPU_CHUNK_POINTS
        return max(1, decoded // len(stencil(self.ndim, self.config.smoothing)[0]))

    def with_config(self, config: InferenceConfig) -> OccupancyField:
        """The same field, rendered with other settings; nothing is encoded again."""
        return replace(self, config=config)

    def logits(self, points: Points, frame: Frame = "world") -> Float[np.ndarray, "points classes"]:
        """Logits of background and classes at any points; beyond the image the field is extrapolated.

        With `InferenceConfig.smoothing` they are averaged around each point, and beyond the image those
        of its border count.

        Parameters
        ----------
        points : (points, ndim)
            Components in array-axis order.
        frame : {"world", "voxel", "image"}
            What the points refer to: the world of the image's affine, or the voxel or image frame
            of the encoded image (`grid`).
        """
        return self._evaluated(self._logits, points, frame, (self._classes,))

    def probabilities(self, points: Points, frame: Frame = "world") -> Float[np.ndarray, "points classes"]:
        """Class probabilities, the softmax of `logits` over the temperature; each row sums to 1."""
        return torch.from_numpy(self.logits(points, frame)).div(self.temperature or 1).softmax(dim=-1).numpy()

    def scores(self, points: Points, frame: Frame = "world") -> Float[np.ndarray, "points classes"]:
        """Return what decides: the class of a point is that of the greatest score.

        These are the logits, with log(t / (1 - t)) times the temperature added to the background's for a
        threshold t, so that a class stands against the background where their probabilities are in the ratio
        t : (1 - t) or more. Of one class alone that is a probability of at least t; 0.5 adds nothing.

        With `InferenceConfig.confidence` a class stands at least 1 below the background outside of the
        connected regions that reach it somewhere. They are searched once, on the lattice of the encoded
        image, so what is too small for that lattice is left out too.
        """
        return self._evaluated(self._scores, points, frame, (self._classes,))

    def classify(self, points: Points, frame: Frame = "world") -> Integer[np.ndarray, " points"]:
        """The class of the greatest of `scores` at each point; 0 is the background."""
        return self._evaluated(self._labels, points, frame, (), np.uint8)

    def interior(self, points: Points, frame: Frame = "world") -> Float[np.ndarray, " points"]:
        """Return how deep inside its own object each point lies: 0 at its boundary, 1 where it is deepest.

        Raises
        ------
        ConfigError
            When the model did not learn it.
        """
        if not self.model.has_interior:
            raise ConfigError(
                "This model has not learned how deep inside its objects a point lies; choose one that was "
                "trained with model.interior: true."
            )
        return self._evaluated(lambda at: self._outputs(at)[:, -1].sigmoid(), points, frame, ())

    def attention(self, points: Points, frame: Frame = "world") -> Float[np.ndarray, "points 4"]:
        """Return how much the patch of each point drew on the stages F_2 (finest) to F_5; each row sums to 1.

        These are the weights W of the multi-stage embedding attention (Sec. 2.1 of Zhang et al. 2023):
        of the nearest patch, and averaged over windows as the logits are.

        Raises
        ------
        ConfigError
            When the model weighs no stages.
        """
        weights = self.windows[0].encoding.stage_weights
        if weights is None:
            raise ConfigError(
                "This model has no attention to show, since it does not weigh its stages; choose one that "
                "was trained with fusion: attention."
            )
        stages = weights.shape[1]
        return self._evaluated(
            lambda points_voxel: attention_of_windows(self.windows, stages, self.grid.shape, points_voxel),
            points,
            frame,
            (stages,),
        )

    def render(
        self,
        grid: Grid | None = None,
        *,
        factor: float | Sequence[float] | None = None,
        spacing: Sequence[float] | None = None,
        method: Method | None = None,
    ) -> Segmentation:
        """Sample the field to a label map.

        Give at most one of `grid`, `factor` and `spacing`; none gives the stored image's own grid.

        Parameters
        ----------
        grid
            Any lattice in the world: another image's, a refined one, an oblique plane.
        factor
            Times as many voxels as the stored image, along every axis or one number for each.
        spacing
            World units between voxels, in array-axis order.
        method : {"mise", "dense"}
            Refine at boundaries only, or ask at every voxel; default: as configured.
        """
        return finish(self.iter_render(self._target(grid, factor, spacing), method=method))

    def iter_render(
        self, grid: Grid, *, method: Method | None = None
    ) -> Generator[Progress, None, Segmentation]:
        """`render`: yields progress, several times a second, and returns the segmentation."""
        yield from self._iter_regions()
        stride = self.lattice_stride(grid) if (method or self.config.method) == "mise" else 1
        labels = np.zeros(grid.shape, np.uint8)
        blocks = cut_blocks(grid.shape, self.config.block_voxels)
        evaluated = 0
        for number, block in enumerate(blocks):
            work = self.iter_render_block(grid, block, stride)
            part = yield from map_reports(work, _as_progress(number, len(blocks)))
            labels[block.slices] = part.labels
            evaluated += part.evaluated_points
        return Segmentation(
            labels,
            grid.affine,
            self.unit,
            space=self.space,
            class_names=self.class_names,
            evaluated_points=evaluated,
        )

    def iter_render_block(
        self, grid: Grid, block: Block, stride: int | Sequence[int]
    ) -> Generator[float, None, Extraction]:
        """Extract the labels of one block of a grid, as `iter_extract`."""
        to_voxel = self.grid.affine.inverse() @ grid.affine
        offset = np.asarray(block.start, dtype=np.float64)

        def classify(points: np.ndarray) -> np.ndarray:
            return self.classify(to_voxel.apply(points + offset), frame="voxel")

        return iter_extract(classify, block.shape, stride, points_per_call=self.chunk_points)

    def lattice_stride(self, grid: Grid) -> tuple[int, ...]:
        """First MISE steps on a grid: the largest powers of two within `InferenceConfig.coarse_voxels`.

        Along an axis of one voxel there is nothing to skip.
        """
        steps = (self.grid.affine.inverse() @ grid.affine).spacing
        largest = [
            self.config.coarse_voxels / s if n > 1 else 1 for s, n in zip(steps, grid.shape, strict=True)
        ]
        return tuple(2 ** max(0, math.floor(math.log2(within) + 1e-9)) for within in largest)

    def _target(
        self,
        grid: Grid | None,
        factor: float | Sequence[float] | None,
        spacing: Sequence[float] | None,
    ) -> Grid:
        if sum(option is not None for option in (grid, factor, spacing)) > 1:
            raise ValueError("Give one of grid, factor and spacing.")
        if grid is not None:
            return grid
        if factor is not None:
            return self.image_grid.scaled(factor)
        return self.image_grid.respaced(spacing) if spacing is not None else self.image_grid

    @property
    def _classes(self) -> int:
        return 1 + len(self.class_names)

    def _evaluated(
        self,
        function: PointFunction,
        points: Points,
        frame: Frame,
        width: tuple[int, ...],
        dtype: type = np.float32,
    ) -> np.ndarray:
        points_voxel = self._to_voxel(np.asarray(points, dtype=np.float64), frame)
        return in_chunks(function, points_voxel, self.chunk_points, width, dtype)

    def _to_voxel(self, points: np.ndarray, frame: Frame) -> np.ndarray:
        if points.ndim != 2 or points.shape[1] != self.ndim:
            raise ValueError(
                f"Points of a {self.ndim}D field have shape (n, {self.ndim}); got {points.shape}."
            )
        if frame == "world":
            return self.grid.affine.inverse().apply(points)
        return image_to_voxel(points, self.grid.shape) if frame == "image" else points

    def _iter_regions(self) -> Generator[Progress, None, Allowed | None]:
        """The regions in which classes may be decided, searched unless known; None where all are."""
        if not self.config.confidence:
            return None
        known = self.regions.of(self.config.decision)
        if known is not None:
            return known
        work = iter_confident_regions(
            lambda points: in_chunks(self._unfiltered_labels, points, self.chunk_points, (), np.uint8),
            lambda points: self.logits(points, frame="voxel"),
            self.grid.shape,
            confidence=self.config.confidence,
            classes=len(self.class_names),
            stride=self.lattice_stride(self.grid) if self.config.method == "mise" else 1,
            points_per_call=self.chunk_points,
        )
        allowed = yield from map_reports(work, _searching)
        self.regions.keep(self.config.decision, allowed)
        return allowed

    def _labels(self, points_voxel: np.ndarray) -> Tensor:
        return self._scores(points_voxel).argmax(dim=-1).to(torch.uint8)

    def _scores(self, points_voxel: np.ndarray) -> Tensor:
        scores = self._unfiltered_scores(points_voxel)
        regions = finish(self._iter_regions())
        if regions is None:
            return scores
        index = np.clip(np.rint(points_voxel), 0, np.asarray(self.grid.shape) - 1).astype(np.intp)
        allowed = regions[(slice(None), *index.T)]
        inside = torch.from_numpy(allowed.T).to(scores.device)
        background = scores[:, :1]
        kept = torch.where(inside, scores[:, 1:], torch.minimum(scores[:, 1:], background - 1))
        return torch.cat([background, kept], dim=1)

    def _unfiltered_labels(self, points_voxel: np.ndarray) -> Tensor:
        return self._unfiltered_scores(points_voxel).argmax(dim=-1).to(torch.uint8)

    def _unfiltered_scores(self, points_voxel: np.ndarray) -> Tensor:
        logits = self._logits(points_voxel)
        bias = (self.temperature or 1) * math.log(self.config.threshold / (1 - self.config.threshold))
        return logits + logits.new_tensor([bias] + [0.0] * len(self.class_names))

    def _logits(self, points_voxel: np.ndarray) -> Tensor:
        return self._outputs(points_voxel)[:, : self._classes]

    def _outputs(self, points_voxel: np.ndarray) -> Tensor:
        return smoothly(self._decode, points_voxel, self.grid.shape, self.config.smoothing)

    def _decode(self, points_voxel: np.ndarray) -> Tensor:
        return decode_windows(self.model, self.windows, self.grid.shape, points_voxel, self.config.blending)


def _as_progress(number: int, blocks: int) -> Callable[[float], Progress]:
    """The share of one block that is done, as the progress of a whole render."""
    return lambda share: Progress(
        "Rendering", round(PARTS_OF_BLOCK * (number + share)), PARTS_OF_BLOCK * blocks
    )


def _searching(share: float) -> Progress:
    return Progress("Searching regions", round(PARTS_OF_BLOCK * share), PARTS_OF_BLOCK)
