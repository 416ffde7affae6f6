"""An image that is segmented block by block has the labels of the whole image, whoever is killed when."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
import zarr
from scipy import ndimage
from stored_in_memory import stored_in_memory
from tiny_networks import TINY

from swipe_core.blocks import Block, cut
from swipe_core.checkpoints.file import Checkpoint, load_checkpoint, save_checkpoint
from swipe_core.coordinates import Affine
from swipe_core.data.preprocessing import PreprocessingConfig, preprocess
from swipe_core.errors import CheckpointError, ConfigError, ImageError
from swipe_core.images import MedicalImage, read_label_map
from swipe_core.images.label_store import LabelStore
from swipe_core.images.source import ImageSource
from swipe_core.images.stored import StoredImage, open_stored_image
from swipe_core.inference.config import InferenceConfig
from swipe_core.inference.instances import iter_objects
from swipe_core.inference.windows import place_windows
from swipe_core.networks.registry import KINDS, build_network
from swipe_core.networks.swipe.build import build_swipe
from swipe_core.prediction import large_objects, preparing
from swipe_core.prediction.block_renderer import BlockRenderer
from swipe_core.prediction.large import (
    iter_begin_large,
    iter_finish_large,
    iter_segment_large,
    objects_path,
    overlay_path,
    segment_block,
    working_store,
)
from swipe_core.prediction.large_plan import LargePlan, iter_plan_large
from swipe_core.prediction.predictor import Predictor
from swipe_core.prediction.preparing import PartPreparation, iter_intensity_statistics
from swipe_core.prediction.request import Request
from swipe_core.progress import Progress, finish

SMALL_BLOCKS = {"block_voxels": 2**12}  # pieces of at most 64 x 64 or 16^3


@pytest.fixture(scope="session")
def flat_checkpoint(tiny_config, tmp_path_factory) -> Path:
    """A checkpoint of an untrained 2D network with windows of 24 x 24, both of whose classes occur."""
    torch.manual_seed(0)
    config = tiny_config({"preprocessing.crop_size": (24, 24)})
    path = tmp_path_factory.mktemp("flat") / "untrained.safetensors"
    save_checkpoint(path, Checkpoint(config.checkpoint_content(), build_swipe(config.model).state_dict()))
    return path


@pytest.fixture(scope="session")
def interior_checkpoint(tiny_config, tmp_path_factory) -> Path:
    """The same, which tells touching objects apart."""
    torch.manual_seed(3)
    changes = {"preprocessing.crop_size": (24, 24), "model.interior": True, "labels.instances": True}
    config = tiny_config(changes)
    path = tmp_path_factory.mktemp("interior") / "untrained.safetensors"
    save_checkpoint(path, Checkpoint(config.checkpoint_content(), build_swipe(config.model).state_dict()))
    return path


@pytest.fixture
def predictor_with(flat_checkpoint, volume_checkpoint) -> Callable[..., Predictor]:
    """A function from dimensions and settings of inference to a predictor that renders small pieces."""

    def build(ndim: int = 2, *, preprocessing: dict | None = None, **settings) -> Predictor:
        checkpoint = load_checkpoint(flat_checkpoint if ndim == 2 else volume_checkpoint)
        changed = checkpoint.content.preprocessing.model_copy(update=preprocessing or {})
        content = checkpoint.content.model_copy(update={"preprocessing": changed})
        return Predictor(checkpoint.build(), content, config=InferenceConfig(**{**SMALL_BLOCKS, **settings}))

    return build


def scene(shape: tuple[int, ...] = (75, 98), dtype: str = "uint16") -> MedicalImage:
    """Smooth noise over most of the range of a type."""
    noise = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=shape), 2)
    unit = (noise - noise.min()) / np.ptp(noise)
    array = (unit * (np.iinfo(dtype).max if dtype[0] in "ui" else 3.0)).astype(dtype)[..., None]
    return MedicalImage(array, Affine.from_spacing([0.5, 0.3, 0.7][-len(shape) :]), "micrometer")


def whole(predictor: Predictor, image: MedicalImage, request: Request) -> np.ndarray:
    """The labels as they are made in memory."""
    part = request.part_of(image)
    field = predictor.field(part)
    return field.render(request.grid_of(part.grid), method=request.method).array


def plan_large(*arguments, **named) -> LargePlan:
    return finish(iter_plan_large(*arguments, **named))


def in_pieces(renderer: BlockRenderer, plan: LargePlan) -> np.ndarray:
    labels = np.full(plan.output.shape, 99, np.uint8)
    for block in plan.blocks:
        for piece in plan.pieces(block):
            assert (labels[piece.slices] == 99).all()
            labels[piece.slices] = finish(renderer.iter_render(piece))
    return labels


def chunked(image: MedicalImage, chunks: tuple[int, ...]) -> StoredImage:
    return replace(stored_in_memory(image), chunks=chunks)


def stored(path: Path, image: MedicalImage, chunks: tuple[int, ...] = (32, 40)) -> Path:
    """The image as zarr, or as a TIFF in tiles."""
    array = image.array[..., 0]
    if path.suffix == ".zarr":
        zarr.create_array(path, data=array, chunks=chunks)
    else:
        tifffile.imwrite(path, array, tile=(16, 32), compression="zlib", photometric="minisblack")
    return path


# --- The labels of blocks are those of the whole --------------------------------------------------------


@pytest.mark.parametrize("method", ["mise", "dense"])
@pytest.mark.parametrize("factor", [1, 2, 0.8])
def test_labels_of_a_picture_are_those_of_the_whole(predictor_with, factor, method):
    predictor, image = predictor_with(), scene()
    request = Request(factor=factor, method=method)
    source = chunked(image, (20, 30))
    plan = plan_large(predictor, source, request, block_edge=40)
    assert len(list(cut(plan.output.shape, plan.chunks))) > 1
    labels = in_pieces(BlockRenderer(predictor, source, plan), plan)
    expected = whole(predictor, image, request)
    assert set(np.unique(expected)) == {0, 1}
    np.testing.assert_array_equal(labels, expected)


@pytest.mark.parametrize("network", ["unet", "iosnet"])
@pytest.mark.parametrize("factor", [1, 3])
def test_of_a_network_whose_windows_become_a_raster_they_are_too(predictor_with, network, factor):
    content, image = predictor_with().content, scene()
    config = KINDS[network].config(channels=content.model.channels, **TINY[network, 2])
    torch.manual_seed(0)
    model = build_network(config)
    for layer in (model.output,) if network == "unet" else (model.decoder.output,):
        torch.nn.init.normal_(layer.weight)
    predictor = Predictor(model, content.model_copy(update={"model": config}), config=predictor_with().config)
    request = Request(factor=factor, method="dense")
    plan = plan_large(predictor, chunked(image, (20, 30)), request, block_edge=40)
    labels = in_pieces(BlockRenderer(predictor, chunked(image, (20, 30)), plan), plan)
    expected = whole(predictor, image, request)
    assert set(np.unique(expected)) == {0, 1}
    np.testing.assert_array_equal(labels, expected)


def test_steps_of_mise_that_differ_between_the_axes_are_those_of_the_whole(predictor_with):
    predictor, image = predictor_with(coarse_voxels=4.0), scene()
    request = Request(spacing=(0.5, 0.15))
    plan = plan_large(predictor, stored_in_memory(image), request, block_edge=40)
    assert len(set(plan.stride)) == 2 and len(plan.blocks) > 1
    labels = in_pieces(BlockRenderer(predictor, stored_in_memory(image), plan), plan)
    np.testing.assert_array_equal(labels, whole(predictor, image, request))


@pytest.mark.parametrize("method", ["mise", "dense"])
@pytest.mark.parametrize("factor", [1, 2])
def test_labels_of_a_volume_are_those_of_the_whole(predictor_with, factor, method):
    predictor, image = predictor_with(3, overlap=0.25), scene((18, 20, 24))
    request = Request(factor=factor, method=method)
    plan = plan_large(predictor, stored_in_memory(image), request, block_edge=10)
    labels = in_pieces(BlockRenderer(predictor, stored_in_memory(image), plan), plan)
    expected = whole(predictor, image, request)
    assert len(np.unique(expected)) == 3 and len(plan.blocks) >= 4
    np.testing.assert_array_equal(labels, expected)


@pytest.mark.parametrize(
    "settings",
    [
        {"smoothing": 1.5},
        {"mirrored_axes": (0, 1)},
        {"overlap": 0.0},
        {"overlap": 0.8},
        {"threshold": 0.7},
        {"coarse_voxels": 8.0},
    ],
    ids=str,
)
def test_settings_of_inference_are_kept(predictor_with, settings):
    predictor, image = predictor_with(**settings), scene((66, 70), "uint8")
    plan = plan_large(predictor, stored_in_memory(image), Request())
    labels = in_pieces(BlockRenderer(predictor, stored_in_memory(image), plan), plan)
    np.testing.assert_array_equal(labels, whole(predictor, image, Request()))


@pytest.mark.parametrize("shape", [(65, 65), (64, 129), (20, 100), (10, 12)])
def test_a_piece_that_lies_in_one_window_does_not_take_it_for_the_whole(predictor_with, shape):
    predictor, image = predictor_with(overlap=0.0), scene(shape, "uint8")
    plan = plan_large(predictor, stored_in_memory(image), Request(method="dense"))
    counts = {len(plan.windows_of(piece)) for block in plan.blocks for piece in plan.pieces(block)}
    assert min(counts) >= min(2, len(place_windows(shape, (24, 24), 0.0)))
    labels = in_pieces(BlockRenderer(predictor, stored_in_memory(image), plan), plan)
    np.testing.assert_array_equal(labels, whole(predictor, image, Request(method="dense")))


def test_a_region_is_segmented_by_itself_as_in_memory(predictor_with):
    predictor, image = predictor_with(), scene()
    request = Request(factor=2, region=((10, 70), (None, 90)))
    plan = plan_large(predictor, stored_in_memory(image), request)
    labels = in_pieces(BlockRenderer(predictor, stored_in_memory(image), plan), plan)
    np.testing.assert_array_equal(labels, whole(predictor, image, request))
    assert plan.image == request.part_of(image).grid


@pytest.mark.parametrize("kind", ["dyes.tif", "dyes.zarr"])
def test_a_channel_that_is_chosen_is_segmented_as_if_it_were_alone(tmp_path, predictor_with, kind):
    predictor, alone = predictor_with(), scene()
    others = np.random.default_rng(1).integers(0, 2**16, alone.shape, dtype=np.uint16)
    dyes = np.stack([others, alone.array[..., 0], others.T.reshape(alone.shape)])
    if kind.endswith(".tif"):
        tifffile.imwrite(tmp_path / kind, dyes, imagej=True, metadata={"axes": "CYX"})
    else:
        zarr.create_array(tmp_path / kind, data=dyes, chunks=(1, 32, 40), dimension_names=["c", "y", "x"])
    request = Request(channels=("2",))
    source = open_stored_image(tmp_path / kind, 2)
    with pytest.raises(ImageError, match="has 3 channels; this model takes 1 channel: .*--channel 1"):
        plan_large(predictor, source, Request())
    source = request.with_channels(source)
    plan = plan_large(predictor, source, request)
    labels = in_pieces(BlockRenderer(predictor, source, plan), plan)
    alone = replace(alone, affine=source.affine, unit=source.unit)
    np.testing.assert_array_equal(labels, whole(predictor, alone, Request()))


def test_blocks_hold_whole_pieces_and_cover_the_result(predictor_with):
    predictor = predictor_with()
    plan = plan_large(predictor, stored_in_memory(scene()), Request(factor=3), block_edge=50)
    counts = np.zeros(plan.output.shape, int)
    for block in plan.blocks:
        counts[block.slices] += 1
        for piece in plan.pieces(block):
            assert all(a % c == 0 for a, c in zip(piece.start, plan.chunks, strict=True))
    assert (counts == 1).all() and all(b > c for b, c in zip(plan.block, plan.chunks, strict=True))
    block = plan.blocks[1]
    renderer, labels = (
        BlockRenderer(predictor, stored_in_memory(scene()), plan),
        np.zeros(block.shape, np.uint8),
    )
    for piece in plan.pieces(block):
        labels[piece.within(block).slices] = finish(renderer.iter_render(piece))
    np.testing.assert_array_equal(labels, whole(predictor, scene(), Request(factor=3))[block.slices])


def test_every_window_is_read_and_encoded_once_where_the_cache_holds_them(predictor_with):
    predictor, image = predictor_with(), scene()
    plan = plan_large(predictor, stored_in_memory(image), Request(factor=2), block_edge=40)
    renderer = BlockRenderer(predictor, stored_in_memory(image), plan)
    in_pieces(renderer, plan)
    assert renderer.cache.encoded == len(place_windows(image.shape, (24, 24), 0.5))


def test_re_spaced_images_differ_at_most_where_rounding_decides(predictor_with):
    image = scene((90, 110))
    predictor = predictor_with(preprocessing={"spacing": (0.5, 0.5)})
    source = chunked(image, (20, 30))
    plan = plan_large(predictor, source, Request())
    assert plan.prepared.shape != image.shape
    labels = in_pieces(BlockRenderer(predictor, source, plan), plan)
    assert (labels != whole(predictor, image, Request())).mean() < 1e-3


# --- Intensities --------------------------------------------------------------------------------------


@pytest.mark.parametrize("intensity", ["unit", "standardise", "range", "window"])
@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int16", "uint32", "float32", "float64"])
def test_parts_have_the_intensities_of_the_whole_image_preprocessed(monkeypatch, dtype, intensity):
    monkeypatch.setattr(preparing, "VOXELS_AT_ONCE", 500)
    image = scene((41, 57), dtype)
    array = np.concatenate([image.array, image.array[::-1] // 2, np.full_like(image.array, 3)], axis=-1)
    image = replace(image, array=array.astype(dtype))
    window = (0, 50) if intensity == "window" else None
    config = PreprocessingConfig(
        ndim=2, channels=3, channel_axis="channel", intensity=intensity, window=window
    )
    preparation = PartPreparation(chunked(image, (7, 9)), config)
    measured = finish(iter_intensity_statistics(preparation))
    part = Block((11, 5), (20, 31))
    expected = preprocess(image, config).tensor[(slice(None), *part.slices)]
    assert torch.equal(preparation.prepared(part, measured).tensor, expected)


@pytest.mark.parametrize("spacing", [(1.7, 0.8), (0.2, 0.3), (0.3, 2.0)])
@pytest.mark.parametrize("intensity", ["unit", "standardise"])
def test_parts_of_a_re_spaced_image_agree_to_single_precision(monkeypatch, intensity, spacing):
    monkeypatch.setattr(preparing, "VOXELS_AT_ONCE", 500)
    image = scene((41, 57))
    config = PreprocessingConfig(ndim=2, channels=1, intensity=intensity, spacing=spacing)
    preparation = PartPreparation(chunked(image, (7, 9)), config)
    measured = finish(iter_intensity_statistics(preparation))
    expected = preprocess(image, config)
    assert preparation.grid == expected.grid
    for part in cut(expected.shape, (5, 7)):
        read = preparation.prepared(part, measured).tensor
        torch.testing.assert_close(read, expected.tensor[(slice(None), *part.slices)], rtol=0, atol=1e-5)


def test_grey_serves_a_network_for_colours_and_the_other_way_round(monkeypatch):
    monkeypatch.setattr(preparing, "VOXELS_AT_ONCE", 500)
    for channels, wanted in ((1, 3), (3, 1)):
        image = scene((41, 57))
        array = np.repeat(image.array, channels, axis=-1)
        image = replace(image, array=array, channel_axis="colour")
        config = PreprocessingConfig(ndim=2, channels=wanted, intensity="standardise")
        preparation = PartPreparation(stored_in_memory(image), config)
        measured = finish(iter_intensity_statistics(preparation))
        read = preparation.prepared(Block((3, 4), (20, 30)), measured).tensor
        torch.testing.assert_close(read, preprocess(image, config).tensor[:, 3:23, 4:34], rtol=0, atol=1e-5)


# --- Memory -------------------------------------------------------------------------------------------


class Counting:
    """Stands between an image and its reader, and counts the most voxels that were read at once."""

    def __init__(self, image: MedicalImage) -> None:
        self.most = self.reads = 0
        source = chunked(image, (16, 16))
        self.source = replace(source, voxels=lambda slices: self.count(source.voxels(slices)))

    def count(self, array: np.ndarray) -> np.ndarray:
        self.most, self.reads = max(self.most, array.size), self.reads + 1
        return array


def test_no_more_is_read_or_held_at_once_of_a_larger_image(predictor_with, monkeypatch, tmp_path):
    monkeypatch.setattr(preparing, "VOXELS_AT_ONCE", 2000)
    predictor = predictor_with(overlap=0.0, coarse_voxels=16)
    limit, read, held = 60_000, [], []
    for shape in ((128, 128), (128, 512), (512, 256)):
        counting = Counting(scene(shape))
        plan = plan_large(predictor, counting.source, Request(), block_edge=64)
        assert plan.chunks == (64, 64)
        renderer = BlockRenderer(predictor, counting.source, plan, cache_bytes=limit)
        for block in plan.blocks[:5]:
            finish(renderer.iter_render(block))
            assert renderer.cache.held <= limit
        read.append(counting.most)
        held.append(renderer.cache.most_held - limit)
    one = plan.windows_of(plan.blocks[len(plan.blocks) // 2 + 1])
    assert max(read) <= (64 + 2 * 24) ** 2
    size = renderer.cache.most_held / renderer.cache.encoded  # of one, or more
    assert max(held) <= len(one) * max(size, 2**13)


# --- Resuming -----------------------------------------------------------------------------------------


KILLED = """
import os, signal, sys
from pathlib import Path
from swipe_core.images.label_store import LabelStore
from swipe_core.images.stored import open_stored_image
from swipe_core.inference.config import InferenceConfig
from swipe_core.prediction.large import iter_segment_large
from swipe_core.prediction.predictor import Predictor
from swipe_core.progress import finish
from swipe_core.prediction.request import Request

checkpoint, image, target, deadly = sys.argv[1:]
write, written = LabelStore.write, 0
def counted(self, part, labels, level=0):
    global written
    write(self, part, labels, level)
    written += 1
    if written == int(deadly):
        os.kill(os.getpid(), signal.SIGKILL)
LabelStore.write = counted
predictor = Predictor.load(checkpoint, device="cpu", config=InferenceConfig(block_voxels=2**12))
source = open_stored_image(image, 2)
finish(iter_segment_large(predictor, source, Request(), Path(target), block_edge=64))
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="Windows knows no such signal")
@pytest.mark.parametrize("name", ["labels.ome.zarr", "labels.tif"])
def test_a_call_that_was_killed_goes_on_with_what_is_missing(
    tmp_path, flat_checkpoint, predictor_with, monkeypatch, name
):
    path, target = stored(tmp_path / "image.zarr", scene((90, 120))), tmp_path / name
    arguments = [str(flat_checkpoint), str(path), str(target), "2"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", KILLED, *arguments], capture_output=True, env=environment)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    assert working_store(target).is_dir() and not target.exists()
    rendered, render = [], BlockRenderer.iter_render

    def counted(self, piece):
        rendered.append(piece)
        return render(self, piece)

    monkeypatch.setattr(BlockRenderer, "iter_render", counted)
    predictor = predictor_with()
    source = open_stored_image(path, 2)
    finish(iter_segment_large(predictor, source, Request(), target, block_edge=64))
    blocks = plan_large(predictor, source, Request(), block_edge=64).blocks
    assert rendered == blocks[2:] and len(blocks) == 4
    labels = whole(
        predictor, MedicalImage(source.read((0, 0), source.shape).array, source.affine, ""), Request()
    )
    if name.endswith("zarr"):
        np.testing.assert_array_equal(LabelStore.open(target).read(Block((0, 0), labels.shape)), labels)
        uninterrupted = tmp_path / "other.ome.zarr"
        finish(iter_segment_large(predictor, source, Request(), uninterrupted, block_edge=64))
        assert contents(target) == contents(uninterrupted)
    else:
        np.testing.assert_array_equal(read_label_map(target).array, labels)
    assert not working_store(target).exists() and overlay_path(target).is_file()


def contents(folder: Path) -> dict[str, bytes]:
    return {str(f.relative_to(folder)): f.read_bytes() for f in sorted(folder.rglob("*")) if f.is_file()}


def test_a_call_that_is_stopped_and_called_again_measures_no_intensities_twice(
    tmp_path, predictor_with, monkeypatch
):
    predictor, source, target = predictor_with(), stored_in_memory(scene()), tmp_path / "a.zarr"
    work = iter_segment_large(predictor, source, Request(), target)
    stages = {report.stage for report in [next(work), next(work), next(work)]}
    work.close()
    assert "Measuring intensities" in stages and working_store(target).is_dir()
    again = [r.stage for r in iter_segment_large(predictor, source, Request(), target)]
    assert "Measuring intensities" not in again


# --- Single objects


@pytest.fixture
def apart(interior_checkpoint) -> Callable[..., Predictor]:
    """A function from settings to a predictor that tells objects apart, in small pieces."""
    checkpoint = load_checkpoint(interior_checkpoint)

    def build(**settings) -> Predictor:
        config = InferenceConfig(**{**SMALL_BLOCKS, "seed_threshold": 0.39, **settings})
        return Predictor(checkpoint.build(), checkpoint.content, config=config)

    return build


def same_objects(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether two maps divide the same voxels into the same objects, whatever their numbers."""
    pairs = np.unique(np.stack([one.ravel(), other.ravel()]), axis=1).T
    return len(pairs) == len(np.unique(one)) == len(np.unique(other))


def objects_in_memory(predictor: Predictor, image: MedicalImage, request: Request) -> np.ndarray:
    field = predictor.field(image)
    return finish(iter_objects(field, field.render(request.grid_of(image.grid)))).array


@pytest.mark.parametrize("factor", [1, 2])
@pytest.mark.parametrize("name", ["a.zarr", "a.tif"])
def test_objects_are_those_of_the_whole(tmp_path, apart, monkeypatch, factor, name):
    # What an untrained network takes for objects is large.
    monkeypatch.setitem(large_objects.HALO, 2, 200)
    predictor, image, request = apart(), scene(), Request(factor=factor, instances=True)
    finish(iter_segment_large(predictor, stored_in_memory(image), request, tmp_path / name, block_edge=40))
    expected, target = objects_in_memory(predictor, image, request), objects_path(tmp_path / name)
    if name.endswith("zarr"):
        found = LabelStore.open(target).read(Block((0, 0), expected.shape))
    else:
        found = read_label_map(target).array
    assert found.max() > 20 and np.array_equal(np.unique(found), np.arange(found.max() + 1))
    assert same_objects(found, expected)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {name, target.name, overlay_path(tmp_path / name).name}


def test_objects_of_a_call_that_was_stopped_are_gone_on_with(tmp_path, apart, monkeypatch):
    monkeypatch.setitem(large_objects.HALO, 2, 200)
    predictor, source, request = apart(), stored_in_memory(scene()), Request(instances=True)
    target = tmp_path / "a.zarr"
    work = iter_segment_large(predictor, source, request, target, block_edge=64)
    while next(work) != Progress("Segmenting", 1, 2):
        pass
    work.close()
    begun = finish(iter_begin_large(predictor, source, request, target, block_edge=64))
    assert len(begun.unfinished) == 1 and begun.objects is not None
    for _ in range(2):  # with what is finished there is nothing to do
        finish(iter_segment_large(predictor, source, request, target, block_edge=64))
        found = LabelStore.open(objects_path(target)).read(Block((0, 0), source.shape))
        assert same_objects(found, objects_in_memory(predictor, scene(), request))


def test_small_objects_are_left_out_of_all_pieces_by_one_measure(tmp_path, apart, monkeypatch):
    monkeypatch.setitem(large_objects.HALO, 2, 200)
    predictor, image, request = apart(smallest_object=0.3), scene(), Request(instances=True)
    finish(
        iter_segment_large(predictor, stored_in_memory(image), request, tmp_path / "a.zarr", block_edge=40)
    )
    found = LabelStore.open(tmp_path / "a_objects.zarr").read(Block((0, 0), image.shape))
    every = objects_in_memory(apart(), image, request)
    assert 0 < found.max() < every.max()


def test_a_model_that_does_not_tell_objects_apart_gives_labels_alone(tmp_path, predictor_with):
    work = iter_segment_large(
        predictor_with(), stored_in_memory(scene()), Request(instances=True), tmp_path / "a.zarr"
    )
    with pytest.raises(ConfigError, match="leave out --instances"):
        finish(work)


def test_labels_that_are_finished_stay_as_they_are(tmp_path, predictor_with):
    predictor, source, target = predictor_with(), stored_in_memory(scene()), tmp_path / "a.zarr"
    finish(iter_segment_large(predictor, source, Request(), target))
    before = target.stat().st_mtime_ns, (target / "0" / "c" / "0" / "0").stat().st_mtime_ns
    finish(iter_segment_large(predictor, source, Request(), target))
    assert (target.stat().st_mtime_ns, (target / "0" / "c" / "0" / "0").stat().st_mtime_ns) == before


@pytest.mark.parametrize("is_finished", [False, True])
def test_labels_of_something_else_are_overwritten(tmp_path, predictor_with, is_finished):
    source, target = stored_in_memory(scene()), tmp_path / "a.zarr"
    work = iter_segment_large(predictor_with(), source, Request(), target)
    if is_finished:
        finish(work)
    else:
        while next(work).stage != "Segmenting":
            pass
        work.close()
    predictor, request = predictor_with(threshold=0.7), Request()
    finish(iter_segment_large(predictor, source, request, target))
    store = LabelStore.open(target)
    expected = whole(predictor, scene(), request)
    np.testing.assert_array_equal(store.read(Block((0, 0), store.shape)), expected)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.zarr", "a_overlay.png"]


def test_what_makes_no_difference_to_the_labels_may_change_meanwhile(tmp_path, predictor_with):
    source, target = stored_in_memory(scene()), tmp_path / "a.zarr"
    finish(iter_segment_large(predictor_with(), source, Request(), target))
    finish(iter_segment_large(predictor_with(window_batch=1, chunk_points=999), source, Request(), target))


def test_a_folder_of_something_else_is_never_overwritten(tmp_path, predictor_with):
    zarr.create_array(tmp_path / "a.zarr", data=np.ones((5, 5)))
    work = iter_segment_large(predictor_with(), stored_in_memory(scene()), Request(), tmp_path / "a.zarr")
    with pytest.raises(ImageError, match="is no folder of labels that this program wrote"):
        finish(work)
    assert zarr.open_array(tmp_path / "a.zarr", mode="r").shape == (5, 5)


# --- By several processes -------------------------------------------------------------------------------


def test_blocks_may_be_segmented_in_any_order_by_whoever_has_the_paths(tmp_path, flat_checkpoint):
    path, target = stored(tmp_path / "image.tif", scene((90, 120))), tmp_path / "a.ome.zarr"
    config, request = InferenceConfig(**SMALL_BLOCKS), Request(factor=1)
    predictor = Predictor.load(flat_checkpoint, device="cpu", config=config)
    source = open_stored_image(path, 2)
    work = finish(iter_begin_large(predictor, source, request, target, block_edge=64))
    blocks = pickle.loads(pickle.dumps(work.unfinished))
    assert blocks == work.plan.blocks
    arguments = (predictor, ImageSource(path), request, work.store.path)
    for block in reversed(blocks):
        assert segment_block(*arguments, block) == 1
    assert segment_block(*arguments, blocks[0]) == 0 and work.unfinished == []
    finish(iter_finish_large(work, source, target))
    image = MedicalImage(source.read((0, 0), source.shape).array, source.affine, "")
    store = LabelStore.open(target)
    np.testing.assert_array_equal(store.read(Block((0, 0), store.shape)), whole(predictor, image, request))


def test_a_process_with_another_model_or_image_refuses_to_help(tmp_path, flat_checkpoint):
    path, target = stored(tmp_path / "image.tif", scene((80, 90))), tmp_path / "a.ome.zarr"
    config, request = InferenceConfig(**SMALL_BLOCKS), Request()
    predictor = Predictor.load(flat_checkpoint, device="cpu", config=config)
    source = open_stored_image(path, 2)
    work = finish(iter_begin_large(predictor, source, request, target))
    block = work.plan.blocks[0]
    other = stored(tmp_path / "other.tif", scene((80, 91)))
    with pytest.raises(ImageError, match="was begun with another image"):
        segment_block(predictor, ImageSource(other), request, work.store.path, block)
    coarser = predictor.with_config(config.model_copy(update={"coarse_voxels": 4.0}))
    with pytest.raises(ImageError, match="was begun with other settings"):
        segment_block(coarser, ImageSource(path), request, work.store.path, block)


# --- Files --------------------------------------------------------------------------------------------


def test_zarr_tiff_and_memory_give_the_same_labels_in_both_kinds_of_file(tmp_path, predictor_with):
    image, predictor = scene((50, 64)), predictor_with(coarse_voxels=8)
    sources = [
        open_stored_image(stored(tmp_path / "image.zarr", image), 2),
        open_stored_image(stored(tmp_path / "image.tif", image), 2),
    ]
    expected = whole(predictor, image, Request(factor=1.2))
    for number, source in enumerate(sources):
        for suffix in (".zarr", ".tif"):
            target = tmp_path / f"labels{number}{suffix}"
            finish(iter_segment_large(predictor, source, Request(factor=1.2), target))
            if suffix == ".tif":
                labels = read_label_map(target).array
            else:
                labels = LabelStore.open(target).read(Block((0, 0), expected.shape))
            np.testing.assert_array_equal(labels, expected)


def test_a_volume_is_written_without_an_overlay_in_its_place_in_the_world(tmp_path, predictor_with):
    image, predictor = scene((20, 25, 30)), predictor_with(3, overlap=0.0)
    target = tmp_path / "labels.tif"
    finish(iter_segment_large(predictor, stored_in_memory(image), Request(), target))
    labels = read_label_map(target)
    np.testing.assert_array_equal(labels.array, whole(predictor, image, Request()))
    assert labels.spacing == image.spacing and labels.unit == "micrometer"
    assert [path.name for path in tmp_path.iterdir()] == ["labels.tif"]


def test_the_overlay_of_a_large_picture_is_small(tmp_path, predictor_with, monkeypatch):
    from PIL import Image

    from swipe_core.prediction import large

    monkeypatch.setattr(large, "OVERVIEW_SIZE", 30)
    monkeypatch.setattr(large, "PIXELS_AT_ONCE", 700)
    image = scene()
    source = chunked(image, (10, 17))
    finish(iter_segment_large(predictor_with(), source, Request(), tmp_path / "a.tif"))
    with Image.open(tmp_path / "a_overlay.png") as picture:
        assert picture.size == (30, 23)
    coarse = finish(large._iter_coarse(source, 4))[..., 0]
    padded = np.pad(image.array[..., 0].astype(float), ((0, 1), (0, 2)), constant_values=np.nan)
    means = np.nanmean(padded.reshape(19, 4, 25, 4), axis=(1, 3))
    np.testing.assert_allclose(coarse, means, rtol=1e-6)


def test_progress_counts_blocks_and_is_told_at_every_step(tmp_path, predictor_with):
    predictor, source = predictor_with(), stored_in_memory(scene((90, 120)))
    work = iter_segment_large(predictor, source, Request(), tmp_path / "a.zarr", block_edge=64)
    reports = [report for report in work if isinstance(report, Progress) and report.stage == "Segmenting"]
    done = [report.done for report in reports]
    assert done == sorted(done) and set(done) == set(range(5)) and {r.total for r in reports} == {4}
    assert len(reports) > 3 * 4


# --- What cannot be done block by block -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("build", "request_", "error", "sentence"),
    [
        ({"preprocessing": {"crop_size": None}}, {}, CheckpointError, "looks at whole images at once"),
        (
            {"preprocessing": {"crop_size": None, "size": (64, 64)}},
            {},
            CheckpointError,
            "looks at whole images at once",
        ),
        ({"confidence": 0.8}, {}, ConfigError, "set --confidence 0"),
        ({"touching": "distance"}, {}, ConfigError, "set --touching learned"),
        ({}, {"objects": True}, ConfigError, "leave out --objects"),
        (
            {},
            {"probability": ("foreground",), "uncertainty": True},
            ConfigError,
            "--probability and --uncert",
        ),
        ({}, {"frames": True}, ConfigError, "leave out --frames"),
        ({}, {"factor": -1}, ConfigError, "The factor must be a number above 0"),
        ({}, {"region": ((0, 500), (0, 10))}, ImageError, "is not inside it"),
    ],
)
def test_what_needs_the_whole_image_is_refused_before_any_work(
    tmp_path, predictor_with, build, request_, error, sentence
):
    counting = Counting(scene())
    work = iter_segment_large(
        predictor_with(**build), counting.source, Request(**request_), tmp_path / "a.zarr"
    )
    with pytest.raises(error) as caught:
        next(work)
    assert sentence in str(caught.value) and "\n" not in str(caught.value)
    assert counting.reads == 0 and not list(tmp_path.iterdir())


def test_an_image_that_does_not_suit_the_model_is_refused_after_its_first_voxel(tmp_path, predictor_with):
    volume, colours = scene((8, 9, 10)), replace(scene(), array=np.zeros((75, 98, 2), np.uint16))
    for image, sentence in ((volume, "is 3D, and this model is for 2D"), (colours, "has 2 channels")):
        work = iter_segment_large(predictor_with(), stored_in_memory(image), Request(), tmp_path / "a.zarr")
        with pytest.raises(ImageError, match=sentence):
            next(work)
