"""A trained network under a condition: which cases, seen how, and compared where."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from studies.study import Condition
from swipe_core.checkpoints.file import Checkpoint
from swipe_core.data.cases import Case, Identity, find_cases
from swipe_core.errors import ConfigError
from swipe_core.evaluation.evaluate import evaluate, labels_of
from swipe_core.evaluation.report import EvaluationReport, Origin, write_report
from swipe_core.prediction.predictor import Predictor
from swipe_core.progress import Notice, Progress, map_reports
from swipe_core.training.config import ExperimentConfig

TOLERANCE = 1.0  # of the surface Dice, in the unit of each image's world


@dataclass(frozen=True)
class Judging:
    """A condition, and the cases that a network is judged on under it.

    Attributes
    ----------
    data
        The folder of their data set.
    split
        The part of it; None: all cases.
    split_seed
        Which 60:20:20 split a folder without split folders gets.
    count
        Number of the cases.
    key
        Names the file of the scores. It is the same for the same way of judging, whatever a study calls it.
    """

    condition: Condition
    data: Path
    split: str | None
    split_seed: int
    count: int
    key: str

    def find_cases(self) -> list[Case]:
        """The cases that are judged.

        Raises
        ------
        DataError
            As `swipe_core.data.cases.find_cases`.
        """
        return find_cases(self.data, self.split, self.split_seed)


def check_condition(condition: Condition, config: ExperimentConfig) -> None:
    """See that a network of a configuration can be judged under a condition.

    Raises
    ------
    ConfigError
        When it knows no such class, or a size has more or fewer numbers than the images have axes.
    """
    try:
        labels_of(condition.classes, config.labels)
    except ConfigError as error:
        raise ConfigError(f"Condition {condition.name!r}: {error}") from error
    for name in ("input_size", "output_size"):
        size = getattr(condition, name)
        if size is not None and len(size) != config.model.ndim:
            raise ConfigError(
                f"Condition {condition.name!r}: {name} needs {config.model.ndim} numbers, one for each axis; "
                f"got {list(size)}."
            )


def iter_judge(
    checkpoint: Checkpoint, judging: Judging, path: Path, device: str
) -> Generator[Progress | Notice, None, EvaluationReport]:
    """Judge a trained network and write its scores, whole or not at all; yields progress.

    Raises
    ------
    SwipeError
        As `evaluate`, and when the file cannot be written.
    """
    condition = judging.condition
    predictor = Predictor.load(_seeing(checkpoint, condition.input_size), device=device)
    stage = f"Judging {condition.name}"
    work = evaluate(
        predictor,
        judging.find_cases(),
        tolerance=TOLERANCE,
        output_size=condition.output_size or condition.input_size,
        classes=condition.classes,
    )
    report = yield from map_reports(
        work, lambda told: replace(told, stage=stage) if _is_progress(told) else told
    )
    write_report(path, report, Origin.of(predictor, judging.split or "all"))
    return report


def _is_progress(report: Progress | Notice) -> bool:
    return isinstance(report, Progress)


def _seeing(checkpoint: Checkpoint, size: Sequence[int] | None) -> Checkpoint:
    """The same network for images that are brought to another size."""
    if size is None:
        return checkpoint
    content = checkpoint.content
    seen = content.preprocessing.model_copy(update={"size": tuple(size), "spacing": None})
    return replace(checkpoint, content=content.model_copy(update={"preprocessing": seen}))


def judging_key(condition: Condition, data_name: str, split: str | None, cases: Sequence[Identity]) -> str:
    """Of all that decides the scores of a network, whatever a study calls the condition."""
    how = condition.model_dump(mode="json", include={"input_size", "output_size", "classes"})
    deciding = {**how, "data": data_name, "split": split, "tolerance": TOLERANCE}
    words = [data_name]
    for name in ("input", "output"):
        size = how[f"{name}_size"]
        words += [name, "x".join(map(str, size))] if size else []
    words += condition.classes or ()
    return readable_key(words, {**deciding, "cases": cases})


def readable_key(words: Sequence[str], deciding: object) -> str:
    """A file's name of some words, and of a digest of whatever JSON can hold."""
    digest = hashlib.sha256(json.dumps(deciding, sort_keys=True).encode()).hexdigest()
    slug = re.sub(r"[^a-z0-9]+", "-", "-".join(words).lower()).strip("-")
    return f"{slug[:60]}-{digest[:12]}"
