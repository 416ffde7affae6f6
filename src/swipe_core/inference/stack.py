"""`StackField`: the fields of one image or of all frames of a stack, and how they are sampled."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from swipe_core.compute.memory import is_out_of_memory
from swipe_core.progress import Notice, Progress, nested_progress

# The plugin knows fields before torch is loaded.
if TYPE_CHECKING:
    from typing import Self

    from swipe_core.coordinates import Grid
    from swipe_core.inference.config import InferenceConfig
    from swipe_core.inference.field import Method, OccupancyField, Segmentation

Sampled = TypeVar("Sampled")
Frame = tuple[int, ...]
"""The index of a frame along the axes of frames; empty where there are none."""

FEWEST_POINTS = 2**12  # at once; where these do not fit, fewer will not either


@dataclass(frozen=True, eq=False)
class StackField:
    """The continuous segmentation of an image, or of each frame of a stack."""

    fields: Mapping[Frame, OccupancyField]
    """By frame, in C order; all on the same lattice."""

    @property
    def first(self) -> OccupancyField:
        return next(iter(self.fields.values()))

    @property
    def image_grid(self) -> Grid:
        """The lattice of one frame."""
        return self.first.image_grid

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.first.class_names

    @property
    def config(self) -> InferenceConfig:
        return self.first.config

    def with_config(self, config: InferenceConfig) -> Self:
        """The same fields under other settings; nothing is encoded again."""
        return replace(self, fields={f: field.with_config(config) for f, field in self.fields.items()})

    def iter_sampled(
        self, sample: Callable[[OccupancyField], Generator[Any, None, Sampled]]
    ) -> Generator[Progress | Notice, None, list[Sampled]]:
        """Sample each frame in turn, as `iter_sampled`; yields progress over all of them."""
        results: list[Sampled] = []
        for number, field in enumerate(self.fields.values()):
            work = iter_sampled(field, sample)
            results.append((yield from nested_progress(work, number, len(self.fields))))
        return results

    def iter_render(
        self, grid: Grid, *, method: Method | None = None
    ) -> Generator[Progress | Notice, None, list[Segmentation]]:
        """Label maps of all frames on one lattice."""
        return (yield from self.iter_sampled(rendering_on(grid, method)))

    def stacked(self, frames: Sequence[np.ndarray]) -> np.ndarray:
        """The arrays of all frames as one, whose first axes are those of the frames."""
        shape = np.add(max(self.fields), 1).tolist()
        return np.stack(frames).reshape(*shape, *frames[0].shape)


def iter_sampled(
    field: OccupancyField, sample: Callable[[OccupancyField], Generator[Any, None, Sampled]]
) -> Generator[Any, None, Sampled]:
    """Sample a field; where the memory of a GPU runs out, anew with fewer points at once.

    Yields what `sample` yields, and a notice where it begins anew.
    """
    while True:
        try:
            return (yield from sample(field))
        except (MemoryError, RuntimeError) as error:
            fewest = field.device.type == "cpu" or field.chunk_points <= FEWEST_POINTS
            if fewest or not is_out_of_memory(error):
                raise
        points = max(FEWEST_POINTS, field.chunk_points // 4)
        yield Notice(
            f"The memory of {field.device} does not hold {field.chunk_points} points at once: beginning anew "
            f"with {points}."
        )
        field = field.with_config(field.config.model_copy(update={"chunk_points": points}))


def rendering_on(
    grid: Grid, method: Method | None = None
) -> Callable[[OccupancyField], Generator[Progress, None, Segmentation]]:
    """A way for `iter_sampled` to sample a field: its labels on a grid."""
    return lambda field: field.iter_render(grid, method=method)
