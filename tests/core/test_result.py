"""An result is a sample of the field, whole or frame by frame, and every step on the way is told."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from swipe_core.coordinates import Affine
from swipe_core.errors import ImageError
from swipe_core.images import MedicalImage
from swipe_core.images.channels import Channels
from swipe_core.inference.field import OccupancyField
from swipe_core.inference.stack import FEWEST_POINTS, iter_sampled
from swipe_core.prediction.predictor import Predictor, notices_of_channels
from swipe_core.prediction.request import Request
from swipe_core.prediction.result import iter_result
from swipe_core.progress import Notice, Progress, finish

TURNED = Affine(
    np.array([[2.0, 0.0, 0.0, -30.0], [0.0, 0.6, -0.8, 12.0], [0.0, 0.8, 0.6, 5.0], [0, 0, 0, 1.0]])
)


@pytest.fixture(scope="module")
def predictor(disc_run) -> Predictor:
    return Predictor.load(disc_run / "best.safetensors", device="cpu")


@pytest.fixture(scope="module")
def stack() -> MedicalImage:
    rows, columns = np.mgrid[:24, :30]
    discs = [np.hypot(rows - 12, columns - centre) < 7 for centre in (10, 14, 18)]
    noise = np.random.default_rng(0).normal(60, 10, (3, 24, 30))
    array = (noise + 120 * np.array(discs)).clip(0, 255).astype(np.uint8)
    return MedicalImage(array[..., None], TURNED, "millimeter")


def picture_of(stack: MedicalImage) -> MedicalImage:
    return MedicalImage(stack.array[0], Affine.from_spacing(stack.spacing[1:]), stack.unit)


class TestWindowOfAnImage:
    def test_every_voxel_of_it_stays_where_it_was(self, stack):
        part = stack.window((1, 4, 5), (2, 10, 20))
        np.testing.assert_array_equal(part.array, stack.array[1:3, 4:14, 5:25])
        points = np.random.default_rng(0).uniform(0, 9, (20, 3))
        np.testing.assert_allclose(part.affine.apply(points), stack.affine.apply(points + (1, 4, 5)))
        assert part.unit == stack.unit and part.path == stack.path

    def test_a_window_in_a_window_is_a_window(self, stack):
        twice = stack.window((0, 2, 3), (3, 20, 20)).window((1, 2, 3), (2, 5, 6))
        once = stack.window((1, 4, 6), (2, 5, 6))
        np.testing.assert_array_equal(twice.array, once.array)
        np.testing.assert_allclose(twice.affine.matrix, once.affine.matrix)

    @pytest.mark.parametrize(
        ("start", "shape"), [((-1, 0, 0), (1, 1, 1)), ((0, 0, 0), (0, 1, 1)), ((2, 0, 0), (2, 1, 1))]
    )
    def test_what_is_empty_or_reaches_beyond_is_refused(self, stack, start, shape):
        with pytest.raises(ImageError, match="has 3 x 24 x 30 voxels, and the part .* is not inside it"):
            stack.window(start, shape)


class TestReports:
    def test_an_image_is_encoded_rendered_mapped_and_measured(self, predictor, stack):
        reports: list = []
        request = Request(objects=True, probability=("foreground",), uncertainty=True)
        result = finish(iter_result(predictor, picture_of(stack), request), reports.append)
        assert result.segmentation.shape == (24, 30) and len(result.measurements) >= 1
        ends = [report.stage for report in reports if report.done == report.total]
        assert ends == [
            "Encoding",
            "Rendering",
            "Mapping probability",
            "Mapping uncertainty",
            "Measuring objects",
        ]

    def test_of_a_stack_the_frames_are_counted(self, predictor, stack):
        reports: list = []
        result = finish(iter_result(predictor, stack, Request(frames=True)), reports.append)
        assert result.segmentation.grid == stack.grid
        assert {report.stage for report in reports} == {"Segmenting frames"}
        done = [report.done for report in reports]
        assert sorted(set(done)) == [0, 1, 2, 3] and done == sorted(done)
        assert reports[-1] == Progress("Segmenting frames", 3, 3)

    def test_a_notice_that_comes_with_every_frame_is_passed_on_once(self, predictor, stack, monkeypatch):
        original = Predictor.iter_field

        def noticing(*arguments):
            yield Notice("slowly")
            return (yield from original(*arguments))

        monkeypatch.setattr(Predictor, "iter_field", noticing)
        reports: list = []
        finish(iter_result(predictor, stack, Request(frames=True)), reports.append)
        assert reports.count(Notice("slowly")) == 1

    def test_what_is_not_asked_for_is_not_there(self, predictor, stack):
        result = finish(iter_result(predictor, picture_of(stack), Request()))
        assert result.objects is result.measurements is None and result.maps == {}

    def test_single_objects_of_a_stack_have_numbers_of_their_own_in_every_frame(self, predictor, stack):
        request = Request(frames=True, instances=True)
        result = finish(iter_result(predictor, stack, request))
        frames = [set(np.unique(frame[frame > 0])) for frame in result.objects.array]
        assert len(set.union(*frames)) == sum(map(len, frames)) > 0
        assert np.array_equal(result.objects.array > 0, result.segmentation.array > 0)
        assert result.measurements is None

    def test_stopping_closes_the_work(self, predictor, stack):
        work = iter_result(predictor, stack, Request(frames=True))
        next(work)
        work.close()
        with pytest.raises(StopIteration):
            next(work)


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        (Request(), "(24 x 30) of labels does not fit into memory: use a factor below 1, or a region"),
        (
            Request(factor=2),
            "with 2880 voxels (48 x 60) of labels does not fit into memory: use a factor below 2",
        ),
        (Request(spacing=(2.0, 1.0)), "(12 x 30) of labels does not fit into memory: use a coarser spacing"),
    ],
)
def test_a_lack_of_memory_ends_in_a_sentence_that_helps(predictor, stack, monkeypatch, request_, said):
    def exhausted(*_, **__):
        yield Progress("Rendering", 0, 1)
        raise MemoryError

    monkeypatch.setattr(OccupancyField, "iter_render", exhausted)
    with pytest.raises(ImageError) as caught:
        finish(iter_result(predictor, picture_of(stack), request_))
    assert said in str(caught.value)


class TestSmallGpu:
    @pytest.fixture
    def on_gpu(self, monkeypatch):
        monkeypatch.setattr(OccupancyField, "device", torch.device("cuda"))

    @staticmethod
    def sampling(capacity: int, asked: list[int]):
        """A way to sample that needs a GPU with room for so many points, and tells how many were asked."""

        def sample(field):
            asked.append(field.chunk_points)
            yield Progress("Rendering", 1, 2)
            if field.chunk_points > capacity:
                raise torch.OutOfMemoryError("CUDA out of memory.")
            return field.chunk_points

        return sample

    def test_sampling_begins_anew_with_fewer_points_until_they_fit(self, predictor, stack, on_gpu):
        field = predictor.field(picture_of(stack))
        asked: list[int] = []
        reports: list = []
        result = finish(iter_sampled(field, self.sampling(20_000, asked)), reports.append)
        assert asked == [2**18, 2**16, 2**14] and result == 2**14
        assert [report.message for report in reports if isinstance(report, Notice)] == [
            "The memory of cuda does not hold 262144 points at once: beginning anew with 65536.",
            "The memory of cuda does not hold 65536 points at once: beginning anew with 16384.",
        ]

    def test_where_the_fewest_do_not_fit_it_ends(self, predictor, stack, on_gpu):
        field = predictor.field(picture_of(stack))
        asked: list[int] = []
        with pytest.raises(torch.OutOfMemoryError):
            finish(iter_sampled(field, self.sampling(0, asked)))
        assert asked[-1] == FEWEST_POINTS

    def test_on_a_cpu_fewer_points_would_not_help(self, predictor, stack):
        field = predictor.field(picture_of(stack))
        asked: list[int] = []
        with pytest.raises(torch.OutOfMemoryError):
            finish(iter_sampled(field, self.sampling(0, asked)))
        assert len(asked) == 1


def test_a_request_for_what_a_stack_s_frames_are_is_that_of_each_frame(predictor, stack):
    request = Request(frames=True, spacing=(0.5, 2.0), probability=("foreground",))
    result = finish(iter_result(predictor, stack, request))
    alone = finish(iter_result(predictor, picture_of(stack), replace(request, frames=False)))
    np.testing.assert_array_equal(result.segmentation.array[0], alone.segmentation.array)
    (name,) = request.map_names
    np.testing.assert_array_equal(result.maps[name].array[0], alone.maps[name].array)
    assert result.maps[name].affine == result.segmentation.affine
    assert result.segmentation.evaluated_points > alone.segmentation.evaluated_points


@pytest.mark.parametrize(
    ("given", "wanted", "told"),
    [
        (Channels(2, "time"), {"channels": 2}, True),
        (Channels(2, "channel"), {"channels": 2}, False),
        (Channels(3, "colour"), {"channels": 3, "channel_axis": "channel"}, False),
        (Channels(3, "page"), {"channels": 3, "channel_axis": "channel"}, True),
        (Channels(3, "page"), {"channels": 3}, False),  # refused: the model takes colours
        (Channels(5, "page"), {"channels": 1}, False),
    ],
)
def test_what_is_taken_for_channels_under_another_name_is_told(predictor, given, wanted, told):
    changed = predictor.content.preprocessing.model_copy(update=wanted)
    content = predictor.content.model_copy(update={"preprocessing": changed})
    assert len(list(notices_of_channels(given, content))) == told
