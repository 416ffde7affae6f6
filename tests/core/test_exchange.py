"""A model as other programs run it says what it says here: ONNX, and packages of bioimage.io."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import zipfile

import numpy as np
import pytest
import torch
import yaml
from tiny_networks import TINY

from swipe_core.checkpoints.bioimage_io import export_bioimage_io
from swipe_core.checkpoints.card import ModelCard
from swipe_core.checkpoints.file import Checkpoint, CheckpointContent, load_checkpoint, save_checkpoint
from swipe_core.checkpoints.graphs import WholeImage, _scaled, for_graphs
from swipe_core.checkpoints.library import bundled_checkpoints, file_digest
from swipe_core.checkpoints.onnx_export import grid_shape
from swipe_core.cli import main as swipe
from swipe_core.data.labels import LabelConfig
from swipe_core.data.preprocessing import (
    PreprocessingConfig,
    channels_first,
    intensity_statistics,
    preprocess,
    scaled,
)
from swipe_core.errors import CheckpointError
from swipe_core.images import read_image
from swipe_core.inference.config import InferenceConfig
from swipe_core.networks.swipe.build import SwipeConfig, build_swipe
from swipe_core.samples import SAMPLES

CARD = ModelCard(
    title="Dots / spots",
    description="Finds dots.",
    data="None.",
    licence="CC0 1.0",
    attribution="Nobody.",
    intended_use="Tests.",
    limits="All.",
    dice={"dot": 0.5},
)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """A checkpoint of a tiny network with a card."""
    network = SwipeConfig(ndim=2, channels=1, classes=2, interior=True, **TINY["swipe", 2])
    torch.manual_seed(0)
    content = CheckpointContent(
        name="dots",
        model=network,
        preprocessing=PreprocessingConfig(ndim=2, channels=1, intensity="standardise", crop_size=(24, 32)),
        labels=LabelConfig(class_names=("dot",)),
        inference=InferenceConfig(),
        card=CARD,
    )
    path = tmp_path_factory.mktemp("model") / "dots.safetensors"
    save_checkpoint(path, Checkpoint(content, build_swipe(network).state_dict()))
    return path


EXPORT = """
import sys
from swipe_core.checkpoints.bioimage_io import export_bioimage_io
from swipe_core.checkpoints.onnx_export import export_onnx

path, folder, image = sys.argv[1:]
export_onnx(path, folder + "/onnx")
export_bioimage_io(path, folder + "/package", factor=2, image=image)
try:
    from bioimageio.spec import load_description
except ImportError:
    raise SystemExit
summary = load_description(folder + "/package/rdf.yaml").validation_summary
assert summary.status == "valid-format", summary.format()
"""


@pytest.fixture(scope="module")
def exported(path, tmp_path_factory):
    """Both exports, by a process without the checks of shapes, which would fix the number of points.

    There the package is given to the validator of bioimage.io, too, where it is installed.
    """
    for package in ("onnxruntime", "onnxscript"):
        pytest.importorskip(package)
    folder = tmp_path_factory.mktemp("exported")
    words = [sys.executable, "-c", EXPORT, str(path), str(folder), str(SAMPLES["nuclei"].image_path)]
    subprocess.run(words, check=True, timeout=500)
    return folder


@pytest.mark.parametrize("name", bundled_checkpoints())
def test_the_graph_that_is_written_decodes_as_the_network_does(name):
    """Patches without weight, which the network leaves out, make no difference to the field."""
    loaded = load_checkpoint(bundled_checkpoints()[name])
    model, shape = loaded.build().eval(), (32, 48, 32)[: loaded.content.model.ndim]
    with torch.no_grad():
        encoding = model.encode(torch.randn(1, model.channels, *shape))
        points = 2.2 * torch.rand(1, 300, model.ndim) - 1.1
        decoded = model.decode_all(encoding.for_decoding(), points)
        torch.testing.assert_close(decoded, model.decode(encoding, points), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("intensity", ["unit", "standardise", "range", "window"])
def test_a_graph_scales_intensities_as_preprocessing_does(intensity):
    window = (40.0, 180.0) if intensity == "window" else None
    config = PreprocessingConfig(ndim=2, channels=2, intensity=intensity, window=window)
    array = np.random.default_rng(0).gamma(2, 25, (40, 30, 2)).clip(0, 255).astype(np.float32)
    wanted = scaled(array, config, intensity_statistics(array, config, np.dtype(np.uint8)))
    found = _scaled(channels_first(array)[None], config)[0]
    torch.testing.assert_close(found, channels_first(wanted), atol=1e-4, rtol=1e-4)


def test_a_whole_image_gives_the_probabilities_of_its_field():
    loaded = load_checkpoint(bundled_checkpoints()["polyp"])
    image, config = read_image(SAMPLES["polyp"].image_path), loaded.content.preprocessing
    prepared = preprocess(image, config)
    graph = WholeImage(for_graphs(loaded.build()), config, (56, 56))
    with torch.no_grad():
        probabilities = graph((prepared.tensor[None] + 1) * 127.5)
        model = loaded.build().eval()
        logits = model.decode(model.encode(prepared.tensor[None]), graph.centres)
    wanted = logits.softmax(dim=-1)[0].T.unflatten(1, (56, 56))
    torch.testing.assert_close(probabilities[0], wanted, atol=1e-4, rtol=1e-3)


def test_encoder_and_decoder_in_onnx_give_the_logits_at_any_number_of_points(path, exported):
    from onnxruntime import InferenceSession

    encoder, decoder = (InferenceSession(exported / "onnx" / f"{p}.onnx") for p in ("encoder", "decoder"))
    image, points = torch.randn(1, 1, 24, 32), 2 * torch.rand(1, 77, 2) - 1
    kept = encoder.run(None, {"image": image.numpy()})
    names = [output.name for output in encoder.get_outputs()]
    found = decoder.run(None, {"points": points.numpy(), **dict(zip(names, kept, strict=True))})[0]
    model = load_checkpoint(path).build().eval()
    with torch.no_grad():
        wanted = model.decode(model.encode(image), points)
    assert found.shape == (1, 77, 3)  # background, dot, interior
    np.testing.assert_allclose(found, wanted.numpy(), atol=1e-4, rtol=1e-4)


def test_a_package_of_bioimage_io_is_whole(exported):
    package = exported / "package"
    files = {file.name for file in package.iterdir()}
    assert set(zipfile.ZipFile(package / "dots.zip").namelist()) == files - {"dots.zip"}
    description = yaml.safe_load((package / "rdf.yaml").read_text("utf-8"))
    weights = description["weights"]["onnx"]
    assert weights["sha256"] == file_digest(package / weights["source"])
    probabilities = np.load(package / "probabilities.npy")
    assert probabilities.shape == (1, 2, 48, 64)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)


def test_what_cannot_be_shared_is_refused_with_what_to_do(path, tmp_path, capsys):
    loaded = load_checkpoint(path)
    bare = tmp_path / "bare.safetensors"
    content = loaded.content.model_copy(update={"card": None})
    save_checkpoint(bare, dataclasses.replace(loaded, content=content))
    with pytest.raises(CheckpointError, match="no card"):
        export_bioimage_io(bare, tmp_path / "package")
    with pytest.raises(CheckpointError, match="--image"):
        export_bioimage_io(path, tmp_path / "package")
    with pytest.raises(CheckpointError, match="--shape"):
        grid_shape(PreprocessingConfig(ndim=2, channels=1))
    words = ["models", "export", str(path), "--to", "onnx", "--shape", "8", "--output", str(tmp_path / "o")]
    assert swipe(words) == 2
    assert "2 axes; got 8" in capsys.readouterr().err
    assert not (tmp_path / "o").exists()
