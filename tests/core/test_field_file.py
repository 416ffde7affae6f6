"""A field that was kept in a file answers as it did, and a file that is none is refused in a sentence."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_networks import TINY

from swipe_core.cli import main
from swipe_core.coordinates import Affine
from swipe_core.data.labels import LabelConfig
from swipe_core.data.preprocessing import PreprocessingConfig
from swipe_core.errors import ImageError
from swipe_core.images import MedicalImage
from swipe_core.inference.config import InferenceConfig
from swipe_core.inference.field_file import open_field, save_field
from swipe_core.networks.registry import KINDS, build_network
from swipe_core.prediction.predictor import Predictor


def field_of(kind, ndim, **inference):
    from swipe_core.checkpoints.file import CheckpointContent

    torch.manual_seed(1)
    config = KINDS[kind].config(ndim=ndim, channels=1, classes=3, **TINY[kind, ndim])
    content = CheckpointContent(
        name="tiny",
        model=config,
        preprocessing=PreprocessingConfig(
            ndim=ndim, channels=1, crop_size=(32, 32, 48)[-ndim:], orientation=None
        ),
        labels=LabelConfig(class_names=("a", "b")),
        inference=InferenceConfig(**inference),
        temperature=1.5,
    )
    shape = (40, 50) if ndim == 2 else (10, 34, 50)
    array = np.random.default_rng(0).normal(size=(*shape, 1)).astype(np.float32)
    affine = Affine.from_spacing((2.0, 0.5, 0.7)[-ndim:], (3.0, -4.0, 5.0)[-ndim:])
    return Predictor(build_network(config), content).field(MedicalImage(array, affine, "millimeter"))


@pytest.fixture(scope="module")
def field():
    return field_of("swipe", 2, threshold=0.4, mirrored_axes=(1,))


@pytest.fixture
def path(field, tmp_path):
    save_field(tmp_path / "scan.swipe", field, "scan.png", ["#ff0000", "#00ff00"])
    return tmp_path / "scan.swipe"


@pytest.mark.parametrize(("kind", "ndim"), TINY)
def test_every_network_answers_from_its_file_as_it_did(kind, ndim, tmp_path):
    field = field_of(kind, ndim)
    save_field(tmp_path / "scan.swipe", field, "scan.png", ["#ff0000", "#00ff00"])
    kept = open_field(tmp_path / "scan.swipe").field
    points = np.random.default_rng(1).uniform(-1, 1, (300, ndim))
    before, after = field.logits(points, "image"), kept.logits(points, "image")
    np.testing.assert_allclose(after, before, atol=2e-3 * np.abs(before).max())  # of half precision
    assert not any(tensor.is_meta for tensor in kept.model.state_dict().values())


def test_all_that_is_known_of_a_field_is_in_its_file(field, path):
    saved = open_field(path)
    kept = saved.field
    assert (saved.title, saved.class_colours) == ("scan.png", ("#ff0000", "#00ff00"))
    for name in ("class_names", "config", "grid", "image_grid", "unit", "temperature"):
        assert getattr(kept, name) == getattr(field, name), name
    assert [(w.block, w.mirrored) for w in kept.windows] == [(w.block, w.mirrored) for w in field.windows]


def test_other_settings_can_be_asked_of_a_file_and_nothing_is_encoded_again(field, path):
    other = InferenceConfig(threshold=0.7, smoothing=1.0)
    points = np.random.default_rng(2).uniform(-1, 1, (200, 2))
    kept = open_field(path).field.with_config(other)
    np.testing.assert_allclose(
        kept.scores(points, "image"), field.with_config(other).scores(points, "image"), atol=2e-3
    )


def test_numbers_too_large_for_half_precision_are_kept_as_they_are(field, tmp_path):
    window = field.windows[0]
    large = replace(window.encoding, projected=window.encoding.projected * 1e7)
    wild = replace(field, windows=(replace(window, encoding=large),))
    save_field(tmp_path / "scan.swipe", wild, "scan.png", ["#ff0000", "#00ff00"])
    kept = open_field(tmp_path / "scan.swipe").field
    assert torch.equal(kept.windows[0].encoding.projected, large.projected)


class TestWhatIsNoField:
    def test_a_missing_file_is_named(self, tmp_path):
        with pytest.raises(ImageError, match=r"There is no file .*gone\.swipe"):
            open_field(tmp_path / "gone.swipe")

    @pytest.mark.parametrize("part", ["cut", "text", "byte", "header"])
    def test_a_file_that_was_changed_is_refused(self, path, part):
        whole = path.read_bytes()
        changed = {
            "cut": whole[: len(whole) // 2],
            "text": b"this is no field",
            "byte": whole[:-9] + bytes([whole[-9] ^ 64]) + whole[-8:],
            "header": whole.replace(b"scan.png", b"scam.png"),
        }[part]
        assert changed != whole
        path.write_bytes(changed)
        with pytest.raises(ImageError, match=r"not a whole \.swipe file"):
            open_field(path)

    def test_another_safetensors_file_is_told_apart(self, path):
        save_file({"w": torch.zeros(3)}, path)
        with pytest.raises(ImageError, match="holds no segmentation"):
            open_field(path)

    def test_a_newer_version_asks_for_an_update(self, path):
        save_file(load_file(path), path, {"format": "swipe-field", "version": "2"})
        with pytest.raises(ImageError, match="has version 2 of the format .* update"):
            open_field(path)


class TestCommand:
    def test_a_field_is_exported_with_neither_image_nor_model(
        self, field, path, tmp_path, monkeypatch, capsys
    ):
        monkeypatch.setattr("swipe_core.cli.export.load_checkpoint", None)
        assert main(["export", str(path), "--output", str(tmp_path / "a.svg"), "--tolerance", "0.2"]) == 0
        assert "largest deviation" in capsys.readouterr().err
        assert (tmp_path / "a.svg").read_text("utf-8").count("<path") > 0

    def test_a_field_can_be_written_again(self, path, tmp_path):
        other = tmp_path / "other.swipe"
        assert main(["export", str(path), "--output", str(other), "--threshold", "0.6"]) == 0
        assert open_field(other).field.config.threshold == 0.6

    def test_an_image_beside_a_field_is_one_too_many(self, path, tmp_path, capsys):
        assert main(["export", str(path), "x.png", "--output", str(tmp_path / "a.svg")]) == 2
        assert "holds a segmented image already" in capsys.readouterr().err

    def test_a_model_without_an_image_asks_for_it(self, tmp_path, capsys):
        assert main(["export", "nuclei", "--output", str(tmp_path / "a.svg")]) == 2
        assert "Give the image, too" in capsys.readouterr().err


def test_labels_of_any_resolution_are_made_from_the_file_alone(field, path, tmp_path):
    from swipe_core.images import read_label_map

    output = tmp_path / "labels.tif"
    assert main(["export", str(path), "--output", str(output), "--factor", "3"]) == 0
    written = read_label_map(output)
    expected = open_field(path).field.render(factor=3)
    np.testing.assert_array_equal(written.array, expected.array)
    assert main(["export", str(path), "--output", str(output), "--factor", "0"]) == 2
