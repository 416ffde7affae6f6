"""How a trained model is used: choices that change time, memory and smoothness, not the weights."""

from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal, get_args

from annotated_types import Ge, Gt, Lt
from pydantic import BaseModel, ConfigDict, Field, field_validator
from pydantic.fields import FieldInfo


@dataclass(frozen=True)
class DecisionSetting:
    """A field of `InferenceConfig` that people set: the one record of the dock, the command and the cache.

    Whoever adds one writes it into the annotation of the field. It is then an option of ``swipe predict``
    and ``swipe evaluate`` and a control of the Segment dock, and *Copy as command* knows it. Its bounds,
    its default and its help are those of the field.
    """

    title: str
    """Of its control in the dock."""
    decides: bool = False
    """It changes where a class is decided in what is encoded already: it belongs to
    `InferenceConfig.decision`, by which a field keeps what it has searched.
    """
    is_advanced: bool = False
    """The dock shows it under Advanced, and it counts from the next encoding on; the others are sliders that
    change what is seen at once.
    """
    needs_whole_image: bool = False
    """An image that is read block by block is segmented with its default alone."""
    step: float = 0.01
    """Of its slider."""
    highest: float = 1.0
    """Of its slider, where the field has no upper bound."""
    name: str = ""
    field: FieldInfo = Field()
    """`name` and `field`: filled in by `SETTINGS`."""

    @property
    def option(self) -> str:
        """The option of the command, such as ``--mirrored-axes``."""
        return "--" + self.name.replace("_", "-")

    @property
    def description(self) -> str:
        """What it means, without a full stop."""
        return self.field.description or ""

    @property
    def choices(self) -> tuple[str, ...]:
        """The words of which it takes one; none for numbers."""
        return _words_in(self.field.annotation)

    @property
    def takes_axes(self) -> bool:
        """Whether it takes any number of axes of the image."""
        return isinstance(self.field.default, tuple)

    @property
    def bounds(self) -> tuple[float, float]:
        """The lowest and the highest number of its slider, which lie inside the bounds of the field."""
        low, high = 0.0, self.highest
        for bound in self.field.metadata:
            if isinstance(bound, Ge):
                low = float(bound.ge)  # type: ignore[arg-type]
            elif isinstance(bound, Gt):
                low = float(bound.gt) + self.step  # type: ignore[arg-type]
            elif isinstance(bound, Lt):
                high = float(bound.lt) - self.step  # type: ignore[arg-type]
        return low, high


def _words_in(annotation: Any) -> tuple[str, ...]:
    if isinstance(annotation, str):
        return (annotation,)
    return tuple(word for part in get_args(annotation) for word in _words_in(part))


class InferenceConfig(BaseModel):
    """Settings of inference.

    They bound the working memory of encoding and of rendering. What stays besides is the output, one
    byte per voxel, and the embeddings, which grow with the number of windows.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    overlap: Annotated[float, DecisionSetting("Overlap", is_advanced=True)] = Field(
        0.5, ge=0, lt=1, description="share of a window that its neighbour covers too"
    )
    blending: Annotated[
        Literal["nearest", "linear"] | None, DecisionSetting("Blending", decides=True, is_advanced=True)
    ] = Field(None, description="how patches share a point; by default as the model says")
    mirrored_axes: Annotated[
        tuple[Annotated[int, Field(ge=0, le=2)], ...], DecisionSetting("Mirrored axes", is_advanced=True)
    ] = Field((), description="axes along which an image is encoded mirrored too, and averaged")
    threshold: Annotated[float, DecisionSetting("Threshold", decides=True)] = Field(
        0.5,
        gt=0,
        lt=1,
        description="how probable a class must be beside the background; higher finds less, lower finds more",
    )
    confidence: Annotated[float, DecisionSetting("Confidence", decides=True, needs_whole_image=True)] = Field(
        0.0,
        ge=0,
        lt=1,
        description="leave out connected regions that are nowhere as probable as this; 0 keeps all of them",
    )
    smoothing: Annotated[float, DecisionSetting("Smoothing", decides=True, step=0.1, highest=4)] = Field(
        0.0,
        ge=0,
        allow_inf_nan=False,
        description="radius over which probabilities are averaged, in voxels as the model sees them, to calm "
        "ragged outlines; 0: not at all",
    )
    touching: Annotated[
        Literal["learned", "distance"],
        DecisionSetting("Touching objects", is_advanced=True, needs_whole_image=True),
    ] = Field(
        "learned",
        description="how touching objects are told apart: learned: as the model learned it, and not at all "
        "if it did not; distance: at necks, by how far inside their class points lie, with any model",
    )
    seed_threshold: Annotated[float, DecisionSetting("Seeds", is_advanced=True)] = Field(
        0.5,
        gt=0,
        lt=1,
        description="where touching objects are told apart: how deep inside (0 at its boundary, 1 at the "
        "deepest) an object's seed begins; higher tells more apart. By distance: how wide a neck is at most "
        "that parts two objects, as a share of the lesser",
    )
    smallest_object: Annotated[float, DecisionSetting("Smallest object", is_advanced=True)] = Field(
        0.0,
        ge=0,
        lt=1,
        description="where touching objects are told apart: leave out, or join to what they touch, objects "
        "smaller than this share of a typical one of the image; 0 keeps all of them",
    )
    method: Annotated[Literal["mise", "dense"], DecisionSetting("Method", is_advanced=True)] = Field(
        "mise", description="mise: refine at boundaries only; dense: ask at every voxel"
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
        return tuple(getattr(self, name) for name, setting in SETTINGS.items() if setting.decides)


SETTINGS: dict[str, DecisionSetting] = {
    name: replace(setting, name=name, field=field)
    for name, field in InferenceConfig.model_fields.items()
    for setting in field.metadata
    if isinstance(setting, DecisionSetting)
}
"""What people set, by the names of the fields."""
