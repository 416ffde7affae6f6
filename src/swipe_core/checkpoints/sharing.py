"""What folders of models for other programs have in common: settings, and a page made of the card."""

import json
import re
from pathlib import Path

import swipe_core
from swipe_core.checkpoints.card import ModelCard
from swipe_core.checkpoints.file import CheckpointContent
from swipe_core.errors import CheckpointError

PAPER = "SwIPE: Efficient and Robust Medical Image Segmentation with Implicit Patch Embeddings (MICCAI 2023)"
DOI = "10.1007/978-3-031-43904-9_31"
LICENCES = {"CC0 1.0": "CC0-1.0", "CC BY-SA 4.0": "CC-BY-SA-4.0", "CC BY 4.0": "CC-BY-4.0", "MIT": "MIT"}


def require_card(content: CheckpointContent) -> ModelCard:
    """Return the card of a model.

    Raises `CheckpointError` when it has none, for nobody should use a model of which nothing is said.
    """
    if content.card is None:
        raise CheckpointError(
            f"The model {content.name} has no card, which says what it is for: release it with one first."
        )
    return content.card


def new_folder(folder: str | Path) -> Path:
    """Make a folder and return it.

    Raises `CheckpointError` when it holds something already.
    """
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise CheckpointError(f"{folder} holds something already: choose another folder.")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def licence_of(card: ModelCard) -> str | None:
    """Return the SPDX identifier of the licence of the weights; None where it is none of the known ones."""
    return LICENCES.get(re.split(",", card.licence)[0])


def settings_text(content: CheckpointContent) -> str:
    """Return the settings of a model in JSON: network, preprocessing, labels, inference."""
    return json.dumps(content.model_dump(mode="json", exclude={"summary", "card"}), indent=2) + "\n"


def page(content: CheckpointContent, use: str, front: str = "") -> str:
    """Return the page of a model in Markdown: what its card says, where it has one, and how it is used."""
    return f"{front}# {_about(content)}\n\n## Use\n\n{use}\n\n{_made_by(content)}\n"


def _about(content: CheckpointContent) -> str:
    card = content.card
    if card is None:
        return content.name
    dice = "\n".join(f"| {of} | {value:.3f} |" for of, value in card.dice.items())
    return f"""{card.title}

{card.description}

**Intended use.** {card.intended_use}

**Limits.** {card.limits}

**Trained on.** {card.data}

**Licence of the weights.** {card.licence}

**To be named.** {card.attribution}

## Validation

| class | validation Dice |
| --- | --- |
{dice}

{card.validation}"""


def _made_by(content: CheckpointContent) -> str:
    version = swipe_core.__version__
    return f"Written by napari-swipe {version}. The network: {content.model.network}; the method: {PAPER}."
