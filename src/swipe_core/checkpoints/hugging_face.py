"""A checkpoint as a folder for Hugging Face: the file, its settings in JSON, and its card as the page."""

import shutil
from pathlib import Path

import yaml

from swipe_core.checkpoints.file import load_checkpoint
from swipe_core.checkpoints.sharing import licence_of, new_folder, page, require_card, settings_text


def export_hugging_face(checkpoint: str | Path, folder: str | Path) -> list[Path]:
    """Write a folder that can be uploaded as it is; return its files.

    ``model.safetensors`` is the checkpoint, byte for byte; ``config.json`` what its header says, for those
    who only look; ``README.md`` the page, with the card's licence, limits and scores. Raises
    `CheckpointError` when the model has no card or is damaged; when the folder holds something already.
    """
    content = load_checkpoint(checkpoint).content
    card, licence = require_card(content), licence_of(require_card(content))
    front: dict[str, object] = {
        "license": licence.lower() if licence else "other",
        "library_name": "napari-swipe",
        "pipeline_tag": "image-segmentation",
        "tags": ["napari", "biology", "medical", "segmentation", "implicit-neural-representation"],
    }
    if licence is None:
        front["license_name"] = card.licence
    use = f"""    pip install napari-swipe
    swipe models add model.safetensors --name {content.name}
    swipe predict {content.name} IMAGE --output labels"""
    folder = new_folder(folder)
    files = [folder / file for file in ("model.safetensors", "config.json", "README.md")]
    shutil.copyfile(checkpoint, files[0])
    files[1].write_text(settings_text(content), encoding="utf-8")
    above = f"---\n{yaml.safe_dump(front, sort_keys=False)}---\n\n"
    files[2].write_text(page(content, use, above), encoding="utf-8")
    return files
