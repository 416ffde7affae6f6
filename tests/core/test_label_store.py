"""Labels on disk: they come back as they were written, in any order, and a chunk is whole or not there."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from swipe_core.blocks import Block, cut
from swipe_core.coordinates import Affine, Grid
from swipe_core.errors import ImageError
from swipe_core.images import label_tiff, levels, read_label_map
from swipe_core.images.label_store import LabelStore
from swipe_core.images.label_tiff import iter_write_tiff
from swipe_core.images.levels import level_shapes, most_frequent
from swipe_core.images.stored import open_stored_image
from swipe_core.progress import Progress, finish

CLASSES = {"nucleus": "#ff0080", "wall": "#00ff00"}
RNG = np.random.default_rng(0)


def grid_of(shape: tuple[int, ...]) -> Grid:
    return Grid(shape, Affine.from_spacing([0.5, 0.25, 2.0][-len(shape) :], [3.0, 4.0, 5.0][-len(shape) :]))


def new_store(path: Path, shape=(130, 70), chunks=(50, 30), **record) -> LabelStore:
    return LabelStore.create(path, grid_of(shape), "micrometer", chunks, classes=CLASSES, record=record)


def labels_of(shape: tuple[int, ...]) -> np.ndarray:
    return RNG.integers(0, 3, shape, dtype=np.uint8)


def filled(path: Path, shape=(130, 70), chunks=(50, 30)) -> tuple[LabelStore, np.ndarray]:
    store, labels = new_store(path, shape, chunks), labels_of(shape)
    for part in cut(shape, chunks):
        store.write(part, labels[part.slices])
    return store, labels


@pytest.fixture
def many_levels(monkeypatch):
    """Levels down to 16 voxels."""
    monkeypatch.setattr(levels, "COARSEST", 16)
    monkeypatch.setattr(levels, "SHORT", 8)


# --- Writing and reading ----------------------------------------------------------------------------


@pytest.mark.parametrize(("shape", "chunks"), [((130, 70), (50, 30)), ((33, 21, 40), (16, 16, 16))])
def test_parts_come_back_as_they_were_written_in_whatever_order(tmp_path, shape, chunks):
    store, labels = new_store(tmp_path / "a.zarr", shape, chunks), labels_of(shape)
    parts = list(cut(shape, chunks))
    for number in RNG.permutation(len(parts)):
        store.write(parts[number], labels[parts[number].slices])
    reopened = LabelStore.open(tmp_path / "a.zarr")
    np.testing.assert_array_equal(reopened.read(Block((0,) * len(shape), shape)), labels)
    odd = Block(tuple(n // 3 for n in shape), tuple(n // 2 for n in shape))
    np.testing.assert_array_equal(reopened.read(odd), labels[odd.slices])
    assert (reopened.grid, reopened.unit, reopened.chunks) == (grid_of(shape), "micrometer", chunks)
    assert reopened.classes == CLASSES


def test_what_is_finished_is_known_part_by_part_and_background_counts(tmp_path):
    store = new_store(tmp_path / "a.zarr")
    parts = list(cut(store.shape, store.chunks))
    assert not any(store.holds(part) for part in parts)
    for done, part in enumerate(parts, start=1):
        store.write(part, np.zeros(part.shape, np.uint8))
        assert [store.holds(p) for p in parts] == [True] * done + [False] * (len(parts) - done)
    assert store.holds(Block((0, 0), store.shape))


def test_a_part_of_several_chunks_is_finished_with_the_last_of_them(tmp_path):
    store = new_store(tmp_path / "a.zarr")
    both = Block((50, 0), (50, 60))
    store.write(Block((50, 0), (50, 30)), np.ones((50, 30), np.uint8))
    assert not store.holds(both)
    store.write(Block((50, 30), (50, 30)), np.ones((50, 30), np.uint8))
    assert store.holds(both)


def test_a_part_that_cuts_a_chunk_is_a_fault_of_the_program(tmp_path):
    store = new_store(tmp_path / "a.zarr")
    for part in (Block((10, 0), (40, 30)), Block((0, 0), (50, 29)), Block((0, 0), (51, 30))):
        with pytest.raises(ValueError, match="does not consist of whole chunks"):
            store.write(part, np.zeros(part.shape, np.uint8))


def test_an_empty_file_that_a_failing_disk_leaves_is_not_finished(tmp_path):
    store, _ = filled(tmp_path / "a.zarr")
    (tmp_path / "a.zarr" / "0" / "c" / "1" / "1").write_bytes(b"")
    assert not store.holds(Block((50, 30), (50, 30)))


KILLED = """
import os, signal, sys
from pathlib import Path
import numpy as np
import zarr.storage._local as local
from swipe_core.blocks import Block
from swipe_core.images.label_store import LabelStore

class Dying:
    def __init__(self, file):
        self.file = file
    def write(self, view):
        self.file.write(bytes(view)[: len(view) // 2])
        self.file.flush()
        os.kill(os.getpid(), signal.SIGKILL)

store = LabelStore.open(Path(sys.argv[1]))
store.write(Block((0, 0), (50, 30)), np.ones((50, 30), np.uint8))
plain = Path.open
def opened(self, mode="r", *rest, **more):
    file = plain(self, mode, *rest, **more)
    return file if "w" not in mode else Stand(file)
class Stand:
    def __init__(self, file):
        self.file = file
    def __enter__(self):
        return Dying(self.file)
    def __exit__(self, *error):
        self.file.close()
Path.open = opened
store.write(Block((50, 30), (50, 30)), np.ones((50, 30), np.uint8))
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="Windows knows no such signal")
def test_a_chunk_whose_writer_is_killed_half_way_is_not_finished_and_can_be_written_again(tmp_path):
    store = new_store(tmp_path / "a.zarr")
    done = subprocess.run([sys.executable, "-c", KILLED, str(store.path)], capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    half, whole = Block((50, 30), (50, 30)), Block((0, 0), (50, 30))
    assert store.holds(whole) and not store.holds(half)
    left = list(store.path.rglob("*.partial"))
    assert left, "the process was to die while it wrote"
    labels = labels_of(store.shape)
    for part in cut(store.shape, store.chunks):
        store.write(part, labels[part.slices])
    finish(store.iter_finish())
    assert not list(store.path.rglob("*.partial"))
    np.testing.assert_array_equal(store.read(Block((0, 0), store.shape)), labels)


# --- Levels -----------------------------------------------------------------------------------------


def slow_mode(labels: np.ndarray, shape: tuple[int, ...], factors: list[int]) -> np.ndarray:
    wanted = np.zeros(shape, np.uint8)
    for index in itertools.product(*map(range, shape)):
        box = tuple(slice(i * f, i * f + f) for i, f in zip(index, factors, strict=True))
        counts = np.bincount(labels[box].ravel(), minlength=3)
        wanted[index] = max(label for label, count in enumerate(counts) if count == counts.max())
    return wanted


@pytest.mark.parametrize(
    ("fine", "coarse"), [((8, 6), (4, 3)), ((6, 4, 8), (3, 2, 4)), ((5, 8, 6), (5, 4, 3))]
)
def test_a_coarser_voxel_has_the_most_frequent_label_and_of_several_the_greatest(fine, coarse):
    labels = labels_of(fine)
    factors = [n // m for n, m in zip(fine, coarse, strict=True)]
    np.testing.assert_array_equal(most_frequent(labels, coarse), slow_mode(labels, coarse, factors))


@settings(max_examples=30, deadline=None, derandomize=True)
@given(shape=st.lists(st.integers(1, 12), min_size=2, max_size=3), label=st.integers(0, 255))
def test_one_label_everywhere_stays_everywhere(shape, label):
    coarse = [-(-n // 2) for n in shape]
    assert (most_frequent(np.full(shape, label, np.uint8), coarse) == label).all()


def test_levels_halve_long_axes_until_the_longest_is_short():
    assert level_shapes((100_000, 70_000))[-1] == (391, 274)
    assert level_shapes((20, 4000, 3000)) == [
        (20, 4000, 3000),
        (20, 2000, 1500),
        (20, 1000, 750),
        (20, 500, 375),
    ]
    assert level_shapes((500, 500)) == [(500, 500)]


@pytest.mark.parametrize(("shape", "chunks"), [((131, 70), (50, 30)), ((7, 40, 65), (7, 16, 16))])
def test_levels_that_are_made_chunk_by_chunk_are_those_of_the_whole(tmp_path, many_levels, shape, chunks):
    store, labels = filled(tmp_path / "a.zarr", shape, chunks)
    finished = finish(store.iter_finish())
    assert finished.is_finished and not store.is_finished
    for level, coarse in enumerate(level_shapes(shape)):
        labels = labels if level == 0 else most_frequent(labels, coarse)
        np.testing.assert_array_equal(finished.read(Block((0,) * len(shape), coarse), level), labels)


def test_finishing_goes_on_where_it_was_stopped(tmp_path, many_levels):
    store, _ = filled(tmp_path / "a.zarr")
    work = store.iter_finish()
    first = next(work)
    work.close()
    chunk = store.path / "1" / "c" / "0" / "0"
    before = chunk.stat().st_mtime_ns
    finish(LabelStore.open(store.path).iter_finish())
    assert first.done == 1 and chunk.stat().st_mtime_ns == before


def test_a_store_with_gaps_is_not_finished(tmp_path):
    store = new_store(tmp_path / "a.zarr")
    with pytest.raises(ImageError, match="is not complete: segment the rest first"):
        finish(store.iter_finish())


# --- What others read ---------------------------------------------------------------------------------


def test_the_folder_is_an_ome_zarr_label_image_with_all_levels_in_their_place(tmp_path, many_levels):
    store, labels = filled(tmp_path / "a.ome.zarr")
    finish(store.iter_finish())
    group = zarr.open_group(tmp_path / "a.ome.zarr", mode="r")
    ome = group.attrs["ome"]
    assert ome["version"] == "0.5"
    (multiscale,) = ome["multiscales"]
    assert multiscale["axes"] == [
        {"name": "y", "type": "space", "unit": "micrometer"},
        {"name": "x", "type": "space", "unit": "micrometer"},
    ]
    shapes = [group[dataset["path"]].shape for dataset in multiscale["datasets"]]
    assert shapes == level_shapes(store.shape) and len(shapes) == 5
    corner = [origin - step / 2 for origin, step in zip((4.0, 5.0), (0.25, 2.0), strict=True)]
    for dataset in multiscale["datasets"]:
        scale, shift = dataset["coordinateTransformations"]
        # The first voxel of each level begins at the same corner of the world.
        begins = np.subtract(shift["translation"], np.divide(scale["scale"], 2))
        np.testing.assert_allclose(begins, corner)
    assert ome["image-label"]["colors"][0] == {"label-value": 1, "rgba": [255, 0, 128, 255]}
    assert ome["image-label"]["properties"][1] == {"label-value": 2, "class": "wall"}
    assert group["0"].metadata.dimension_names == ("y", "x")


def test_labels_are_read_back_as_any_stored_image(tmp_path):
    store, labels = filled(tmp_path / "a.ome.zarr", (33, 40, 21), (16, 16, 16))
    image = open_stored_image(store.path, 3)
    np.testing.assert_array_equal(image.read((0, 0, 0), image.shape).array[..., 0], labels)
    assert image.affine == store.grid.affine and image.unit == "micrometer"


def test_napari_can_show_the_levels(tmp_path, many_levels):
    from napari.layers import Labels

    store, labels = filled(tmp_path / "a.ome.zarr")
    finish(store.iter_finish())
    group = zarr.open_group(store.path, mode="r")
    layer = Labels([group[str(n)] for n in range(len(level_shapes(store.shape)))], multiscale=True)
    assert layer.data.shapes[0] == store.shape
    np.testing.assert_array_equal(np.asarray(layer.data[0][:]), labels)


@pytest.mark.parametrize(("shape", "chunks"), [((130, 70), (50, 30)), ((9, 60, 70), (4, 16, 16))])
@pytest.mark.parametrize("at_once", [256, 4000, 2**20])
def test_a_tiff_holds_the_same_labels_with_their_spacing(tmp_path, monkeypatch, shape, chunks, at_once):
    monkeypatch.setattr(label_tiff, "TILE", 16)
    monkeypatch.setattr(label_tiff, "VOXELS_AT_ONCE", at_once)
    store, labels = filled(tmp_path / "a.zarr", shape, chunks)
    reports = list(iter_write_tiff(tmp_path / "a.tif", store))
    assert all(isinstance(report, Progress) for report in reports) and reports[-1].done == reports[-1].total
    written = read_label_map(tmp_path / "a.tif")
    np.testing.assert_array_equal(written.array, labels)
    assert written.spacing == store.grid.spacing and written.unit == "micrometer"
    with tifffile.TiffFile(tmp_path / "a.tif") as tiff:
        assert tiff.pages[0].is_tiled and tiff.pages[0].tile == (16, 16) and not tiff.is_bigtiff
        assert tiff.pages[0].compression.name == "ADOBE_DEFLATE"


def test_a_tiff_of_many_labels_is_a_bigtiff(tmp_path, monkeypatch):
    monkeypatch.setattr(label_tiff, "LARGEST_CLASSIC", 1000)
    store, labels = filled(tmp_path / "a.zarr")
    list(iter_write_tiff(tmp_path / "a.tif", store))
    with tifffile.TiffFile(tmp_path / "a.tif") as tiff:
        assert tiff.is_bigtiff
    np.testing.assert_array_equal(read_label_map(tmp_path / "a.tif").array, labels)


def test_a_tiff_appears_whole_or_not_at_all(tmp_path, monkeypatch):
    monkeypatch.setattr(label_tiff, "TILE", 16)
    monkeypatch.setattr(label_tiff, "VOXELS_AT_ONCE", 2000)
    store, _ = filled(tmp_path / "a.zarr")
    (tmp_path / "a.tif").write_bytes(b"older")
    work = iter_write_tiff(tmp_path / "a.tif", store)
    next(work)
    work.close()
    damaged = store.path / "0" / "c" / "2" / "2"
    damaged.write_bytes(b"no zstd")
    with pytest.raises(ImageError, match="is damaged"):
        list(iter_write_tiff(tmp_path / "a.tif", store))
    assert (tmp_path / "a.tif").read_bytes() == b"older"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tif", "a.zarr"]


def test_a_disk_that_refuses_a_tiff_ends_the_work_in_one_sentence(tmp_path, monkeypatch):
    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(label_tiff, "TILE", 16)
    monkeypatch.setattr(label_tiff, "VOXELS_AT_ONCE", 300)
    monkeypatch.setattr(label_tiff, "_write", full)
    store, _ = filled(tmp_path / "a.zarr")
    with pytest.raises(ImageError, match="cannot be written: No space left on device"):
        list(iter_write_tiff(tmp_path / "a.tif", store))


# --- Whose labels they are ------------------------------------------------------------------------------


def test_a_store_knows_what_it_is_of(tmp_path):
    store = new_store(tmp_path / "a.zarr", image="x", settings={"threshold": 0.5, "axes": (0, 1)})
    same = {"image": "x", "settings": {"threshold": 0.5, "axes": (0, 1)}}
    assert store.differences(same) == []
    assert store.differences({**same, "image": "y"}) == ["image"]
    assert store.differences({"image": "x"}) == ["settings"]


def test_what_is_there_already_is_not_overwritten(tmp_path):
    new_store(tmp_path / "a.zarr")
    (tmp_path / "b.zarr").write_text("mine", "utf-8")
    for name in ("a.zarr", "b.zarr"):
        with pytest.raises(ImageError, match="exists already"):
            new_store(tmp_path / name)


def foreign(path: Path) -> None:
    zarr.create_array(path, shape=(20, 20), chunks=(10, 10), dtype="uint8")


def cut_short(path: Path) -> None:
    new_store(path)
    (path / "0" / "zarr.json").write_text("{", "utf-8")


def newer(path: Path) -> None:
    new_store(path)
    described = json.loads((path / "zarr.json").read_text("utf-8"))
    described["attributes"]["swipe"]["version"] = 2
    (path / "zarr.json").write_text(json.dumps(described), "utf-8")


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (foreign, "is no folder of labels that this program wrote"),
        (cut_short, "is damaged"),
        (newer, "newer version"),
        (lambda path: path.mkdir(), "is damaged"),
        (lambda path: None, "does not exist"),
    ],
    ids=["foreign", "cut short", "newer", "empty", "missing"],
)
def test_a_folder_that_is_no_store_is_refused_in_one_sentence(tmp_path, make, sentence):
    make(tmp_path / "a.zarr")
    with pytest.raises(ImageError) as caught:
        LabelStore.open(tmp_path / "a.zarr")
    assert sentence in str(caught.value) and "\n" not in str(caught.value)


def test_a_damaged_chunk_is_told_when_it_is_read(tmp_path):
    store, _ = filled(tmp_path / "a.zarr")
    (store.path / "0" / "c" / "0" / "0").write_bytes(b"no zstd")
    with pytest.raises(ImageError, match="is damaged"):
        store.read(Block((0, 0), (50, 30)))


def test_moving_takes_the_place_of_labels_and_of_nothing_else(tmp_path):
    first, _ = filled(tmp_path / "a.zarr")
    second, labels = filled(tmp_path / "b.zarr")
    foreign(tmp_path / "c.zarr")
    with pytest.raises(ImageError, match="is no folder of labels"):
        second.move(tmp_path / "c.zarr")
    moved = second.move(first.path)
    np.testing.assert_array_equal(moved.read(Block((0, 0), moved.shape)), labels)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.zarr", "c.zarr"]


def test_a_folder_that_is_missing_is_told(tmp_path):
    with pytest.raises(ImageError, match="its folder does not exist"):
        new_store(tmp_path / "none" / "a.zarr")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_a_disk_that_refuses_is_told(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(ImageError, match="cannot be written"):
        new_store(tmp_path / "a.zarr")
