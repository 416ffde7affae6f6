"""The configuration of an experiment, which YAML files, the command line and checkpoints share."""

from __future__ import annotations

import copy
import reprlib
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, model_validator

from swipe_core.checkpoints.file import CheckpointContent
from swipe_core.checkpoints.summary import TrainingSummary
from swipe_core.data.augmentation import AugmentationConfig
from swipe_core.data.dataset import BatchConfig
from swipe_core.data.labels import LabelConfig
from swipe_core.data.preprocessing import PreprocessingConfig
from swipe_core.data.sampling import SamplingConfig
from swipe_core.errors import ConfigError, nearest_name
from swipe_core.files.shipped import read_shipped, shipped_names
from swipe_core.files.strict_yaml import read_fields, read_yaml, validated
from swipe_core.inference.config import InferenceConfig
from swipe_core.networks.catalogue import SWIPE
from swipe_core.networks.registry import KINDS, AnyNetwork, network_name
from swipe_core.networks.swipe.build import SwipeConfig
from swipe_core.training.losses import LossConfig

TAB = r"'\t'"  # as PyYAML shows it
FOLDER = resources.files("swipe_core") / "configs"
NETWORK = "model.network"
SHARED_FIELDS = ("ndim", "channels", "classes")  # of all networks
SHOWN = reprlib.Repr()  # a value may be of any length
SHOWN.maxlevel, SHOWN.maxstring, SHOWN.maxlist, SHOWN.maxtuple = 1, 80, 10, 10


class TrainingConfig(BaseModel):
    """How long and how fast to learn, and how often to look."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    steps: int = Field(30_000, ge=1, description="optimiser steps")
    learning_rate: float = Field(5e-4, gt=0, description="peak learning rate of AdamW")
    pretrained: bool = Field(
        True, description="start a lite0 encoder from weights that were learned on ImageNet"
    )
    pretrained_rate: float = Field(
        0.3, ge=0, le=1, description="share of the learning rate at which such an encoder changes"
    )
    warmup_steps: int = Field(
        200, ge=0, description="steps of linear increase to the peak, a tenth of the run at most"
    )
    final_rate: float = Field(0.0, ge=0, le=1, description="share of the peak that the cosine ends at")
    schedule: Literal["budget", "steps"] = Field(
        "budget",
        description="the cosine ends with the steps, or (budget) with --max-minutes if that comes first",
    )
    weight_decay: float = Field(1e-2, ge=0, description="decoupled weight decay of AdamW")
    clip_norm: float = Field(1.0, gt=0, description="largest gradient norm")
    accumulate: int = Field(
        1,
        ge=1,
        description=(
            "parts that a batch is worked through in, to save memory; the loss stays the whole batch's, "
            "for a second forward pass of each part (about a third more time)"
        ),
    )
    averaging_steps: int = Field(
        0, ge=0, description="steps over which the weights that are judged and kept are averaged; 0: none"
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="auto: bfloat16 on GPUs and CPUs that compute in it, float32 elsewhere"
    )
    frozen_statistics: bool = Field(
        False, description="leave the statistics of batch normalisations as they are: for few images"
    )
    validate_every: int = Field(500, ge=1, description="steps between validations")
    validate_minutes: float = Field(
        0.0, ge=0, description="validate after so many minutes, too, whatever the steps; 0: by steps alone"
    )
    save_minutes: float = Field(1.0, gt=0, description="minutes between saves of last.safetensors")
    log_every: int = Field(10, ge=1, description="steps between log lines")
    tensorboard: bool = Field(False, description="write TensorBoard files into the run folder too")
    seed: int = Field(0, ge=0, description="of the initial weights, the batches and the points")
    case_share: float = Field(
        1.0, gt=0, le=1, description="share of the training cases that is used, drawn by split_seed"
    )
    split_seed: int = Field(0, ge=0, description="of the 60:20:20 split of a folder without train/ and val/")


class ExperimentConfig(BaseModel):
    """Everything a training run is made of.

    Numbers that two sections share are written once: `preprocessing` takes ndim and channels, and
    `model.classes` its number of classes, from `model` and `labels`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    description: str = ""
    model: AnyNetwork = SwipeConfig()
    preprocessing: PreprocessingConfig
    labels: LabelConfig = LabelConfig()
    sampling: SamplingConfig = SamplingConfig()
    augmentation: AugmentationConfig | None = AugmentationConfig()
    batch: BatchConfig = BatchConfig()
    loss: LossConfig = LossConfig()
    training: TrainingConfig = TrainingConfig()
    inference: InferenceConfig = InferenceConfig()

    @model_validator(mode="before")
    @classmethod
    def _share_numbers(cls, values: Any) -> Any:
        if not isinstance(values, Mapping):
            return values
        # What is no section is left as it is, for its own validation to report.
        shared = dict(values)
        model, preprocessing, labels = (_section(values, n) for n in ("model", "preprocessing", "labels"))
        if model is not None:
            names = (labels or {}).get("class_names", ("foreground",))
            if isinstance(names, (list, tuple)) and names:
                model.setdefault("classes", 1 + len(names))
            shared["model"] = model
        if preprocessing is not None:
            for field in ("ndim", "channels"):
                preprocessing.setdefault(field, (model or {}).get(field, _default_of(model, field)))
            shared["preprocessing"] = preprocessing
        return shared

    @model_validator(mode="after")
    def _agree(self) -> ExperimentConfig:
        if self.model.classes != self.labels.classes:
            raise ValueError(
                f"model.classes is {self.model.classes}, but labels.class_names makes {self.labels.classes} "
                "with the background"
            )
        if (self.model.ndim, self.model.channels) != (self.preprocessing.ndim, self.preprocessing.channels):
            raise ValueError("preprocessing.ndim and preprocessing.channels must be those of the model")
        fault = self.model.fault_with_crop(self.preprocessing.crop_size)
        if fault is not None:
            raise ValueError(fault)
        loss = self.loss
        if max(loss.likeness_weight, loss.retention_weight) > 0 and not self.batch.pairs:
            raise ValueError(
                "loss.likeness_weight and loss.retention_weight act on pairs of points without labels: set "
                "batch.pairs above 0, as to 256"
            )
        fault = self._fault_of_supervision()
        if fault is not None:
            raise ValueError(fault)
        # Else the first validation would find out.
        fault = self.inference.unknown_axes(self.model.ndim)
        if fault is not None:
            raise ValueError(fault)
        return self

    def _fault_of_supervision(self) -> str | None:
        """Return why the loss cannot be had with points, or with whole masks; None where it can."""
        masks = self.batch.supervision == "masks"
        if self.loss.kind == "structure" and not masks:
            return (
                "loss.kind structure weighs the voxels of whole masks: set batch.supervision to masks, or "
                "loss.kind to occupancy"
            )
        if self.loss.retention_weight > 0 and masks:
            return (
                "loss.retention_weight measures how far points lie from all labelled ones, too many in whole "
                "masks: set batch.supervision to points, or loss.retention_weight to 0"
            )
        if self.learns_interior and (
            masks or not self.labels.instances or self.labels.ignore_label is not None
        ):
            return (
                "model.interior is learned at points, from labels that number whole single objects: set "
                "labels.instances to true, labels.ignore_label to null and batch.supervision to points, or "
                "model.interior to false"
            )
        return None

    @property
    def learns_interior(self) -> bool:
        """Whether the network learns to tell touching objects apart."""
        return isinstance(self.model, SwipeConfig) and self.model.interior

    def checkpoint_content(self, summary: TrainingSummary | None = None) -> CheckpointContent:
        """Return the content of a checkpoint of this experiment."""
        return CheckpointContent(
            name=self.name,
            model=self.model,
            preprocessing=self.preprocessing,
            labels=self.labels,
            inference=self.inference,
            summary=summary or TrainingSummary(),
        )


def _default_of(model: Any, field: str) -> Any:
    """Return the default of a field of the section `model`; an unknown network is reported elsewhere."""
    kind = KINDS.get(network_name(model), KINDS[SWIPE])
    return kind.config.model_fields[field].default


def _section(values: Mapping[str, Any], name: str) -> dict[str, Any] | None:
    """Return a section's fields, none where it is missing; None where something else stands there."""
    section = values.get(name)
    if section is None:
        return {}
    return dict(section) if isinstance(section, (Mapping, BaseModel)) else None


def config_names() -> list[str]:
    """Return the names of the configurations that come with the package."""
    return shipped_names(FOLDER)


def load_config(
    name_or_path: str | Path,
    overrides: Sequence[tuple[str, str]] = (),
    changes: Mapping[str, Any] | None = None,
) -> ExperimentConfig:
    """Return a shipped configuration by name, or that of a YAML file, with single fields replaced.

    Parameters
    ----------
    overrides
        Pairs such as ``("training.steps", "3000")``; the value is read as YAML.
    changes
        Fields with their values, such as ``{"training.steps": 3000}``; `overrides` come after them.

    Raises
    ------
    ConfigError
        When there is no such configuration, or a field is unknown or has an unusable value.
    """
    source, text = read_shipped(FOLDER, "configuration", name_or_path)
    values = read_fields(text, source, "sections such as 'model:' and 'training:'")
    replaced = [*(changes or {}).items(), *((field, _parsed(field, text)) for field, text in overrides)]
    for field, value in sorted(replaced, key=lambda pair: pair[0] != NETWORK):
        if field == NETWORK:
            values["model"] = _other_network(values.get("model"), value)
        _replace(values, field, copy.deepcopy(value))
    return parse_config(values, source)


def parse_config(values: Mapping[str, Any], source: str = "The configuration") -> ExperimentConfig:
    """Return a validated configuration; the first fault becomes one sentence of a `ConfigError`."""
    network = network_name(values.get("model"))
    if isinstance(values.get("model"), Mapping) and network not in KINDS:
        there = ", ".join(KINDS)
        hint = nearest_name(network, KINDS)
        raise ConfigError(f"{source}: there is no network {network!r}, only {there}.{hint}")
    return validated(ExperimentConfig, dict(values), source, lambda location: _fields_of(location, network))


def dump_config(config: ExperimentConfig) -> str:
    """Return the configuration as YAML that `load_config` reads back, every field spelled out."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, width=100)


def _parsed(field: str, text: str) -> Any:
    """Return the value of an override."""
    try:
        return read_yaml(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"--{field}: {text!r} cannot be read as a value.") from error


def _replace(values: dict[str, Any], field: str, value: Any) -> None:
    *sections, last = field.split(".")
    node = values
    for section in sections:
        inner = node.get(section)
        if inner is None:
            inner = node[section] = {}
        if not isinstance(inner, dict):
            raise ConfigError(f"--{field}: {section} is a value, not a section.")
        node = inner
    node[last] = value


def _other_network(section: Any, name: str) -> Any:
    """Return what another network than the file's keeps of its section: what networks share."""
    if not isinstance(section, dict) or network_name(section) == name:
        return section
    return {field: section[field] for field in SHARED_FIELDS if field in section}


def _fields_of(location: Sequence[str], network: str) -> list[str]:
    model: type[BaseModel] = ExperimentConfig
    for part in location:
        if part == "model":
            model = KINDS[network].config
            continue
        section = ExperimentConfig.model_fields.get(part)
        default = section.get_default(call_default_factory=True) if section is not None else None
        if isinstance(default, BaseModel):
            model = type(default)
        elif part == "preprocessing":
            model = PreprocessingConfig
    return list(model.model_fields)
