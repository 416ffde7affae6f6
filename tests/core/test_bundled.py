"""Every model that ships can be used and says what it is; names and folders lead to files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from swipe_core.checkpoints import library as bundled
from swipe_core.checkpoints.card import read_card
from swipe_core.checkpoints.file import load_checkpoint
from swipe_core.checkpoints.header import describe_checkpoint
from swipe_core.checkpoints.library import bundled_checkpoints, checkpoints_in, find_checkpoint
from swipe_core.coordinates import Affine
from swipe_core.errors import CheckpointError
from swipe_core.images import MedicalImage, Space
from swipe_core.prediction.predictor import Predictor

NAMES = sorted(bundled_checkpoints())
MODELS = Path(bundled.__file__).parents[1] / "models"


def touched(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


class TestShipped:
    def test_there_are_some(self):
        assert {"hippocampus", "nuclei"} <= set(NAMES)

    @pytest.mark.parametrize("name", NAMES)
    def test_each_is_called_as_its_file_and_small(self, name):
        path = bundled_checkpoints()[name]
        described = describe_checkpoint(path)
        assert described.name == path.stem == name
        assert described.bytes == path.stat().st_size <= 11_000_000

    @pytest.mark.parametrize("name", NAMES)
    def test_each_carries_its_card_with_its_validation_dice(self, name):
        described = describe_checkpoint(bundled_checkpoints()[name])
        card = described.card
        assert card is not None
        assert card == read_card(MODELS / "cards" / f"{name}.yaml").model_copy(update={"dice": card.dice})
        assert set(card.dice) in ({"mean"}, set(described.class_names))
        # Settings and cases chosen after the training only ever raise what it found.
        best = load_checkpoint(described.path).content.summary.best_dice
        assert best - 1e-3 <= np.mean(list(card.dice.values())) < 1
        assert "not a medical device" in card.intended_use
        assert card.validation and card.limits

    @pytest.mark.parametrize("name", NAMES)
    def test_each_holds_what_inference_needs_and_no_state_of_a_training(self, name):
        loaded = load_checkpoint(bundled_checkpoints()[name])
        assert loaded.state == loaded.progress == {}

    @pytest.mark.parametrize("name", NAMES)
    def test_each_segments_noise_by_its_name(self, name):
        predictor = Predictor.load(name, device="cpu")
        ndim, channels = predictor.content.model.ndim, predictor.content.model.channels
        array = np.random.default_rng(0).integers(0, 255, (*(20,) * ndim, channels), dtype=np.uint8)
        image = MedicalImage(
            array,
            Affine.identity(ndim),
            "millimeter",
            space=Space(is_anatomical=ndim == 3),
            channel_axis="colour" if channels == 3 else "channel",
        )
        field = predictor.field(image)
        assert field.render().shape == (20,) * ndim

    @pytest.mark.parametrize("name", NAMES)
    def test_each_stands_in_the_readme_beside_it_with_its_licence(self, name):
        (row,) = [
            line for line in (MODELS / "README.md").read_text("utf-8").splitlines() if f"| `{name}`" in line
        ]
        card = describe_checkpoint(bundled_checkpoints()[name]).card
        assert card is not None and card.licence.split(",")[0] in row

    @pytest.mark.parametrize("path", sorted((MODELS / "cards").iterdir()), ids=lambda path: path.stem)
    def test_each_card_is_whole_and_leaves_the_dice_to_the_release(self, path):
        assert read_card(path).dice == {}


class TestNames:
    def test_a_name_leads_to_the_file_that_ships(self):
        assert find_checkpoint("nuclei") == bundled_checkpoints()["nuclei"]

    def test_a_file_comes_before_a_name(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        own = touched(tmp_path / "nuclei")
        assert find_checkpoint("nuclei") == Path("nuclei")
        assert find_checkpoint(own) == own

    def test_a_folder_of_that_name_is_not_in_the_way(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "nuclei").mkdir()
        assert find_checkpoint("nuclei") == bundled_checkpoints()["nuclei"]

    @pytest.mark.parametrize(
        ("name", "hint"), [("hipocampus", " Did you mean 'hippocampus'?"), ("none.safetensors", ".")]
    )
    def test_an_unknown_name_is_answered_with_the_known_ones(self, name, hint):
        with pytest.raises(CheckpointError) as caught:
            find_checkpoint(name)
        text = str(caught.value)
        assert text.startswith(f"There is no checkpoint {name}: ") and text.endswith(hint)
        assert all(known in text for known in NAMES)


class TestFolders:
    def test_of_a_run_the_best_checkpoint_counts_and_else_the_last(self, tmp_path):
        best = touched(tmp_path / "done" / "best.safetensors")
        touched(tmp_path / "done" / "last.safetensors")
        last = touched(tmp_path / "begun" / "last.safetensors")
        assert checkpoints_in(tmp_path) == [last, best]

    def test_two_levels_are_searched_and_no_more(self, tmp_path):
        here, below, two = (touched(tmp_path / place / "a.safetensors") for place in ("", "run", "year/run"))
        touched(tmp_path / "much/too/deep/a.safetensors")
        assert checkpoints_in(str(tmp_path)) == sorted([here, below, two])

    def test_other_files_folders_and_unfinished_files_are_left_out(self, tmp_path):
        (tmp_path / "folder.safetensors").mkdir()
        touched(tmp_path / ".best.safetensors")
        touched(tmp_path / ".best.safetensors.12.partial")
        touched(tmp_path / "config.yaml")
        assert checkpoints_in(tmp_path) == []

    def test_a_folder_that_does_not_exist_holds_none(self, tmp_path):
        assert checkpoints_in(tmp_path / "none") == []

    def test_the_folder_that_ships_holds_what_has_a_name(self):
        assert checkpoints_in(MODELS) == sorted(bundled_checkpoints().values())
