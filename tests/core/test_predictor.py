"""A predictor encodes an image to the end, whatever the memory holds, and says what it did about it."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from swipe_core.checkpoints.file import load_checkpoint
from swipe_core.coordinates import Affine
from swipe_core.data.augmentation import SpatialTransform
from swipe_core.data.preprocessing import preprocess
from swipe_core.errors import CheckpointError, ConfigError, ImageError
from swipe_core.images import MedicalImage
from swipe_core.inference.config import InferenceConfig
from swipe_core.inference.field import OccupancyField
from swipe_core.networks.encoding import FeatureMaps
from swipe_core.networks.registry import build_network
from swipe_core.networks.segmenter import Segmenter
from swipe_core.prediction import predictor as module
from swipe_core.prediction.predictor import Predictor
from swipe_core.progress import Notice, Progress, finish, only_notices

OUT_OF_MEMORY = torch.OutOfMemoryError("CUDA out of memory.")


class BySide(Segmenter):
    """Knows of an image only where in it a point lies."""

    keeps_windows = True

    def __init__(self, ndim: int, channels: int, classes: int) -> None:
        super().__init__()
        self.ndim, self.channels, self.classes = ndim, channels, classes

    def encode(self, images):
        shape = tuple(images.shape[2:])
        return FeatureMaps(image_shape=shape, padded_shape=shape, maps=(images,))

    def decode(self, encoding, points_image, points_source=None):
        side = points_source @ torch.tensor([1.0, 2.0])
        return torch.stack([torch.zeros_like(side), side], dim=-1)


@pytest.fixture
def predictor_with(disc_run) -> Callable[..., Predictor]:
    """A function from settings of inference to a predictor with windows of 24 x 24."""
    checkpoint = load_checkpoint(disc_run / "best.safetensors")
    preprocessing = checkpoint.content.preprocessing.model_copy(update={"crop_size": (24, 24)})
    content = checkpoint.content.model_copy(update={"preprocessing": preprocessing})

    def build(**settings) -> Predictor:
        return Predictor(checkpoint.build(), content, config=InferenceConfig(**settings))

    return build


class SmallMachine:
    """Stands between predictor and network: a GPU, and a CPU, that hold only so many windows at once.

    Calls are kept as (device, windows). Whatever is to run on the GPU runs on the CPU.
    """

    def __init__(self, gpu: Callable[[int], int] = lambda call: 99, cpu: int = 99) -> None:
        self.capacity = {"cuda": gpu, "cpu": lambda call: cpu}
        self.calls: list[tuple[str, int]] = []
        self.embed = module._embed

    def __call__(self, model, device, images):
        self.calls.append((device.type, len(images)))
        if len(images) > self.capacity[device.type](len(self.calls)):
            raise OUT_OF_MEMORY
        return self.embed(model, torch.device("cpu"), images)


@pytest.fixture
def machine(monkeypatch):
    """A function that puts a small machine under the predictors of a test."""

    def build(**capacity) -> SmallMachine:
        small = SmallMachine(**capacity)
        monkeypatch.setattr(module, "_embed", small)
        return small

    return build


def on_gpu(predictor: Predictor) -> Predictor:
    """As if it lay on a GPU."""
    predictor.device = torch.device("cuda")
    return predictor


def scene(shape: tuple[int, int] = (45, 58)) -> MedicalImage:
    array = np.random.default_rng(0).integers(0, 255, (*shape, 1), dtype=np.uint8)
    return MedicalImage(array, Affine.identity(2), "pixel")


def reported(predictor: Predictor, image: MedicalImage) -> tuple[OccupancyField, list, list[str]]:
    """The field, the numbers of encoded windows that were reported, and the notices."""
    reports: list = []
    field = finish(predictor.iter_field(image), reports.append)
    assert all(isinstance(report, (Progress, Notice)) for report in reports)
    done = [report.done for report in reports if isinstance(report, Progress)]
    return field, done, [report.message for report in reports if isinstance(report, Notice)]


def assert_same_field(one: OccupancyField, other: OccupancyField) -> None:
    points = np.random.default_rng(1).uniform((0, 0), np.subtract(one.grid.shape, 1), (200, 2))
    assert [w.block for w in one.windows] == [w.block for w in other.windows]
    np.testing.assert_allclose(one.logits(points, "voxel"), other.logits(points, "voxel"), atol=1e-4)


class TestBatches:
    def test_windows_are_encoded_in_batches_with_the_same_result_as_one_by_one(self, predictor_with, machine):
        small = machine()
        single, done, notices = reported(predictor_with(window_batch=1), scene())
        assert (done, notices) == (list(range(1, 13)), [])
        for at in (lambda predictor: predictor, on_gpu):
            field, done, notices = reported(at(predictor_with(window_batch=5)), scene())
            assert (done, notices) == ([5, 10, 12], [])
            assert_same_field(field, single)
        batches = [(device, count) for device in ("cpu", "cuda") for count in (5, 5, 2)]
        assert small.calls == [("cpu", 1)] * 12 + batches

    def test_a_cpu_takes_only_so_many_voxels_at_once(self, predictor_with, machine, monkeypatch):
        monkeypatch.setattr(module, "CPU_BATCH_VOXELS", 3 * 24 * 24)
        small = machine()
        for size in ("auto", 5, 2):
            reported(predictor_with(window_batch=size), scene((24, 58)))
        assert small.calls == [("cpu", count) for count in (3, 1, 3, 1, 2, 2)]

    def test_the_progress_counts_windows(self, predictor_with):
        (first, *_, last) = predictor_with(window_batch=1).iter_field(scene())
        assert first == Progress("Encoding", 1, 12) and last == Progress("Encoding", 12, 12)

    def test_a_field_keeps_what_decoding_needs_and_not_the_patch_embeddings(self, predictor_with):
        embeddings = predictor_with().field(scene()).windows[0].encoding
        assert not hasattr(embeddings, "patch")
        assert embeddings.patch_grid == (3, 3)


def test_where_only_a_region_was_encoded_the_rest_is_background(predictor_with):
    image, predictor = scene((90, 90)), predictor_with()
    prepared = module.preprocess(image, predictor.content.preprocessing)
    field = finish(predictor.iter_encoded(prepared, image.grid, image.grid.window((0, 0), (5, 5))))
    near, far = np.array([[2.0, 3.0], [4.0, 1.0]]), np.array([[80.0, 85.0], [70.0, 60.0]])
    assert np.isfinite(field.logits(near, "voxel")).all()
    np.testing.assert_allclose(
        field.logits(near, "voxel"), predictor.field(image).logits(near, "voxel"), atol=1e-4
    )
    assert not np.isfinite(field.logits(far, "voxel")).any()
    assert (field.classify(far, "voxel") == 0).all()


class TestSmallMemory:
    @pytest.mark.parametrize(
        ("capacity", "calls", "told"),
        [
            (3, [8, 4, 2, 2, 2, 2, 2, 2], "2 windows"),
            (4, [8, 4, 4, 4], "4 windows"),
            (1, [8, 4, 2, *[1] * 12], "1 window"),
        ],
    )
    def test_fewer_windows_are_encoded_at_once_and_one_notice_says_so(
        self, predictor_with, machine, capacity, calls, told
    ):
        plain = predictor_with().field(scene())
        small = machine(gpu=lambda call: capacity)
        field, done, notices = reported(on_gpu(predictor_with(window_batch=8)), scene())
        assert small.calls == [("cuda", count) for count in calls]
        assert notices == [
            f"The memory of cuda holds {told} at once and not more: going on with that, more slowly."
        ]
        assert done[-1] == 12
        assert_same_field(field, plain)

    def test_memory_that_shrinks_later_costs_no_window_that_is_encoded(self, predictor_with, machine):
        plain = predictor_with().field(scene())
        small = machine(gpu=lambda call: 4 if call <= 2 else 2)
        field, done, notices = reported(on_gpu(predictor_with(window_batch=4)), scene())
        assert small.calls == [("cuda", count) for count in (4, 4, 4, 2, 2)]
        assert done == [4, 8, 10, 12] and len(notices) == 1
        assert_same_field(field, plain)

    def test_where_no_window_fits_on_the_gpu_the_cpu_does_the_rest(self, predictor_with, machine):
        plain = predictor_with().field(scene())
        small = machine(gpu=lambda call: 2 if call <= 3 else 0)
        predictor = on_gpu(predictor_with(window_batch=2))
        field, done, notices = reported(predictor, scene())
        assert small.calls == [("cuda", 2)] * 4 + [("cuda", 1)] + [("cpu", 1)] * 6
        assert notices == ["The memory of cuda does not hold a window: going on with the CPU."]
        assert done == [2, 4, 6, 7, 8, 9, 10, 11, 12]
        assert_same_field(field, plain)

    def test_the_move_to_the_cpu_leaves_predictor_and_earlier_fields_as_they_were(
        self, predictor_with, machine
    ):
        predictor = on_gpu(predictor_with(window_batch=2))
        machine()
        earlier = predictor.field(scene())
        machine(gpu=lambda call: 0)
        moved = finish(predictor.iter_field(scene()))
        assert predictor.device.type == "cuda" and predictor.model is earlier.model
        assert moved.model is not earlier.model
        ours, theirs = (dict(f.model.named_parameters()) for f in (moved, earlier))
        assert ours.keys() == theirs.keys() and ours
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)
        assert not any(ours[name] is theirs[name] for name in ours)
        assert_same_field(moved, earlier)

    def test_each_image_starts_on_the_device_that_was_chosen(self, predictor_with, machine):
        predictor = on_gpu(predictor_with(window_batch=8))
        machine(gpu=lambda call: 0)
        finish(predictor.iter_field(scene()))
        small = machine()
        finish(predictor.iter_field(scene()))
        assert small.calls == [("cuda", 8), ("cuda", 4)]

    @pytest.mark.parametrize("start", ["cpu", "cuda"])
    def test_a_window_that_fits_nowhere_ends_in_a_sentence(self, predictor_with, machine, start):
        machine(gpu=lambda call: 0, cpu=0)
        predictor = predictor_with()
        predictor.device = torch.device(start)
        with pytest.raises(ImageError) as caught:
            finish(predictor.iter_field(scene()))
        assert str(caught.value) == (
            "The image does not fit into memory, even in windows of 24 x 24 voxels one by one: close other "
            "programs, or segment a region of it."
        )

    def test_other_faults_are_not_taken_for_a_lack_of_memory(self, predictor_with, monkeypatch):
        def broken(*_):
            raise RuntimeError("a fault")

        monkeypatch.setattr(module, "_embed", broken)
        with pytest.raises(RuntimeError, match="a fault"):
            predictor_with().field(scene())

    def test_without_a_reader_of_reports_a_notice_is_a_warning(self, predictor_with, machine):
        machine(gpu=lambda call: 1)
        with pytest.warns(UserWarning, match="holds 1 window at once"):
            on_gpu(predictor_with(window_batch=8)).field(scene())
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            predictor_with().field(scene())


class TestLoading:
    def test_a_model_that_ships_is_loaded_by_its_name(self):
        assert Predictor.load("nuclei", device="cpu").content.name == "nuclei"

    def test_a_name_that_nobody_knows_is_refused(self):
        with pytest.raises(CheckpointError, match="Did you mean 'nuclei'"):
            Predictor.load("nuclej", device="cpu")


def test_inside_larger_work_notices_are_passed_on_and_progress_is_not():
    def work():
        yield Progress("Encoding", 1, 2)
        yield Notice("slower")
        yield Progress("Encoding", 2, 2)
        return "field"

    def larger():
        result = yield from only_notices(work())
        yield Progress("Cases", 1, 1)
        return result

    reports: list = []
    assert finish(larger(), reports.append) == "field"
    assert reports == [Notice("slower"), Progress("Cases", 1, 1)]


@pytest.mark.gpu
def test_on_a_real_gpu_too_small_for_a_batch_the_field_is_the_same(predictor_with):
    plain = predictor_with(window_batch=1).field(scene((300, 400)))
    predictor = predictor_with(window_batch=4096)
    predictor = Predictor(predictor.model, predictor.content, device="cuda", config=predictor.config)
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(60 * 2**20 / total)
    try:
        field, done, notices = reported(predictor, scene((300, 400)))
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert done[-1] == len(plain.windows) and notices
    points = np.random.default_rng(1).uniform(0, 299, (200, 2))
    np.testing.assert_allclose(field.logits(points, "voxel"), plain.logits(points, "voxel"), atol=1e-2)


class TestMirroredAxes:
    @pytest.mark.parametrize("axis", [0, 1])
    def test_of_one_window_it_is_the_mean_of_what_training_asks_about_the_image_and_about_its_mirror_image(
        self, predictor_with, axis
    ):
        # Augmentation mirrors the crop and its own frame, and leaves p^S where the point lies in the source.
        image, predictor = scene((24, 24)), predictor_with(mirrored_axes=(axis,))
        signs, origin = np.ones(2), np.zeros(2)
        signs[axis], origin[axis] = -1, 23
        flip = SpatialTransform(Affine.from_parts(np.diag(signs), origin), (24, 24), (24, 24))
        tensor = preprocess(image, predictor.content.preprocessing).tensor
        source = torch.rand(1, 200, 2, generator=torch.Generator().manual_seed(1)) * 1.8 - 0.9
        model = predictor.model
        assert model.condition_on_source
        with torch.no_grad():
            upright = model.decode(model.encode(tensor[None]), source, source)[0]
            encoded = model.encode(flip.apply_image(tensor)[None])
            mirrored = model.decode(encoded, flip.to_output_image(source), source)[0]
        averaged = predictor.field(image).logits(source[0].numpy(), "image")
        np.testing.assert_allclose(averaged, 0.5 * (upright + mirrored), atol=1e-4)
        assert (upright - mirrored).abs().max() > 1e-2

    @pytest.mark.parametrize("axes", [(0,), (1,), (0, 1)])
    @pytest.mark.parametrize("shape", [(48, 60), (24, 24), (20, 23)], ids=["windows", "one", "padded"])
    def test_what_a_model_says_by_the_place_in_the_image_alone_does_not_change(
        self, predictor_with, axes, shape
    ):
        """Left stays left: were p^S mirrored too, the mean would no longer know the sides apart."""

        def field_of(**settings):
            predictor = predictor_with(**settings)
            predictor.model = BySide(2, 1, 2)
            return predictor.field(scene(shape))

        points = np.random.default_rng(1).uniform(-0.9, 0.9, (200, 2))
        plain, averaged = field_of(), field_of(mirrored_axes=axes)
        assert len(averaged.windows) == 2 ** len(axes) * len(plain.windows)
        expected = np.stack([np.zeros(200), points @ [1.0, 2.0]], axis=-1)
        np.testing.assert_allclose(plain.logits(points, "image"), expected, atol=1e-5)
        np.testing.assert_allclose(averaged.logits(points, "image"), expected, atol=1e-5)

    @pytest.mark.parametrize("axes", [(0,), (1,), (0, 1)])
    @pytest.mark.parametrize("shape", [(48, 60), (24, 24), (20, 23)], ids=["windows", "one", "padded"])
    def test_without_the_place_in_the_image_the_field_of_a_mirrored_image_is_the_mirrored_field(
        self, predictor_with, axes, shape
    ):
        predictor = predictor_with(mirrored_axes=axes)
        config = predictor.content.model.model_copy(update={"condition_on_source": False})
        predictor.model = build_network(config).for_inference()
        image = scene(shape)
        mirrored = replace(image, array=np.flip(image.array, axes).copy())
        points = np.random.default_rng(1).uniform(-0.9, 0.9, (200, 2))
        signs = np.array([-1 if axis in axes else 1 for axis in range(2)])
        field, other = predictor.field(image), predictor.field(mirrored)
        np.testing.assert_allclose(
            field.logits(points, "image"), other.logits(points * signs, "image"), atol=2e-4
        )

    def test_an_axis_that_the_model_does_not_have_is_refused(self, predictor_with):
        with pytest.raises(ConfigError, match=r"\[2\], but a 2D model has the axes 0 to 1\."):
            predictor_with(mirrored_axes=(2,))

    def test_an_axis_that_is_named_twice_counts_once(self):
        assert InferenceConfig(mirrored_axes=(1, 0, 1)).mirrored_axes == (0, 1)
