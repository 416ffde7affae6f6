"""The models that have a name, and what a checkpoint says of itself; to list and show needs no torch."""

import argparse
import textwrap
from functools import partial
from pathlib import Path

from swipe_core.checkpoints.card import ModelCard
from swipe_core.checkpoints.header import ModelDescription, describe_checkpoint
from swipe_core.checkpoints.library import (
    add_checkpoint,
    file_digest,
    find_checkpoint,
    named_checkpoints,
    remove_checkpoint,
)
from swipe_core.cli.shared import columns, exit_code
from swipe_core.errors import readable_bytes


def models_text() -> str:
    """Return a table of the models that come with the program or were added, and their cards."""
    models = {name: describe_checkpoint(path) for name, path in named_checkpoints().items()}
    headings = ("name", "finds", "images", "classes", "validation Dice", "MB", "SHA-256", "licence")
    rows = [headings, *(_row(name, model) for name, model in models.items())]
    cards = [f"{name}\n{_wrapped(_of_card(model.card))}" for name, model in models.items() if model.card]
    return "\n\n".join([columns(rows), *cards])


def model_text(model: ModelDescription) -> str:
    """Return what a model takes, finds and was made of."""
    facts = {
        "file": f"{model.path} ({readable_bytes(model.bytes)})",
        "SHA-256": file_digest(model.path),
        "network": model.network_title,
        "images": _images(model),
        "classes": ", ".join(model.class_names),
    }
    if model.spacing is not None:
        facts["works at"] = " x ".join(f"{step:g}" for step in model.spacing) + f" {model.spacing_unit or ''}"
    if model.card is not None:
        facts |= {"finds": model.card.title, "validation Dice": _dice(model.card)}
        facts |= {"licence": model.card.licence, **_of_card(model.card)}
    return f"{model.name}\n{_wrapped(facts)}"


def _row(name: str, model: ModelDescription) -> tuple[str, ...]:
    card = model.card
    return (
        name,
        card.title if card else "",
        _images(model),
        ", ".join(model.class_names),
        _dice(card) if card else "",
        f"{model.bytes / 1e6:.1f}",
        file_digest(model.path)[:12],
        card.licence.split(",")[0] if card else "",
    )


def _images(model: ModelDescription) -> str:
    return f"{model.ndim}D, {model.channels} channel{'s' * (model.channels > 1)}"


def _dice(card: ModelCard) -> str:
    return ", ".join(f"{name} {value:.3f}" for name, value in card.dice.items())


def _of_card(card: ModelCard) -> dict[str, str]:
    return {
        "trained on": card.data,
        "validated on": card.validation,
        "intended use": card.intended_use,
        "limits": card.limits,
        "to be named": card.attribution,
    }


def _wrapped(facts: dict[str, str]) -> str:
    wrap = partial(textwrap.fill, width=100, initial_indent="  ", subsequent_indent="    ")
    return "\n".join(wrap(f"{title}: {text}") for title, text in facts.items())


def run(options: argparse.Namespace) -> int:
    """Print the list or one model, or add, export or remove one."""
    if options.verb == "list":
        print(models_text())
    elif options.verb == "add":
        path = add_checkpoint(options.source, options.name)
        print(f"{path.stem} is added: swipe predict {path.stem} IMAGE --output out ({path})")
    elif options.verb == "export":
        print("\n".join(map(str, _export(options))))
    elif options.verb == "remove":
        print(f"{remove_checkpoint(options.name)} is removed.")
    else:
        print(model_text(describe_checkpoint(find_checkpoint(options.checkpoint))))
    return 0


def _export(options: argparse.Namespace) -> list[Path]:
    path, shape = find_checkpoint(options.checkpoint), options.shape
    if options.to == "huggingface":
        from swipe_core.checkpoints.hugging_face import export_hugging_face

        return export_hugging_face(path, options.output)
    if options.to == "onnx":
        from swipe_core.checkpoints.onnx_export import export_onnx

        return export_onnx(path, options.output, shape)
    from swipe_core.checkpoints.bioimage_io import export_bioimage_io

    return export_bioimage_io(path, options.output, shape, options.factor, options.image)


def main(options: argparse.Namespace) -> int:
    place = getattr(options, "checkpoint", "the list")
    return exit_code(lambda: run(options), place=place, stopped=lambda: "nothing is changed")
