"""Make a checkpoint that can be passed on: the weights alone, in half precision, with a model card."""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from pydantic import ValidationError

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # tools are not part of the package

from swipe_core.checkpoints.card import ModelCard, read_card
from swipe_core.checkpoints.file import Checkpoint, load_checkpoint, save_checkpoint
from swipe_core.checkpoints.library import find_checkpoint
from swipe_core.checkpoints.summary import TrainingSummary
from swipe_core.cli.options import add_inference_options, changed_config
from swipe_core.cli.shared import exit_code, prepare_file, until_unread
from swipe_core.errors import CheckpointError, ConfigError
from swipe_core.evaluation.report import EvaluationReport, Origin
from swipe_core.inference.config import InferenceConfig
from tools.scores_file import read_origin, read_report

LARGEST = 11_000_000  # bytes: what may ship with the package
# What only says how much is worked on at once is taken from this program, not from the day of the training.
MEMORY_SETTINGS = ("chunk_points", "window_batch", "block_voxels")

EPILOG = """\
example:
  python tools/release.py runs/polyp/best.safetensors --name polyp \\
      --card src/swipe_core/models/cards/polyp.yaml --output src/swipe_core/models/polyp.safetensors

the card is a YAML file with the fields of swipe_core.checkpoints.card.ModelCard, except `dice`: that is taken
from the checkpoint, or from --scores, which is needed where settings of inference are changed. What
lies in src/swipe_core/models is found by its name.
"""


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "checkpoint", metavar="CHECKPOINT", help="a .safetensors file that `swipe train` wrote"
    )
    parser.add_argument("--card", required=True, metavar="FILE", help="the model card, as YAML")
    parser.add_argument("--name", required=True, metavar="NAME", help="what the model is called")
    parser.add_argument("--output", required=True, metavar="FILE", help="the .safetensors file to write")
    parser.add_argument(
        "--allow-large", action="store_true", help=f"write more than {LARGEST / 1e6:g} MB, too"
    )
    parser.add_argument(
        "--scores",
        metavar="FILE",
        help="validation scores with the settings of this release, as `swipe evaluate --json` wrote them: "
        "the card then gives the Dice over the cases that hold a class",
    )
    add_inference_options(
        parser.add_argument_group(
            "settings of inference that the released model has, chosen on validation data"
        )
    )
    return parser.parse_args(arguments)


def validation_dice(summary: TrainingSummary, class_names: tuple[str, ...]) -> dict[str, float]:
    """The Dice by class that a checkpoint was chosen for, rounded; of the mean where no more is known."""
    best = summary.best_dice
    if best is None:
        return {}
    if len(class_names) == 1:
        return {class_names[0]: round(best, 3)}
    by_class = summary.best_dice_by_class or {}
    if tuple(by_class) == class_names:
        return {name: round(value, 3) for name, value in by_class.items()}
    return {"mean": round(best, 3)}


def measured_dice(report: EvaluationReport, class_names: tuple[str, ...]) -> dict[str, float]:
    """The Dice by class over the cases that hold it, rounded; a class that no case holds is left out.

    Raises
    ------
    ConfigError
        When the scores are of other classes.
    """
    if report.class_names != class_names:
        raise ConfigError(
            f"The scores are of {', '.join(report.class_names)}, and the model finds "
            f"{', '.join(class_names)}: give those of this model."
        )
    presences = {name: report.presence(name) for name in class_names}
    return {name: round(presence.mean, 3) for name, presence in presences.items() if presence.present}


def check_scores(origin: Origin | None, inference: InferenceConfig) -> None:
    """See that scores are of the validation with the settings of a release, where their file tells.

    Raises
    ------
    ConfigError
        Otherwise.
    """
    if origin is None:
        return
    if origin.split != "val":
        raise ConfigError(
            f"The scores are of the split {origin.split!r}, and a card tells those of 'val': evaluate the "
            "model on that."
        )
    if origin.image_factor is not None:
        factors = " ".join(f"{factor:g}" for factor in origin.image_factor)
        raise ConfigError(
            f"The scores are of images that were resampled by {factors}: evaluate the model without "
            "--image-factor."
        )
    given, needed = (settings_of(config).model_dump() for config in (origin.inference, inference))
    for name, value in needed.items():
        if given[name] != value:
            raise ConfigError(
                f"The scores were measured with {name} {given[name]}, and the release has {value}: evaluate "
                "the model with the settings of the release."
            )


def settings_of(inference: InferenceConfig) -> InferenceConfig:
    """Settings as they are released: those of `MEMORY_SETTINGS` are this program's."""
    defaults = InferenceConfig()
    return inference.model_copy(update={name: getattr(defaults, name) for name in MEMORY_SETTINGS})


def released(
    checkpoint: Checkpoint, name: str, card: ModelCard, inference: InferenceConfig, dice: dict[str, float]
) -> Checkpoint:
    """A checkpoint without the state of its training, under a name and with a card.

    Parameters
    ----------
    inference
        Its settings from now on, except those of `MEMORY_SETTINGS`.
    dice
        What the card says of the validation, by class.

    Raises
    ------
    ConfigError
        When the card tells a Dice of its own, or one in `dice` is not between 0 and 1.
    """
    if card.dice:
        raise ConfigError("The card gives a Dice: leave it out, it is taken from the checkpoint.")
    content = checkpoint.content
    changes = {
        "name": name,
        "card": carded(card, dice),
        "inference": settings_of(inference),
    }
    return replace(checkpoint, content=content.model_copy(update=changes), state={}, progress={})


def carded(card: ModelCard, dice: dict[str, float]) -> ModelCard:
    """A card with a Dice, checked as it will be when the file is read.

    Raises
    ------
    ConfigError
        When a Dice is not between 0 and 1.
    """
    try:
        return ModelCard.model_validate(card.model_dump() | {"dice": dice})
    except ValidationError as error:
        scores = ", ".join(f"{name} {value:g}" for name, value in dice.items())
        raise ConfigError(
            f"A Dice is a number from 0 to 1, and the scores of this model are {scores}: evaluate it anew, "
            "and give --scores."
        ) from error


def size_of(checkpoint: Checkpoint) -> int:
    """Bytes that a checkpoint takes in half precision."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "draft.safetensors"
        save_checkpoint(path, checkpoint, half=True)
        return path.stat().st_size


def run(options: argparse.Namespace) -> int:
    """Check, write, and say what was written."""
    output = Path(options.output)
    if output.suffix != ".safetensors":
        raise ConfigError(f"--output needs a file that ends in .safetensors; got {output}.")
    card = read_card(options.card)
    source = load_checkpoint(find_checkpoint(options.checkpoint))
    source.build()  # weights that are not those of the network are refused here
    inference = changed_config(source.content.inference, options)
    names = source.content.labels.class_names
    if options.scores:
        check_scores(read_origin(options.scores), inference)
        dice = measured_dice(read_report(options.scores), names)
    elif inference != source.content.inference:
        raise ConfigError("The settings are not those of the training: give --scores with these settings.")
    else:
        dice = validation_dice(source.content.summary, names)
    checkpoint = released(source, options.name, card, inference, dice)
    size = size_of(checkpoint)
    if size > LARGEST and not options.allow_large:
        raise CheckpointError(
            f"{options.checkpoint} takes {size / 1e6:.1f} MB, and a package should carry no more than "
            f"{LARGEST / 1e6:g} MB: train a narrower network, or add --allow-large."
        )
    prepare_file(output, "--output")
    save_checkpoint(output, checkpoint, half=True)
    shipped = checkpoint.content.card
    scores = ", ".join(f"{name} {dice:.3f}" for name, dice in shipped.dice.items()) if shipped else ""
    print(f"{output}  {size / 1e6:.2f} MB, validation Dice {scores or 'unknown'}")
    return 0


def main(arguments: list[str] | None = None) -> int:
    options = parse_arguments(arguments)
    return exit_code(lambda: run(options), place=options.output, stopped=lambda: "nothing is released")


if __name__ == "__main__":
    raise SystemExit(until_unread(main))
