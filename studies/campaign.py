"""All that one call compares: studies, each in one of its settings, in a folder whose runs they share."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from studies.csv_table import csv_text
from studies.data_sets import data_needed, find_data
from studies.pictures import write_pictures
from studies.results import Results, read_results
from studies.runs import PlannedRun, chosen_setting, narrowed, plan_runs
from studies.spread import merged_trials
from studies.study import Study, load_study, study_names
from studies.table import markdown
from studies.trial import Trial
from swipe_core.errors import ConfigError, nearest_name
from swipe_core.files.atomic import write_text
from swipe_core.progress import Notice, Progress

Messages = Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class Choice:
    """What is wanted of studies.

    Attributes
    ----------
    setting
        None: the first one of each study.
    rows, seeds
        None: all of the study's.
    overrides
        Fields that replace those of all configurations, as in `load_config`.
    """

    setting: str | None = None
    rows: tuple[str, ...] | None = None
    seeds: tuple[int, ...] | None = None
    overrides: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class PlannedStudy:
    """A study in one of its settings, with all its runs."""

    study: Study
    setting_name: str
    runs: tuple[PlannedRun, ...]


@dataclass(frozen=True)
class Campaign:
    """Planned studies, and where their runs, tables and pictures go.

    Attributes
    ----------
    device
        As `choose_device` takes it.
    """

    studies: tuple[PlannedStudy, ...]
    output: Path
    device: str

    @property
    def runs(self) -> list[PlannedRun]:
        """Of all studies; several may share one."""
        return [run for planned in self.studies for run in planned.runs]

    @property
    def trials(self) -> list[Trial]:
        """What is left to be done."""
        return merged_trials(self.runs, self.output, self.device)

    def iter_write(
        self, messages: Messages, command: str = "", *, with_pictures: bool = True
    ) -> Generator[Progress | Notice, None, list[Path]]:
        """Write tables and pictures of what there is; yields progress, and returns the Markdown files.

        Parameters
        ----------
        messages
            Why runs failed, by their keys.
        command
            That makes them, for their readers.
        with_pictures
            These may take minutes: networks segment cases for them.

        Raises
        ------
        SwipeError
            When something cannot be read or written.
        """
        written = []
        for planned in self.studies:
            results = read_results(
                planned.study, planned.setting_name, planned.runs, self.output, messages=messages
            )
            folder = self.output / results.folder_name
            write_text(folder / "table.csv", csv_text(results))
            write_text(folder / "table.md", markdown(results, command))
            written.append(folder / "table.md")
            if with_pictures:
                yield from self._iter_draw(results, folder, command)
        return written

    def _iter_draw(
        self, results: Results, folder: Path, command: str
    ) -> Generator[Progress | Notice, None, None]:
        """Draw the pictures, and show them in the table."""
        pictures = yield from write_pictures(
            results.study,
            results.finished,
            folder,
            is_published=results.setting.is_published,
            device=self.device,
        )
        write_text(folder / "table.md", markdown(results, command, [path.name for path in pictures]))


def plan_campaign(
    studies: Sequence[Study],
    choice: Choice,
    given: Mapping[str, Path],
    root: Path | None,
    output: Path,
    device: str,
) -> Campaign:
    """Plan what was chosen of studies, before anything is trained.

    Parameters
    ----------
    given, root
        Where data sets lie, as in `find_data`.

    Raises
    ------
    SwipeError
        When something that was asked for is not there, or cannot be used.
    """
    chosen = [narrowed(study, choice.rows, choice.seeds) for study in studies]
    settings = [chosen_setting(study, choice.setting) for study in chosen]
    needed = [data_needed(s, s.settings[name]) for s, name in zip(chosen, settings, strict=True)]
    data = find_data((name for names in needed for name in names), given, root)
    planned = [
        PlannedStudy(study, name, plan_runs(study, study.settings[name], data, choice.overrides))
        for study, name in zip(chosen, settings, strict=True)
    ]
    return Campaign(tuple(planned), output, device)


def chosen_studies(names: Sequence[str]) -> list[Study]:
    """Studies by their names, by the beginning of these, which may be that of several, or as files.

    Raises
    ------
    ConfigError
        When there is no such study, or one of that name was given before.
    """
    shipped = study_names()
    found: dict[str, Study] = {}
    for name in names:
        is_file = name.endswith((".yaml", ".yml"))
        matching = (
            [name] if is_file or name in shipped else [each for each in shipped if each.startswith(name)]
        )
        if not matching:
            raise ConfigError(
                f"There is no study {name!r}; there are {', '.join(shipped)}, or give a file that ends in "
                f".yaml.{nearest_name(name, shipped)}"
            )
        for study in map(load_study, matching):
            if study.name in found and found[study.name] != study:
                raise ConfigError(f"Two different studies are called {study.name!r}: rename one of them.")
            found[study.name] = study
    return list(found.values())


def studies_table() -> list[tuple[str, ...]]:
    """The shipped studies, their settings and the data that these need, below their heads."""
    rows: list[tuple[str, ...]] = [("study", "setting", "configuration", "data", "networks", "what")]
    for study in map(load_study, study_names()):
        for name, setting in study.settings.items():
            data = ", ".join(data_needed(study, setting))
            published = " (the paper's data)" if setting.is_published else ""
            rows.append(
                (study.name, name, setting.config, data + published, str(len(study.rows)), study.title)
            )
    return rows
