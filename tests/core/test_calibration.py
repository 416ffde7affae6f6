"""Probabilities that come true: the temperature is found again, kept in the file, and decides nothing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from swipe_core.checkpoints.file import load_checkpoint, save_checkpoint
from swipe_core.coordinates import Affine, Grid
from swipe_core.data.cases import find_cases
from swipe_core.measure.calibration import Reliability, fitted_temperature
from swipe_core.prediction.calibration import iter_calibration
from swipe_core.prediction.predictor import Predictor
from swipe_core.progress import finish


def drawn(temperature, places=20_000):
    """Logits, and labels as the logits over a temperature make them likely."""
    random = np.random.default_rng(0)
    logits = random.normal(0, 3, (places, 3))
    chances = np.exp(logits / temperature)
    chances /= chances.sum(axis=1, keepdims=True)
    labels = (random.random((places, 1)) > chances.cumsum(axis=1)).sum(axis=1)
    return logits, labels


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.5])
def test_the_temperature_by_which_labels_were_drawn_is_found_again(temperature):
    logits, labels = drawn(temperature)
    found = fitted_temperature(logits, labels)
    assert found == pytest.approx(temperature, rel=0.05)
    before, after = (Reliability.of(logits, labels, each) for each in (1.0, found))
    assert after.error < 0.01
    assert temperature == 1 or before.error > 3 * after.error
    assert after.places.sum() == 2 * len(labels)


def test_a_field_divides_logits_by_its_temperature_and_decides_as_before(analytic_field, ball):
    plain = analytic_field(ball((6.0, 7.0, 8.0), 4.0), Grid((13, 15, 17), Affine.identity(3)))
    warm = replace(plain, temperature=2.0)
    points = np.random.default_rng(0).uniform(0, 12, (50, 3))
    odds = [np.diff(np.log(field.probabilities(points)), axis=1) for field in (plain, warm)]
    assert np.allclose(odds[1], odds[0] / 2, atol=1e-4)
    assert np.array_equal(plain.render().array, warm.render().array)
    strict = warm.with_config(warm.config.model_copy(update={"threshold": 0.8}))
    assert np.array_equal(strict.classify(points) == 1, warm.probabilities(points)[:, 1] >= 0.8)


def test_a_training_ends_with_a_temperature_in_its_best_model_and_older_files_have_none(
    disc_run, volume_checkpoint, tmp_path
):
    best = load_checkpoint(disc_run / "best.safetensors")
    assert best.content.temperature is not None
    save_checkpoint(tmp_path / "again.safetensors", replace(best, path=None))
    again = load_checkpoint(tmp_path / "again.safetensors")
    assert (again.content.temperature, again.digest) == (best.content.temperature, best.digest)
    assert load_checkpoint(volume_checkpoint).content.temperature is None


def test_what_is_said_of_boundaries_is_how_many_lie_in_the_band(disc_run, disc_folder):
    predictor = Predictor.load(disc_run / "best.safetensors", device="cpu")
    cases = find_cases(disc_folder, "val")
    found = finish(iter_calibration(predictor, cases))
    assert found.cases == len(cases) and 0 <= found.coverage <= 1
    assert found.after.error <= found.before.error + 0.01
    assert "in the band of 90%" in str(found)
