"""`PlannedRun`: a row of a study with one seed, and all that decides what comes of it."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from studies.data_sets import cases_by_split, judged_split
from studies.judging import Judging, check_condition, judging_key, readable_key
from studies.study import Row, Setting, Study
from swipe_core.data.cases import Identity, find_cases, identities
from swipe_core.errors import ConfigError, nearest_name
from swipe_core.networks.catalogue import hindrance
from swipe_core.training.config import NETWORK, ExperimentConfig, load_config

SEED = "training.seed"
# Fields that a study decides itself, and what to give in their place.
DECIDED = {NETWORK: "--rows", SEED: "--seeds"}
# Fields that make no difference to the result.
INDIFFERENT: dict[str, Any] = {
    "name": True,
    "description": True,
    "batch": {"workers"},
    "training": {"save_minutes", "log_every", "tensorboard"},
    "inference": {"chunk_points", "window_batch", "block_voxels"},
}

Cases = Mapping[str, Sequence[Identity]]  # of each split


@dataclass(frozen=True)
class PlannedRun:
    """One training, and how the trained network is judged.

    Attributes
    ----------
    data
        The folder of the data set that is trained on.
    split
        The part of it that the network is judged on.
    case_counts
        Of each split of the data set.
    judgings
        In the order of the study's conditions.
    key
        Readable, and the same for runs that must come to the same, in whichever study: it names the run's
        folder.
    """

    row: Row
    seed: int
    config: ExperimentConfig
    data: Path
    split: str
    case_counts: Mapping[str, int]
    judgings: tuple[Judging, ...]
    key: str

    @property
    def is_chosen(self) -> bool:
        """Whether the best of its weights are judged, by cases that are for nothing else; else the last."""
        return _is_chosen(self.split, self.case_counts)

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.row.name}, seed {self.seed}"


def chosen_setting(study: Study, name: str | None) -> str:
    """The name of a setting of a study, its first one by default.

    Raises
    ------
    ConfigError
        When it has none of that name.
    """
    if name is None:
        return next(iter(study.settings))
    if name not in study.settings:
        known = ", ".join(study.settings)
        raise ConfigError(
            f"{study.name} has no setting {name!r}, only {known}.{nearest_name(name, study.settings)}"
        )
    return name


def narrowed(study: Study, rows: Iterable[str] | None = None, seeds: Sequence[int] | None = None) -> Study:
    """A study with some of its rows only, and the conditions that concern them, or with other seeds.

    Raises
    ------
    ConfigError
        When there is no such row.
    """
    known = {row.name: row for row in study.rows}
    for name in rows or ():
        if name not in known:
            raise ConfigError(
                f"{study.name} has no row {name!r}, only {', '.join(map(repr, known))}."
                f"{nearest_name(name, known)}"
            )
    kept = study.rows if rows is None else tuple(row for row in study.rows if row.name in set(rows))
    conditions = tuple(c for c in study.conditions if any(c.concerns(row) for row in kept))
    if not conditions:
        raise ConfigError(
            f"{study.name} judges none of these rows in any way: choose others, or more of them."
        )
    numbers = study.seeds if seeds is None else tuple(dict.fromkeys(seeds))
    return study.model_copy(update={"rows": kept, "conditions": conditions, "seeds": numbers})


def plan_runs(
    study: Study, setting: Setting, data: Mapping[str, Path], overrides: Sequence[tuple[str, str]] = ()
) -> tuple[PlannedRun, ...]:
    """The runs of a study, seed by seed: one that is broken off has compared all rows with the first ones.

    Parameters
    ----------
    data
        The folders of the data sets by name, as `find_data` gives them.
    overrides
        Fields that replace those of the study, as in `load_config`.

    Raises
    ------
    ConfigError
        When a row's configuration cannot be used, or a condition does not suit it.
    DataError
        When a data set has no cases to train on or to be judged on.
    """
    found: dict[int, Cases] = {}
    asked = setting.other_data if any(c.other_data for c in study.conditions) else None
    others = [] if asked is None else identities(find_cases(data[asked]))
    runs = []
    for seed in study.seeds:
        for row in study.rows:
            config = _config_of(row, setting, seed, overrides)
            split_seed = config.training.split_seed
            if split_seed not in found:
                by_split = cases_by_split(data[setting.data], split_seed)
                found[split_seed] = {split: identities(part) for split, part in by_split.items()}
            runs.append(_planned(study, setting, row, config, data, found[split_seed], others))
    return tuple(runs)


def _config_of(
    row: Row, setting: Setting, seed: int, overrides: Sequence[tuple[str, str]]
) -> ExperimentConfig:
    """What a row trains with a seed: its own changes, then the setting's, then those of the call."""
    for field, _ in overrides:
        if field in DECIDED:
            raise ConfigError(f"--{field} is what a study is about: choose with {DECIDED[field]} instead.")
    ndim = load_config(setting.config).model.ndim
    fault = hindrance(row.network, ndim)
    if fault is not None:
        raise ConfigError(f"Row {row.name!r}: {fault}")
    changes = {NETWORK: row.network, **row.changes_in(setting), SEED: seed}
    try:
        return load_config(setting.config, overrides, changes)
    except ConfigError as error:
        raise ConfigError(f"Row {row.name!r}: {error}") from error


def _planned(
    study: Study,
    setting: Setting,
    row: Row,
    config: ExperimentConfig,
    data: Mapping[str, Path],
    cases: Cases,
    others: Sequence[Identity],
) -> PlannedRun:
    split, split_seed = judged_split(cases), config.training.split_seed
    judgings = []
    for condition in study.conditions:
        if not condition.concerns(row):
            continue
        check_condition(condition, config)
        if condition.other_data:
            name, part, judged = setting.other_data or "", None, others
        else:
            name, part, judged = setting.data, split, cases[split]
        key = judging_key(condition, name, part, judged)
        judgings.append(Judging(condition, data[name], part, split_seed, len(judged), key))
    return PlannedRun(
        row=row,
        seed=config.training.seed,
        config=config,
        data=data[setting.data],
        split=split,
        case_counts={name: len(part) for name, part in cases.items()},
        judgings=tuple(judgings),
        key=_key(config, setting.data, cases),
    )


def _is_chosen(split: str, splits: Container[str]) -> bool:
    return split == "test" and "val" in splits


def _key(config: ExperimentConfig, data_name: str, cases: Cases) -> str:
    indifferent = dict(INDIFFERENT)
    if not _is_chosen(judged_split(cases), cases):
        indifferent["training"] = indifferent["training"] | {"validate_every", "validate_minutes"}
    deciding = {
        "config": config.model_dump(mode="json", exclude=indifferent),
        "data": data_name,
        "cases": cases,
    }
    return readable_key((data_name, config.model.network, f"seed{config.training.seed}"), deciding)
