"""`Study`: which networks are trained on what, how they are judged, and what the paper found."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationError, model_validator

from swipe_core.errors import ConfigError, field_path, nearest_name
from swipe_core.networks import KINDS, SWIPE
from swipe_core.strict_yaml import fault_of, read_yaml


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Published(_Part):
    """What a paper reports of a row, in its own units; None for what it does not."""

    parameters: float | None = Field(None, description="millions")
    multiply_adds: float | None = Field(None, description="billions, of one image in training")
    dice: float | None = Field(None, description="percent, mean over seeds")
    dice_sd: float | None = Field(None, description="percentage points, over seeds")


class Setting(_Part):
    """One task in which all rows of a study are compared.

    Attributes
    ----------
    config
        A shipped configuration: preprocessing, labels, augmentation, and SwIPE's network there.
    data
        The name of a data set; where it lies is told when the study is run.
    changes
        Fields of the configuration that all rows have in common, such as ``{"training.steps": 600}``. They
        come after the rows' own, so that one budget is everybody's.
    is_published
        Whether the data are those of the paper's numbers, which are then shown beside ours.
    """

    config: str
    data: str
    changes: dict[str, Any] = {}
    is_published: bool = False


class Row(_Part):
    """One network, as it is trained.

    Attributes
    ----------
    network
        Its name. Of another network than SwIPE the configuration's section `model` is replaced by that
        network's defaults; what all networks share stays.
    changes
        Fields that differ from the setting's configuration, such as ``{"training.learning_rate": 0.001}``.
    series, x
        The line of a chart that the row belongs to, and where on it, as in ``charts``.
    """

    name: str
    network: str = SWIPE
    changes: dict[str, Any] = {}
    published: Published = Published()
    series: str | None = None
    x: float | None = None

    @model_validator(mode="after")
    def _is_known(self) -> Row:
        if self.network not in KINDS:
            known = ", ".join(KINDS)
            hint = nearest_name(self.network, KINDS)
            raise ValueError(f"there is no network {self.network!r}, only {known}.{hint}")
        return self


class Condition(_Part):
    """One way in which a trained network is judged.

    Attributes
    ----------
    data
        Another data set than the one trained on.
    output_size
        The prediction is sampled on a lattice of so many voxels, and compared with the reference there.
    input_size
        The network sees images of this size instead of the configured one.
    classes
        Only these are judged; None: all.
    rows
        Names of the only rows that are judged so; None: all.
    published
        Dice in percent that the paper reports, by row.
    """

    name: str = "as trained"
    data: str | None = None
    output_size: tuple[PositiveInt, ...] | None = None
    input_size: tuple[PositiveInt, ...] | None = None
    classes: tuple[str, ...] | None = None
    rows: tuple[str, ...] | None = None
    published: dict[str, float] = {}

    def concerns(self, row: Row) -> bool:
        """Whether a row is judged so."""
        return self.rows is None or row.name in self.rows


class Chart(_Part):
    """Lines of the mean Dice, one for each `Row.series`.

    Attributes
    ----------
    x
        Against `Row.x`, or against the number of parameters.
    """

    name: str
    title: str
    x: Literal["x", "parameters"] = "x"
    x_label: str
    log_x: bool = False


class Study(_Part):
    """A comparison.

    Attributes
    ----------
    source
        Which table of which paper it repeats.
    settings
        The tasks in which it can be run, by name; a run is in one of them.
    seeds
        Each row is trained once with each.
    """

    name: str
    title: str
    source: str = ""
    settings: dict[str, Setting] = Field(min_length=1)
    rows: tuple[Row, ...] = Field(min_length=1)
    conditions: tuple[Condition, ...] = (Condition(),)
    charts: tuple[Chart, ...] = ()
    seeds: tuple[int, ...] = Field((0,), min_length=1)

    @model_validator(mode="after")
    def _names_fit(self) -> Study:
        rows = [row.name for row in self.rows]
        for what, names in (("row", rows), ("condition", [c.name for c in self.conditions])):
            twice = {name for name in names if names.count(name) > 1}
            if twice:
                raise ValueError(f"the {what} {min(twice)!r} stands there twice")
        for condition in self.conditions:
            unknown = {*(condition.rows or ()), *condition.published} - set(rows)
            if unknown:
                raise ValueError(f"condition {condition.name!r} speaks of {min(unknown)!r}, which is no row")
        return self


def study_names() -> list[str]:
    """Names of the studies that come with the package."""
    folder = resources.files("swipe_core") / "studies"
    return sorted(f.name.removesuffix(".yaml") for f in folder.iterdir() if f.name.endswith(".yaml"))


def load_study(name_or_path: str | Path) -> Study:
    """A shipped study by name, or a YAML file.

    Raises
    ------
    ConfigError
        When there is no such study, or a field is unknown or has an unusable value.
    """
    source, text = _read(name_or_path)
    try:
        values = read_yaml(text)
    except yaml.YAMLError as error:
        raise ConfigError(
            f"{source} is not a usable YAML file: {fault_of(error)}; correct it there."
        ) from error
    try:
        return Study.model_validate(values)
    except ValidationError as error:
        fault = error.errors()[0]
        field = ".".join(field_path(fault["loc"])) or "the study"
        raise ConfigError(f"{source}: {field}: {fault['msg'].removeprefix('Value error, ')}.") from error


def _read(name_or_path: str | Path) -> tuple[str, str]:
    path = Path(name_or_path)
    if path.suffix in (".yaml", ".yml"):
        try:
            return str(path), path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path} cannot be read as text ({error}).") from error
    names = study_names()
    if str(name_or_path) not in names:
        raise ConfigError(
            f"There is no shipped study {str(name_or_path)!r}; there are {', '.join(names)}, or give a file "
            f"that ends in .yaml.{nearest_name(str(name_or_path), names)}"
        )
    resource = resources.files("swipe_core") / "studies" / f"{name_or_path}.yaml"
    return str(name_or_path), resource.read_text(encoding="utf-8")
