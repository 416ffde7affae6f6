"""A description says what the whole checkpoint says, from its header alone, and refuses what is none."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from swipe_core.checkpoints.card import ModelCard
from swipe_core.checkpoints.file import Checkpoint, load_checkpoint, save_checkpoint
from swipe_core.checkpoints.header import SECTIONS, ModelDescription, describe_checkpoint, unsuitable
from swipe_core.coordinates import Affine
from swipe_core.data.preprocessing import PreprocessingConfig, preprocess
from swipe_core.errors import CheckpointError, ImageError
from swipe_core.images import MedicalImage
from swipe_core.networks.swipe.build import build_swipe
from swipe_core.pictures import default_colours

CARD = ModelCard(
    title="Discs",
    description="Finds discs.",
    data="One disc.",
    licence="CC0 1.0",
    attribution="Nobody",
    intended_use="Tests",
    limits="Everything else",
    dice={"foreground": 0.93},
    validation="The same disc.",
)


@pytest.fixture
def path(tmp_path, tiny_config) -> Path:
    """An untrained network for two classes with colours, a window and a card."""
    config = tiny_config(
        {
            "labels.class_names": ("wall", "lumen"),
            "labels.class_colours": ("#102030", "#AABBCC"),
            "preprocessing.intensity": "window",
            "preprocessing.window": (-200.0, 300.0),
            "preprocessing.spacing": (0.5, 0.75),
            "preprocessing.crop_size": (32, 48),
        }
    )
    content = config.checkpoint_content().model_copy(update={"card": CARD})
    path = tmp_path / "discs.safetensors"
    save_checkpoint(path, Checkpoint(content, build_swipe(config.model).state_dict()))
    return path


def header(path: Path) -> dict:
    whole = path.read_bytes()
    return json.loads(whole[8 : 8 + int.from_bytes(whole[:8], "little")])


def with_header(path: Path, changed: object) -> None:
    """The same tensors behind another header."""
    whole = path.read_bytes()
    text = json.dumps(changed).encode()
    body = whole[8 + int.from_bytes(whole[:8], "little") :]
    path.write_bytes(len(text).to_bytes(8, "little") + text + body)


def with_content(path: Path, change) -> None:
    """The same file with its content changed in place by a function."""
    whole = header(path)
    content = json.loads(whole["__metadata__"]["content"])
    change(content)
    whole["__metadata__"]["content"] = json.dumps(content)
    with_header(path, whole)


def sentence(path: Path) -> str:
    """The one sentence that describing is refused with."""
    with pytest.raises(CheckpointError) as caught:
        describe_checkpoint(path)
    text = str(caught.value)
    assert str(path) in text and "\n" not in text and text.endswith(".")
    return text


def test_it_says_what_the_whole_checkpoint_says(path):
    described, content = describe_checkpoint(path), load_checkpoint(path).content
    preprocessing = content.preprocessing
    assert described == ModelDescription(
        name=content.name,
        path=path,
        ndim=content.model.ndim,
        channels=content.model.channels,
        class_names=content.labels.class_names,
        class_colours=("#102030", "#AABBCC"),
        intensity=preprocessing.intensity,
        window=(-200.0, 300.0),
        spacing=(0.5, 0.75),
        size=None,
        crop_size=(32, 48),
        card=CARD,
        bytes=path.stat().st_size,
    )


def test_every_field_of_a_description_is_one_that_checkpoints_write(path):
    content = json.loads(header(path)["__metadata__"]["content"])
    for section, names in SECTIONS.items():
        assert set(names) <= content[section].keys() and set(names) <= ModelDescription.model_fields.keys()


def test_a_header_of_before_there_were_several_networks_is_swipes(path):
    assert "network" in json.loads(header(path)["__metadata__"]["content"])["model"]
    with_content(path, lambda content: content["model"].pop("network"))
    described = describe_checkpoint(path)
    assert (described.network, described.network_title) == ("swipe", "SwIPE")
    assert load_checkpoint(path).content.model.network == "swipe"


def test_it_says_which_network_a_model_is_also_one_that_other_versions_have(path):
    for network, title in (("unet", "U-Net"), ("ossnet", "OSS-Net"), ("net of tomorrow", "net of tomorrow")):
        with_content(path, lambda content, name=network: content["model"].update(network=name))
        described = describe_checkpoint(path)
        assert (described.network, described.network_title) == (network, title)


def test_without_colours_and_card_the_colours_are_those_of_the_palette(disc_run):
    described = describe_checkpoint(str(disc_run / "best.safetensors"))
    assert described.class_colours == tuple(default_colours(1))
    assert described.card is None and described.name == "discs"


def test_reading_it_imports_no_torch_and_nothing_else_that_is_slow(path):
    """A window calls it while it is being drawn."""
    code = (
        "import sys; from swipe_core.checkpoints.header import describe_checkpoint, unsuitable; "
        "from swipe_core.images.channels import Channels; "
        "from swipe_core.checkpoints.library import bundled_checkpoints, checkpoints_in, find_checkpoint; "
        "described = [describe_checkpoint(p) for p in [sys.argv[1], *bundled_checkpoints().values()]]; "
        "assert described[0].class_names == ('wall', 'lumen') and unsuitable(described[0], 3, Channels(1)); "
        "assert checkpoints_in(sys.argv[2]) and find_checkpoint(sys.argv[1]); "
        "slow = {'torch', 'safetensors', 'nibabel', 'scipy', 'skimage', 'matplotlib', 'tifffile'}; "
        "print(sorted(slow & set(sys.modules)))"
    )
    command = [sys.executable, "-c", code, str(path), str(path.parent)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr


def test_fields_of_other_versions_are_passed_over(path):
    before = describe_checkpoint(path)

    def change(content):
        content["mood"] = "good"
        content["model"]["depth"] = 7
        content["inference"]["patience"] = 2
        content["card"]["url"] = "none"
        del content["summary"]

    with_content(path, change)
    with pytest.raises(CheckpointError):
        load_checkpoint(path)
    assert describe_checkpoint(path) == before.model_copy(update={"bytes": path.stat().st_size})


@pytest.mark.parametrize(
    ("section", "field", "value"),
    [
        ("model", "ndim", "two"),
        ("preprocessing", "window", [1]),
        ("labels", "class_names", []),
        ("labels", "class_colours", ["red", "blue"]),
        ("card", "dice", {"wall": 7}),
        ("card", "licence", ""),
    ],
)
def test_an_unusable_field_is_named(path, section, field, value):
    with_content(path, lambda content: content[section].update({field: value}))
    assert f"unusable {section}.{field}" in sentence(path)


@pytest.mark.parametrize("content", [None, "", "{", "[]", "null", "{}", '{"name": "x"}'])
def test_a_header_without_its_configuration_is_refused(path, content):
    whole = header(path)
    whole["__metadata__"].pop("content")
    if content is not None:
        whole["__metadata__"]["content"] = content
    with_header(path, whole)
    assert "unusable" in sentence(path)


@pytest.mark.parametrize("version", ["2", "99", "", "1.5", "one"])
def test_a_newer_version_asks_for_an_update(path, version):
    whole = header(path)
    whole["__metadata__"]["version"] = version
    with_header(path, whole)
    assert "update napari-swipe" in sentence(path)


@pytest.mark.parametrize("metadata", [{}, {"format": "pt"}])
def test_a_file_of_another_program_is_told_apart(path, metadata):
    with_header(path, {**header(path), "__metadata__": metadata})
    assert "no SwIPE checkpoint" in sentence(path)


@pytest.mark.parametrize("share", [0.0, 1e-4, 0.01, 0.3, 0.9, 0.9999])
def test_a_file_that_was_cut_short_is_refused(path, share):
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    assert "cut short" in sentence(path)


def test_a_file_that_goes_on_after_its_end_is_refused(path):
    path.write_bytes(path.read_bytes() + b"more")
    assert "not a whole safetensors file" in sentence(path)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        b"\x00" * 100,
        b"\xff" * 100,
        b"PK\x03\x04" * 50,
        # A length beyond any real header must not be read, whatever the size of the file.
        (200_000_000).to_bytes(8, "little") + b"{" * 100,
        (100_000).to_bytes(8, "little") + b"[" * 100_000,
        (4).to_bytes(8, "little") + b"\xff\xfe{}",
        (4).to_bytes(8, "little") + b"null",
        (6).to_bytes(8, "little") + b'["ab"]',
        (8).to_bytes(8, "little") + b'{"a": 1}',
        (27).to_bytes(8, "little") + b'{"a": {"data_offsets": {}}}',
        (20).to_bytes(8, "little") + b'{"__metadata__":[1]}',
        (25).to_bytes(8, "little") + b'{"__metadata__":{"a": 1}}',
    ],
)
def test_whatever_else_lies_under_the_name_is_refused(tmp_path, content):
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    assert "not a whole safetensors file" in sentence(path)


def test_a_header_that_claims_to_be_huge_is_not_read(tmp_path):
    path = tmp_path / "model.safetensors"
    with path.open("wb") as file:
        file.write((150_000_000).to_bytes(8, "little") + b"{")
        file.truncate(160_000_000)  # takes no space on the disk
    assert "not a whole safetensors file" in sentence(path)


@pytest.mark.parametrize("name", ["none.safetensors", "."])
def test_a_missing_file_and_a_folder_are_no_checkpoints(tmp_path, name):
    assert "There is no checkpoint" in sentence(tmp_path / name)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("wanted_channels", [1, 2, 3])
@pytest.mark.parametrize("wanted_ndim", [2, 3])
@pytest.mark.parametrize("axis", ["colour", "channel", "page"])
@pytest.mark.parametrize("wanted_axis", [None, "channel"])
def test_unsuitable_is_what_preprocessing_refuses(
    path, wanted_axis, axis, wanted_ndim, wanted_channels, ndim, channels
):
    wanted = {"ndim": wanted_ndim, "channels": wanted_channels, "channel_axis": wanted_axis}
    described = describe_checkpoint(path).model_copy(update=wanted)
    config = PreprocessingConfig(**wanted)
    array = np.random.default_rng(0).normal(size=(*(8,) * ndim, channels))
    image = MedicalImage(array, Affine.identity(ndim), "pixel", channel_axis=axis)
    reason = unsuitable(described, ndim, image.channel_kinds)
    if reason is None:
        assert torch.isfinite(preprocess(image, config).tensor).all()
        return
    with pytest.raises(ImageError):
        preprocess(image, config)
    assert reason.startswith("discs is a model for ") and reason.endswith(".") and "\n" not in reason
