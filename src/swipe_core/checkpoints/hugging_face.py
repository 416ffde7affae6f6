"""A checkpoint as a folder for Hugging Face: the file, its settings in JSON, and its card as the page."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import yaml

import swipe_core
from swipe_core.checkpoints.file import load_checkpoint
from swipe_core.errors import CheckpointError

LICENCES = {"CC0 1.0": "cc0-1.0", "CC BY-SA 4.0": "cc-by-sa-4.0", "CC BY 4.0": "cc-by-4.0", "MIT": "mit"}
PAPER = "SwIPE: Efficient and Robust Medical Image Segmentation with Implicit Patch Embeddings (MICCAI 2023)"


def export_hugging_face(checkpoint: str | Path, folder: str | Path, name: str) -> list[Path]:
    """Write a folder that can be uploaded as it is; return its files.

    ``model.safetensors`` is the checkpoint, byte for byte; ``config.json`` what its header says, for those
    who only look; ``README.md`` the page, with the card's licence, limits and scores.

    Raises
    ------
    CheckpointError
        When the model has no card, for nobody should use a model of which nothing is said, or is damaged;
        when the folder holds something already.
    """
    folder, content = Path(folder), load_checkpoint(checkpoint).content
    if content.card is None:
        raise CheckpointError(
            f"The model {name} has no card, which says what it is for: release it with one first."
        )
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise CheckpointError(f"{folder} holds something already: choose another folder.")
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / file for file in ("model.safetensors", "config.json", "README.md")]
    shutil.copyfile(checkpoint, files[0])
    settings = content.model_dump(mode="json", exclude={"summary", "card"})
    files[1].write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    card, licence = content.card, LICENCES.get(re.split(",", content.card.licence)[0], "other")
    front: dict[str, object] = {
        "license": licence,
        "library_name": "napari-swipe",
        "pipeline_tag": "image-segmentation",
        "tags": ["napari", "biology", "medical", "segmentation", "implicit-neural-representation"],
    }
    if licence == "other":
        front["license_name"] = card.licence
    dice = "\n".join(f"| {of} | {value:.3f} |" for of, value in card.dice.items())
    files[2].write_text(
        f"""---
{yaml.safe_dump(front, sort_keys=False)}---

# {card.title}

{card.description}

**Intended use.** {card.intended_use}

**Limits.** {card.limits}

**Trained on.** {card.data}

**Licence of the weights.** {card.licence}

**To be named.** {card.attribution}

| class | validation Dice |
| --- | --- |
{dice}

{card.validation}

## Use

    pip install napari-swipe
    swipe models add model.safetensors --name {name}
    swipe predict {name} IMAGE --output labels

Written by napari-swipe {swipe_core.__version__}. The network: {content.model.network}; the method: {PAPER}.
""",
        encoding="utf-8",
    )
    return files
