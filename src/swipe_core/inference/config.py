"""How a trained model is used: choices that change time, memory and smoothness, not the weights."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator


class InferenceConfig(BaseModel):
    """Settings of inference.

    They bound the working memory of encoding and of rendering. What stays besides is the output, one
    byte per voxel, and the embeddings, which grow with the number of windows.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    overlap: float = Field(0.5, ge=0, lt=1, description="share of a window that its neighbour covers too")
    blending: Literal["nearest", "linear"] | None = Field(
        None, description="how patches share a point; None: as the model says"
    )
    mirrored_axes: tuple[Annotated[int, Field(ge=0, le=2)], ...] = Field(
        (), description="axes along which an image is encoded mirrored too; the answers are averaged"
    )
    threshold: float = Field(
        0.5,
        gt=0,
        lt=1,
        description="least share of a class in its and the background's probability; higher finds less",
    )
    confidence: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="as threshold, but a connected region must reach it only somewhere; 0: all are kept",
    )
    smoothing: float = Field(
        0.0,
        ge=0,
        allow_inf_nan=False,
        description="radius over which answers are averaged, in voxels of the encoded image; 0: not at all",
    )
    method: Literal["mise", "dense"] = Field(
        "mise", description="refine at boundaries only, or ask everywhere"
    )
    coarse_voxels: float = Field(
        2.0,
        gt=0,
        description="first MISE lattice, in voxels of the encoded image: smaller finds thinner parts",
    )
    chunk_points: Annotated[int, Field(ge=1)] | Literal["auto"] = Field(
        "auto", description="points decoded at once; auto: what fits a CPU's cache, or a GPU's memory"
    )
    window_batch: Annotated[int, Field(ge=1)] | Literal["auto"] = Field(
        "auto", description="windows encoded at once; auto: as many as keep the device busy"
    )
    block_voxels: int = Field(2**22, ge=2**12, description="output voxels extracted at once")

    @field_validator("mirrored_axes")
    @classmethod
    def _each_axis_once(cls, axes: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(sorted(set(axes)))

    def unknown_axes(self, ndim: int) -> str | None:
        """What is wrong with `mirrored_axes` for a model of so many dimensions; None where nothing is."""
        if max(self.mirrored_axes, default=0) < ndim:
            return None
        axes = list(self.mirrored_axes)
        return f"inference.mirrored_axes is {axes}, but a {ndim}D model has the axes 0 to {ndim - 1}"

    @property
    def decision(self) -> tuple[object, ...]:
        """The settings on which it depends where a class is decided."""
        return self.blending, self.threshold, self.confidence, self.smoothing
