"""Laws of the teacher: it is heard where nobody contradicts it, never changes, and comes back with a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from swipe_core.checkpoints.file import Checkpoint, load_checkpoint
from swipe_core.data.batch import Batch
from swipe_core.data.cases import Case, find_cases
from swipe_core.data.dataset import TrainingSet
from swipe_core.data.labelled import read_labelled
from swipe_core.data.labels import IGNORED, LabelConfig
from swipe_core.errors import ConfigError
from swipe_core.networks.swipe.build import build_swipe
from swipe_core.progress import finish
from swipe_core.training.config import ExperimentConfig
from swipe_core.training.distillation import MASK_RADIUS, Teacher
from swipe_core.training.folder import RunFolder
from swipe_core.training.learner import Learner
from swipe_core.training.losses import distillation_sums, mean_of, swipe_loss
from swipe_core.training.optimisation import build_optimiser
from swipe_core.training.reports import StepReport
from swipe_core.training.runner import Trainer
from swipe_core.training.strokes import StrokeLearner, stroke_content

CPU = torch.device("cpu")
RETAINED = {"loss.retention_weight": 1.0, "batch.pairs": 32, "batch.size": 2, "training.steps": 4}


@pytest.fixture(scope="module")
def disc(disc_folder) -> list[Case]:
    return find_cases(disc_folder, "train")


@pytest.fixture(scope="module")
def trained(disc_run) -> Checkpoint:
    """A model that knows the disc as "foreground"."""
    return load_checkpoint(disc_run / "best.safetensors")


def copied(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in tensors.items()}


def assert_same(one: Mapping[str, Tensor], two: Mapping[str, Tensor]) -> None:
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)


def batches_of(config: ExperimentConfig, cases: list[Case]) -> TrainingSet:
    parts = {name: getattr(config, name) for name in ("preprocessing", "labels", "sampling", "augmentation")}
    batches = TrainingSet(cases, **parts, batch=config.batch, seed=config.training.seed)
    list(batches.load())
    return batches


def teacher_of(config: ExperimentConfig, its: tuple[str, ...], ours: tuple[str, ...]) -> Teacher:
    torch.manual_seed(0)
    return Teacher(build_swipe(config.model.model_copy(update={"classes": 1 + len(its)})), its, ours)


# --- What it says, in our classes ---------------------------------------------------------------


@pytest.fixture(scope="module")
def asked() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, 1, 32, 32, generator=generator), 2 * torch.rand(2, 50, 2, generator=generator) - 1


@pytest.mark.parametrize(
    ("its", "ours", "rows"),
    [
        (("a", "b"), ("a", "b"), ((0,), (1,), (2,))),
        (("a", "b"), ("b", "a"), ((0,), (2,), (1,))),
        (("a", "b"), ("b",), ((0, 1), (2,))),
        (("a", "b"), ("c", "b"), ((0, 1), (), (2,))),
        (("a",), ("b", "c"), ((0, 1), (), ())),
    ],
    ids=["same", "permuted", "one-fewer", "one-new", "all-new"],
)
def test_classes_are_matched_by_name_and_the_others_are_background(tiny_config, asked, its, ours, rows):
    teacher = teacher_of(tiny_config(), its, ours)
    images, points = asked
    logits = teacher.model.decode(teacher.model.encode(images), points, points, blending="nearest")
    its_word = logits.softmax(dim=-1)
    said = teacher.probabilities(images, points, points)
    assert said.shape == (2, 50, 1 + len(ours))
    for our_class, known_as in enumerate(rows):
        expected = sum((its_word[..., row] for row in known_as), torch.zeros(2, 50))
        torch.testing.assert_close(said[..., our_class], expected)
    torch.testing.assert_close(said.sum(dim=-1), torch.ones(2, 50))


# --- Whether it is heard ------------------------------------------------------------------------


def probabilities(*classes: int, count: int = 2) -> Tensor:
    """The word of a teacher that is sure of a class at each point of one image."""
    return 0.8 * torch.nn.functional.one_hot(torch.tensor([classes]), count).float() + 0.2 / count


def masked(teacher: Teacher, said, points, said_at_labels, labelled, classes) -> list[bool]:
    """For points on a line of the image."""
    x, y = (torch.tensor([[[0.0, each] for each in line]]) for line in (points, labelled))
    return teacher.mask(said, x, said_at_labels, y, torch.tensor([classes]))[0].tolist()


@pytest.fixture(scope="module")
def same_classes(tiny_config) -> Teacher:
    return teacher_of(tiny_config(), ("a",), ("a",))


def test_it_is_not_heard_near_a_label_that_contradicts_it(same_classes):
    far = 2 * MASK_RADIUS
    points = [0.0, 0.5 * far, 0.99 * far, 1.01 * far, 2 * far]
    said = probabilities(0, 1, 0, 1, 0)
    wrong = masked(same_classes, said, points, probabilities(1), [0.0], [0])
    assert wrong == [False, False, False, True, True]
    right = masked(same_classes, said, points, probabilities(1), [0.0], [1])
    assert right == [True] * 5


def test_a_label_that_agrees_gives_no_word_back_that_another_one_took(same_classes):
    both = masked(same_classes, probabilities(1, 1), [0.0, 0.9], probabilities(1, 1), [0.05, 0.0], [1, 0])
    assert both == [False, True]


def test_contradictions_in_one_image_do_not_silence_it_in_another(same_classes):
    points, labelled = torch.zeros(2, 1, 2), torch.zeros(2, 1, 2)
    said = probabilities(1).expand(2, -1, -1)
    told = same_classes.mask(said, points, said, labelled, torch.tensor([[0], [1]]))
    assert told.tolist() == [[False], [True]]


def test_of_new_classes_its_background_means_nothing(tiny_config):
    teacher = teacher_of(tiny_config(), ("a",), ("a", "new"))
    said = probabilities(0, 1, 0, count=3)
    assert masked(teacher, said, [-0.9, 0.0, 0.9], probabilities(0, count=3), [0.5], [0]) == [
        False,
        True,
        False,
    ]
    # A class less is no new one.
    fewer = teacher_of(tiny_config(), ("a", "b"), ("a",))
    assert masked(fewer, probabilities(0, 1), [-0.9, 0.0], probabilities(0), [0.5], [0]) == [True, True]


# --- The loss -----------------------------------------------------------------------------------


def test_retention_is_the_cross_entropy_over_what_is_heard():
    logits = torch.tensor([[0.5, 0.5], [0.25, 0.75], [0.9, 0.1]]).log()[None]
    taught = torch.tensor([[[1.0, 0.0], [0.2, 0.8], [0.0, 1.0]]])
    entropy = -(taught * logits).sum(dim=-1)[0]
    for which in ([True, True, True], [True, False, True], [False, True, False]):
        told = mean_of(distillation_sums(logits, taught, torch.tensor([which])))
        assert told.item() == pytest.approx(entropy[torch.tensor(which)].mean().item())


def test_where_it_is_not_heard_at_all_retention_is_nothing_and_pulls_nowhere():
    logits = torch.randn(2, 7, 3, generator=torch.Generator().manual_seed(0)).requires_grad_()
    taught = torch.full((2, 7, 3), 1 / 3)
    loss = mean_of(distillation_sums(logits, taught, torch.zeros(2, 7, dtype=torch.bool)))
    loss.backward()
    assert loss.item() == 0 and not logits.grad.any()


def test_retention_is_least_where_the_network_says_what_the_teacher_says():
    generator = torch.Generator().manual_seed(1)
    taught = torch.randn(1, 20, 3, generator=generator).softmax(dim=-1)
    everywhere = torch.ones(1, 20, dtype=torch.bool)
    logits = taught.log().requires_grad_()
    loss = mean_of(distillation_sums(logits, taught, everywhere))
    loss.backward()
    assert logits.grad.abs().max() < 1e-6
    other = logits.detach() + 0.1 * torch.randn(1, 20, 3, generator=generator)
    assert mean_of(distillation_sums(other, taught, everywhere)) > loss


# --- In a step ----------------------------------------------------------------------------------


def test_no_gradient_reaches_the_teacher_and_no_step_changes_it(tiny_config, trained, disc):
    config = tiny_config(RETAINED)
    learner = Learner(config, CPU, start=trained)
    before = copied(learner.teacher.model.state_dict())
    assert_same(before, trained.weights)
    batches = batches_of(config, disc)
    for step in range(3):
        losses = learner.learn(batches[step], step, 0.01).losses
        assert losses["retention"] > 0
    assert not learner.teacher.model.training
    assert all(p.grad is None and not p.requires_grad for p in learner.teacher.model.parameters())
    assert_same(learner.teacher.model.state_dict(), before)
    assert any(not torch.equal(t, before[name]) for name, t in learner.model.state_dict().items())


def test_a_step_in_parts_is_the_step_of_the_whole_though_the_teacher_is_heard_about_some_more(
    tiny_config, trained, disc
):
    found = []
    for parts in (1, 2, 4):
        # Without statistics over the batch, which those of its parts differ from.
        changes = {"training.frozen_statistics": True, "training.accumulate": parts, "batch.size": 4}
        config = tiny_config(RETAINED | changes | {"training.clip_norm": 1e6})
        learner = Learner(config, CPU, start=trained)
        terms = learner.learn(batches_of(config, disc)[0], 0, 0.0).losses
        weights = [p.grad.flatten() for p in learner.model.parameters() if p.grad is not None]
        found.append((torch.cat(weights), terms))
    (whole, wanted), *others = found
    assert wanted["retention"] > 0
    for gradient, terms in others:
        assert (gradient - whole).norm() < 1e-4 * whole.norm()
        assert terms == pytest.approx(wanted, rel=1e-4)


@pytest.fixture(scope="module")
def answer(disc) -> Checkpoint:
    """What strokes on the disc have taught a pixel classifier."""
    labels = LabelConfig(class_names=("foreground",), ignore_label=IGNORED)
    case = read_labelled(disc[0], 2, LabelConfig(class_names=("foreground",)))
    learner = StrokeLearner(stroke_content([case], labels, "answer"))
    finish(learner.iter_encode("disc", case.image))
    learner.paint("disc", case.labels.array.astype(np.uint8))
    finish(learner.iter_learn(10))
    return learner.checkpoint()


def taught_by(answer: Checkpoint, tiny_config) -> ExperimentConfig:
    own = {
        "preprocessing.intensity": answer.content.preprocessing.intensity,
        "preprocessing.orientation": None,
    }
    return tiny_config(RETAINED | own)


def test_a_pixel_classifier_teaches_another_network_and_gives_it_no_weights(tiny_config, answer, disc):
    config = taught_by(answer, tiny_config)
    learner = Learner(config, CPU, start=answer)
    assert learner.inheritance is None
    assert_same(learner.teacher.model.state_dict(), answer.weights)
    assert_same(learner.model.state_dict(), Learner(config, CPU).model.state_dict())
    assert learner.learn(batches_of(config, disc)[0], 0, 0.01).losses["retention"] > 0


def test_a_run_that_a_pixel_classifier_teaches_goes_on_with_it(tiny_config, answer, disc, tmp_path):
    config = taught_by(answer, tiny_config)
    first = Trainer(config, disc, [], tmp_path, start=answer)
    work = first.run()
    while not isinstance(next(work), StepReport):
        pass
    work.close()
    second = Trainer(config, disc, [], tmp_path, resume=True)
    assert 0 < second.step < config.training.steps
    assert_same(second.learner.teacher.model.state_dict(), answer.weights)
    finish(second.run())


def test_a_pixel_classifier_that_takes_images_otherwise_cannot_teach(tiny_config, answer):
    with pytest.raises(ConfigError, match="on images that were taken otherwise"):
        Learner(tiny_config(RETAINED), CPU, start=answer)


def test_the_teacher_shares_no_memory_with_the_network(tiny_config, trained):
    learner = Learner(tiny_config(RETAINED), CPU, start=trained)
    own = {tensor.data_ptr() for tensor in learner.model.state_dict().values() if tensor.numel()}
    others = (learner.teacher.model.state_dict(), trained.weights)
    assert not own & {t.data_ptr() for tensors in others for t in tensors.values() if t.numel()}


@pytest.mark.parametrize("weight", [0.5, 2.0])
def test_the_total_holds_retention_by_its_weight(tiny_config, trained, disc, weight):
    config = tiny_config(RETAINED | {"loss.retention_weight": weight})
    told = Learner(config, CPU, start=trained).learn(batches_of(config, disc)[0], 0, 0.01).losses
    without = config.model_copy(update={"loss": config.loss.model_copy(update={"retention_weight": 0.0})})
    plain = Learner(without, CPU, start=trained).learn(batches_of(without, disc)[0], 0, 0.01).losses
    assert "retention" not in plain
    assert told["total"] == pytest.approx(plain["total"] + weight * told["retention"], rel=1e-5)
    assert told["patch"] == plain["patch"]


def test_with_retention_a_network_keeps_what_is_not_labelled(tiny_config, trained, disc):
    """Only background is labelled, in a corner: without the teacher, the disc is soon forgotten."""
    config = tiny_config(RETAINED | {"batch.pairs": 128, "training.frozen_statistics": True})
    grid = torch.linspace(-0.95, 0.95, 24)
    everywhere = torch.cartesian_prod(grid, grid)[None]
    corner = torch.rand(1, 64, 2, generator=torch.Generator().manual_seed(0)) * 0.2 - 1

    def cornered(batch: Batch) -> Batch:
        points = corner.expand(len(batch), -1, -1)
        return replace(
            batch,
            points_image=points,
            points_source=points,
            classes=torch.zeros(points.shape[:2], dtype=torch.int64),
        )

    kept = {}
    for weight in (0.0, 1.0):
        loss = config.loss.model_copy(update={"retention_weight": weight})
        learner = Learner(config.model_copy(update={"loss": loss}), CPU, start=trained)
        batches = batches_of(config.model_copy(update={"augmentation": None}), disc)
        image = batches[0].images[:1]
        for step in range(15):
            learner.learn(cornered(batches[step]), step, 0.02)
        model = learner.model.eval()
        with torch.no_grad():
            is_disc = model.decode(model.encode(image), everywhere).argmax(dim=-1)[0]
        kept[weight] = int((is_disc == 1).sum())
    area = torch.pi * 8.5**2 / 32**2 * (2 / 1.9) ** 2 * 24**2
    assert kept[1.0] > 0.7 * area and kept[0.0] < 0.4 * area


# --- In a run -----------------------------------------------------------------------------------


def state_of(folder: Path) -> Checkpoint:
    return load_checkpoint(folder / "last.safetensors")


def stopped_at(trainer: Trainer, step: int) -> None:
    work = trainer.run()
    next(report for report in work if isinstance(report, StepReport) and report.step == step)
    work.close()


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"training.averaging_steps": 3},
        {"labels.class_names": ("nucleus", "foreground"), "training.frozen_statistics": True},
    ],
    ids=["plain", "averaged", "with-a-new-class"],
)
def test_a_resumed_run_has_its_teacher_back_without_the_model_it_started_from(
    tmp_path, tiny_config, trained, disc, changes
):
    config = tiny_config(RETAINED | changes)
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    finish(Trainer(config, disc, [], whole, start=trained).run())
    stopped_at(Trainer(config, disc, [], broken, start=trained), 2)
    again = Trainer(config, disc, [], broken, resume=True)
    assert again.learner.teacher.classes == ("foreground",)
    assert_same(again.learner.teacher.model.state_dict(), trained.weights)
    finish(again.run())
    first, second = state_of(whole), state_of(broken)
    assert_same(first.weights, second.weights)
    assert_same(first.state, second.state)
    losses = [
        [record["losses"] for record in RunFolder(folder).records() if record["kind"] == "step"]
        for folder in (whole, broken)
    ]
    assert losses[0] == losses[1] and all("retention" in loss for loss in losses[0])


def test_what_is_kept_of_a_run_holds_no_teacher(tmp_path, tiny_config, trained, disc):
    result = finish(Trainer(tiny_config(RETAINED), disc, disc, tmp_path, start=trained).run())
    best = load_checkpoint(result.best)
    assert not best.state and best.weights.keys() == trained.weights.keys()


def test_without_a_weight_there_is_no_teacher_and_without_a_start_neither(
    tmp_path, tiny_config, trained, disc
):
    for name, changes, start in (("weight", {"loss.retention_weight": 0.0}, trained), ("start", {}, None)):
        trainer = Trainer(tiny_config(RETAINED | changes), disc, [], tmp_path / name, start=start)
        assert trainer.learner.teacher is None
        finish(trainer.run())
        assert not any(key.startswith("teacher.") for key in state_of(tmp_path / name).state)


def test_a_teacher_costs_no_random_numbers(tmp_path, tiny_config, trained, disc):
    """With a weight that is next to nothing, a run is as without it."""
    new = {"labels.class_names": ("nucleus",), "training.steps": 2, "batch.pairs": 8}
    weights = {}
    for weight in (0.0, 1e-30):
        config = tiny_config(RETAINED | new | {"loss.retention_weight": weight})
        finish(Trainer(config, disc, [], tmp_path / str(weight), start=trained).run())
        weights[weight] = state_of(tmp_path / str(weight)).weights
    assert_same(*weights.values())


def test_without_pairs_a_step_is_what_it_was_before_there_were_any(tiny_config, disc):
    """The paper's step, written down once more: loss at the labelled points, clipped gradient, AdamW."""
    config = tiny_config({"batch.size": 2})
    learner, batches = Learner(config, CPU), batches_of(config, disc)
    torch.manual_seed(config.training.seed)
    model = build_swipe(config.model).to(memory_format=torch.channels_last)
    optimiser = build_optimiser(model, config.training)
    for step in range(3):
        batch = batches[step]
        learner.learn(batch, step, 0.01)
        torch.manual_seed(config.training.seed * 1_000_003 + step)
        model.train()
        for group in optimiser.param_groups:
            group["lr"] = 0.01
        optimiser.zero_grad(set_to_none=True)
        images = batch.images.to(memory_format=torch.channels_last)
        prediction = model(images, batch.points_image, batch.points_source)
        swipe_loss(prediction, batch.classes, config.loss).total.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), config.training.clip_norm)
        optimiser.step()
    assert_same(learner.model.state_dict(), model.state_dict())


def test_a_teacher_of_another_network_is_refused_in_words(tiny_config, trained):
    """Most of its weights may be taken over all the same."""
    other = {"model.patch_hidden": (16, 16, 16)}
    plain = Learner(tiny_config(RETAINED | other | {"loss.retention_weight": 0.0}), CPU, start=trained)
    assert 0.5 < plain.inheritance.share < 1
    with pytest.raises(ConfigError, match="retention_weight.*discs") as error:
        Learner(tiny_config(RETAINED | other), CPU, start=trained)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("field", ["loss.retention_weight", "loss.likeness_weight"])
def test_a_loss_at_pairs_of_points_without_such_pairs_is_refused(tiny_config, field):
    with pytest.raises(ConfigError, match="batch.pairs"):
        tiny_config({field: 1.0, "batch.pairs": 0})
    assert tiny_config({field: 1.0, "batch.pairs": 1}).batch.pairs == 1
