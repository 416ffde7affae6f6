"""`Study`: which networks are trained on what, how they are judged, and what the paper found."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationError, model_validator

from swipe_core.errors import ConfigError, field_path, nearest_name
from swipe_core.files.shipped import read_shipped, shipped_names
from swipe_core.files.strict_yaml import read_fields
from swipe_core.networks.catalogue import SWIPE
from swipe_core.networks.registry import KINDS

FOLDER = Path(__file__).parent  # of the studies that come with the project


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
    network_changes
        Fields of single networks, by the network's name, such as
        ``{"unetr": {"model.window": [32, 48, 32]}}``: what the setting's images ask of them.
    other_data
        The name of another data set with the same classes, for conditions with `other_data`.
    is_published
        Whether the data are those of the paper's numbers, which are then shown beside ours.
    """

    config: str
    data: str
    changes: dict[str, Any] = {}
    network_changes: dict[str, dict[str, Any]] = {}
    other_data: str | None = None
    is_published: bool = False

    @model_validator(mode="after")
    def _networks_are_known(self) -> Setting:
        for network in self.network_changes:
            _check_network(network)
        return self


class Row(_Part):
    """One network, as it is trained.

    Attributes
    ----------
    network
        Its name. Of another network than SwIPE the configuration's section `model` is replaced by that
        network's defaults; what all networks share stays.
    changes
        Fields that differ from the setting's configuration, such as ``{"training.learning_rate": 0.001}``.
    """

    name: str
    network: str = SWIPE
    changes: dict[str, Any] = {}
    published: Published = Published()

    @model_validator(mode="after")
    def _is_known(self) -> Row:
        _check_network(self.network)
        return self

    def changes_in(self, setting: Setting) -> dict[str, Any]:
        """Fields that differ from the setting's configuration: the row's own, which those that the setting
        has for its network replace, and these those that it has for all rows.
        """
        return {**self.changes, **setting.network_changes.get(self.network, {}), **setting.changes}


def _check_network(name: str) -> None:
    if name not in KINDS:
        known, hint = ", ".join(KINDS), nearest_name(name, KINDS)
        raise ValueError(f"there is no network {name!r}, only {known}" + (f".{hint}" if hint else ""))


class Condition(_Part):
    """One way in which a trained network is judged.

    Attributes
    ----------
    other_data
        On the setting's other data set, all cases of it, since none was trained on.
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
    other_data: bool = False
    output_size: tuple[PositiveInt, ...] | None = None
    input_size: tuple[PositiveInt, ...] | None = None
    classes: tuple[str, ...] | None = None
    rows: tuple[str, ...] | None = None
    published: dict[str, float] = {}

    @property
    def is_plain(self) -> bool:
        """Whether networks are judged as they were trained: on the same data, seen and asked as they lie."""
        return not (self.other_data or self.output_size or self.input_size or self.classes)

    def concerns(self, row: Row) -> bool:
        """Whether a row is judged so."""
        return self.rows is None or row.name in self.rows


class Point(_Part):
    """A row's place in a chart."""

    x: float
    row: str


class Chart(_Part):
    """The mean Dice against something, as lines through rows.

    Attributes
    ----------
    x
        Against what the points of the lines say, or against what each row's network costs; then there
        are no lines, and every row is a point of its own.
    lines
        Their points, by the lines' names; a row may stand in several charts.
    """

    name: str
    title: str
    x: Literal["given", "parameters", "multiply_adds"] = "given"
    x_label: str
    log_x: bool = False
    lines: dict[str, tuple[Point, ...]] = {}

    @model_validator(mode="after")
    def _has_points(self) -> Chart:
        if (self.x == "given") != bool(self.lines):
            raise ValueError("a chart has lines, or x: parameters, or x: multiply_adds")
        return self


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
        parts = {
            "row": rows,
            "condition": [c.name for c in self.conditions],
            "chart": [c.name for c in self.charts],
        }
        for what, names in parts.items():
            twice = {name for name in names if names.count(name) > 1}
            if twice:
                raise ValueError(f"the {what} {min(twice)!r} stands there twice")
        for condition in self.conditions:
            spoken = {*(condition.rows or ()), *condition.published}
            _check_rows(f"condition {condition.name!r}", spoken, rows)
        for chart in self.charts:
            _check_rows(f"chart {chart.name!r}", {p.row for line in chart.lines.values() for p in line}, rows)
        return self

    @model_validator(mode="after")
    def _other_data_are_named(self) -> Study:
        without = [name for name, setting in self.settings.items() if setting.other_data is None]
        asking = [condition.name for condition in self.conditions if condition.other_data]
        if asking and without:
            raise ValueError(
                f"condition {asking[0]!r} needs other data, and setting {without[0]!r} names no other_data"
            )
        return self


def _check_rows(speaker: str, spoken: Iterable[str], rows: Sequence[str]) -> None:
    unknown = set(spoken) - set(rows)
    if unknown:
        raise ValueError(f"{speaker} speaks of {min(unknown)!r}, which is no row")


def study_names() -> list[str]:
    """Names of the studies that come with the project."""
    return shipped_names(FOLDER)


def load_study(name_or_path: str | Path) -> Study:
    """A shipped study by name, or a YAML file.

    Raises
    ------
    ConfigError
        When there is no such study, or a field is unknown or has an unusable value.
    """
    source, text = read_shipped(FOLDER, "study", name_or_path)
    values = read_fields(text, source, "fields such as 'name:' and 'settings:'")
    try:
        return Study.model_validate(values)
    except ValidationError as error:
        fault = error.errors()[0]
        field = ".".join(field_path(fault["loc"])) or "the study"
        reason = fault["msg"].removeprefix("Value error, ")
        raise ConfigError(f"{source}: {field}: {reason}{'' if reason.endswith('?') else '.'}") from error
