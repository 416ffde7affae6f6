"""Laws of learning from strokes: encoded once, answered in a moment, and kept as any other model."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from swipe_core.checkpoints.file import load_checkpoint, save_checkpoint
from swipe_core.coordinates import Affine
from swipe_core.data.labelled import LabelledImage
from swipe_core.data.labels import IGNORED, LabelConfig
from swipe_core.errors import DataError, ImageError
from swipe_core.images import LabelMap, MedicalImage, Space
from swipe_core.inference.config import InferenceConfig
from swipe_core.inference.field_file import open_field, save_field
from swipe_core.measure.metrics import dice
from swipe_core.networks.pixel_classifier import PixelClassifier, PixelClassifierConfig, ScaleSpace
from swipe_core.prediction.predictor import Predictor
from swipe_core.progress import finish
from swipe_core.training import strokes
from swipe_core.training.strokes import StrokeLearner, stroke_content

ONE = LabelConfig(class_names=("ball",), ignore_label=IGNORED)
TWO = LabelConfig(class_names=("ball", "box"), ignore_label=IGNORED)
EXTENT = {2: (60, 70), 3: (10, 36, 44)}


def ball(ndim: int, centre: float = 0.5, seed: int = 0) -> tuple[MedicalImage, np.ndarray]:
    """A bright ball in noise, and where it is."""
    shape = EXTENT[ndim]
    places = np.stack(np.meshgrid(*(np.linspace(0, 1, n) for n in shape), indexing="ij"), axis=-1)
    inside = np.linalg.norm(places - centre, axis=-1) < 0.3
    array = inside + 0.3 * np.random.default_rng(seed).standard_normal(shape)
    return MedicalImage(array[..., None].astype(np.float32), Affine.identity(ndim), "pixel"), inside


def painted_on(inside: np.ndarray) -> np.ndarray:
    """A stroke in the ball and one in the background, on the middle slice of a volume."""
    painted = np.full(inside.shape, IGNORED, np.uint8)
    plane = painted[len(painted) // 2] if inside.ndim == 3 else painted
    rows, columns = plane.shape
    plane[rows // 2, columns // 2 - 8 : columns // 2 + 8] = 1
    plane[2, 3:-3] = 0
    return painted


def labelled(image: MedicalImage, painted: np.ndarray) -> LabelledImage:
    return LabelledImage("ball", image, LabelMap(painted, image.affine, image.unit, space=image.space))


def learner_on(
    image: MedicalImage, painted: np.ndarray, labels: LabelConfig = ONE, **kwargs
) -> StrokeLearner:
    learner = StrokeLearner(stroke_content([labelled(image, painted)], labels, "mine"), **kwargs)
    finish(learner.iter_encode("ball", image))
    learner.paint("ball", painted)
    return learner


def weights_of(learner: StrokeLearner) -> dict[str, torch.Tensor]:
    return dict(learner.checkpoint().weights)


@pytest.mark.parametrize("ndim", [2, 3])
def test_two_strokes_segment_an_image_and_another_like_it(ndim):
    image, inside = ball(ndim)
    learner = learner_on(image, painted_on(inside))
    finish(learner.iter_learn(60))
    assert dice(learner.field("ball").render().array == 1, inside) > 0.8
    other, elsewhere = ball(ndim, 0.42, seed=1)
    finish(learner.iter_encode("other", other))
    assert dice(learner.field("other").render().array == 1, elsewhere) > 0.75


def test_the_kept_model_says_what_was_seen(tmp_path):
    image, inside = ball(2)
    learner = learner_on(image, painted_on(inside))
    finish(learner.iter_learn(20))
    save_checkpoint(tmp_path / "mine.safetensors", learner.checkpoint())
    checkpoint = load_checkpoint(tmp_path / "mine.safetensors")
    assert checkpoint.content.summary.painted_voxels == {"background": 64, "ball": 16}
    seen, kept = (
        learner.field("ball").render(factor=2),
        Predictor.load(checkpoint).field(image).render(factor=2),
    )
    assert np.array_equal(seen.array, kept.array)


def test_the_answer_of_the_moment_is_the_kept_one_without_its_smoothing():
    image, inside = ball(3)
    learner = learner_on(image, painted_on(inside))
    finish(learner.iter_learn(10))
    kept = learner.field("ball")
    assert kept.config.smoothing > 0
    quick, plain = learner.quick_field("ball"), kept.with_config(InferenceConfig())
    points = np.argwhere(inside)[:50].astype(float)
    assert np.array_equal(quick.logits(points, "voxel"), plain.logits(points, "voxel"))


def test_the_encoder_stays_as_it_was_trained():
    image, inside = ball(2)
    learner = learner_on(image, painted_on(inside))
    before = weights_of(learner)
    finish(learner.iter_learn(10))
    changed = {name for name, tensor in weights_of(learner).items() if not torch.equal(tensor, before[name])}
    assert changed and all(name.startswith("decoder.") for name in changed)


def test_the_same_seed_learns_the_same_and_another_one_another():
    image, inside = ball(2)
    learned = []
    for seed in (0, 0, 1):
        learner = learner_on(image, painted_on(inside), seed=seed)
        finish(learner.iter_learn(10))
        finish(learner.iter_learn(10))
        learned.append(weights_of(learner)["decoder.output.weight"])
    assert torch.equal(learned[0], learned[1]) and not torch.equal(learned[0], learned[2])


def test_paint_takes_the_place_of_what_was_painted_before():
    image, inside = ball(2)
    learner = learner_on(image, painted_on(inside))
    finish(learner.iter_learn(40))
    assert learner.field("ball").render().array[30, 35] == 1
    inverted = painted_on(inside)
    swapped = np.where(inverted == IGNORED, IGNORED, 1 - inverted).astype(np.uint8)
    learner.paint("ball", swapped)
    finish(learner.iter_learn(80))
    assert learner.field("ball").render().array[30, 35] == 0
    learner.paint("ball", np.full_like(swapped, IGNORED))
    assert learner.painted == {}


def test_learning_can_be_stopped_between_steps_and_what_was_learned_stays():
    image, inside = ball(2)
    learner = learner_on(image, painted_on(inside))
    work = learner.iter_learn(200)
    next(work)
    work.close()
    assert learner.steps == strokes.STEPS_AT_ONCE
    assert learner.field("ball").render().array.shape == inside.shape


def test_another_class_begins_anew_on_what_is_encoded():
    image, inside = ball(2)
    painted = painted_on(inside)
    learner = learner_on(image, painted)
    finish(learner.iter_learn(10))
    learner.set_labels(TWO)
    assert learner.steps == 0 and learner.knows("ball")
    painted[-3, 3:-3] = 2
    learner.paint("ball", painted)
    finish(learner.iter_learn(40))
    assert learner.field("ball").class_names == ("ball", "box")
    assert learner.painted == {"background": 64, "ball": 16, "box": 64}


def test_a_released_image_is_learned_from_and_a_forgotten_one_is_not():
    image, inside = ball(2)
    learner = learner_on(image, painted_on(inside))
    learner.release("ball")
    finish(learner.iter_learn(10))
    learner.keep_only([])
    with pytest.raises(DataError, match="Paint at least two classes"):
        finish(learner.iter_learn())


def test_strokes_on_a_volume_count_where_they_were_painted_whatever_its_orientation():
    image, inside = ball(3)
    flipped = MedicalImage(
        np.ascontiguousarray(image.array[:, ::-1]),
        Affine(np.diag([1.0, -1.0, 1.0, 1.0])),
        unit="millimeter",
        space=Space(is_anatomical=True),
    )
    painted = np.ascontiguousarray(painted_on(inside)[:, ::-1])
    learner = learner_on(flipped, painted)
    finish(learner.iter_learn(60))
    assert dice(learner.field("ball").render().array == 1, inside[:, ::-1]) > 0.85


@pytest.mark.parametrize("is_anatomical", [True, False])
def test_in_a_volume_of_a_patient_what_lies_far_from_the_strokes_of_a_class_is_hardly_of_it(is_anatomical):
    shape = (10, 30, 90)
    places = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), axis=-1)
    painted_one, other = (np.linalg.norm(places - (5, 15, x), axis=-1) < 5 for x in (15, 75))
    array = (painted_one | other) + 0.1 * np.random.default_rng(0).standard_normal(shape)
    space = Space(is_anatomical=is_anatomical)
    image = MedicalImage(array[..., None].astype(np.float32), Affine.identity(3), "millimeter", space=space)
    painted = np.full(shape, IGNORED, np.uint8)
    painted[5, 15, 11:20], painted[7, 16, 12:18], painted[5, 2, 2:-2] = 1, 1, 0
    learner = learner_on(image, painted)
    finish(learner.iter_learn())
    found = learner.quick_field("ball").render().array == 1
    assert found[painted_one].mean() > 0.6
    assert (found[other].mean() < 0.3) == is_anatomical


def test_an_image_that_is_too_large_is_refused_in_one_sentence(monkeypatch):
    image, inside = ball(2)
    monkeypatch.setattr(strokes, "MOST_VOXELS", 1000)
    with pytest.raises(ImageError, match="crop it, or press Train"):
        learner_on(image, painted_on(inside))


def test_the_position_of_a_point_is_that_in_the_whole_volume_not_in_its_window():
    model = PixelClassifier(PixelClassifierConfig(ndim=3, channels=1, octaves=2, position=True)).eval()
    here, there = torch.rand(2, 1, 5, 3).unbind(0)
    features = model.features(model.encode(torch.rand(1, 1, 2, 16, 16)), here, there)
    assert torch.equal(features[..., -3:], there)


def corrected_ball() -> tuple[StrokeLearner, np.ndarray, np.ndarray]:
    """A learner to whom a part of the ball was said to be background; the paint before and after that."""
    image, inside = ball(2)
    before = painted_on(inside)
    learner = learner_on(image, before)
    finish(learner.iter_learn())
    after = before.copy()
    after[20, 28:40] = 0
    assert (learner.field("ball").render().array[20, 28:40] == 1).all()
    learner.paint("ball", after)
    finish(learner.iter_learn())
    return learner, before, after


def pulls(learner: StrokeLearner, points: list[list[float]]) -> np.ndarray:
    """What the quick answer has beyond the decoder's."""
    return learner.quick_field("ball").logits(points, "voxel") - learner.field("ball").logits(points, "voxel")


def test_a_correction_weighs_more_near_itself_and_nothing_far_away():
    learner, _, _ = corrected_ball()
    here, far = pulls(learner, [[20, 34], [50, 34]])
    assert here[0] == pytest.approx(strokes.PULL, rel=0.1) and here[1] == 0
    assert np.abs(far).max() < 1e-3
    assert (learner.quick_field("ball").render().array[20, 28:40] == 0).all()


def test_a_correction_that_is_undone_weighs_nothing_and_the_answer_is_the_one_before():
    learner, before, _ = corrected_ball()
    learner.paint("ball", before)
    finish(learner.iter_learn())
    assert not pulls(learner, [[20, 34], [50, 34]]).any()
    other = learner_on(ball(2)[0], before)
    finish(other.iter_learn())
    assert torch.equal(
        weights_of(learner)["decoder.output.weight"], weights_of(other)["decoder.output.weight"]
    )


def test_paint_on_the_right_answer_is_no_correction():
    image, inside = ball(2)
    learner = learner_on(image, painted_on(inside))
    finish(learner.iter_learn())
    more = painted_on(inside)
    more[-3, 3:-3] = 0
    learner.paint("ball", more)
    finish(learner.iter_learn())
    assert not pulls(learner, [[57, 30], [30, 35]]).any()


def test_an_answer_with_corrections_is_exported_as_it_was_seen(tmp_path):
    learner, _, _ = corrected_ball()
    seen = learner.quick_field("ball")
    save_field(tmp_path / "seen.swipe", seen, "ball", ["#ff0000"])
    opened = open_field(tmp_path / "seen.swipe").field
    points = np.argwhere(np.ones((60, 70)))[::7].astype(float)
    np.testing.assert_allclose(opened.logits(points, "voxel"), seen.logits(points, "voxel"), atol=0.05)


class TestScaleSpace:
    def test_a_constant_image_has_neither_slope_nor_curvature(self):
        for features in ScaleSpace(1, 3)(torch.full((1, 1, 16, 24), 2.0)):
            torch.testing.assert_close(features[:, -4], torch.full_like(features[:, -4], 2.0))
            assert features[:, -3:].abs().max() < 1e-3

    def test_a_ramp_has_its_slope_at_every_scale_in_voxels_of_the_map(self):
        ramp = torch.arange(64.0).expand(1, 1, 64, 64)
        for octave, features in enumerate(ScaleSpace(1, 3)(ramp)):
            middle = features[0, -3, 6:-6, 6:-6]
            torch.testing.assert_close(middle, torch.full_like(middle, 2.0**octave), atol=1e-2, rtol=1e-3)

    def test_turning_the_image_turns_the_features(self):
        image = torch.randn(1, 2, 32, 32, generator=torch.Generator().manual_seed(0))
        for turned, plain in zip(
            ScaleSpace(2, 3)(image.rot90(1, (2, 3))), ScaleSpace(2, 3)(image), strict=True
        ):
            torch.testing.assert_close(turned, plain.rot90(1, (2, 3)), atol=1e-4, rtol=1e-3)
