"""Images that are read part by part: any part is what the whole image has there, whatever stores it."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from stored_in_memory import stored_in_memory

from swipe_core.blocks import cut, cut_chunks
from swipe_core.coordinates import Affine
from swipe_core.errors import ImageError
from swipe_core.images import MedicalImage, read_image
from swipe_core.images import stored as module
from swipe_core.images.stored import StoredImage, open_stored_image

RNG = np.random.default_rng(0)


def numbers(shape: tuple[int, ...], dtype: str = "uint16") -> np.ndarray:
    return (RNG.random(shape) * 250).astype(dtype)


def whole(image: StoredImage) -> np.ndarray:
    return image.read((0,) * image.ndim, image.shape).array


def ome_zarr(path: Path, array: np.ndarray, axes: str, *, zarr_format: int = 3, **described) -> Path:
    """An OME-Zarr image of two levels: 0.5 with zarr 3, 0.4 with zarr 2."""
    kinds = {"c": "channel", "t": "time"}
    named = [{"name": axis, "type": kinds.get(axis, "space")} for axis in axes]
    for axis in named:
        if axis["type"] == "space" and "unit" in described:
            axis["unit"] = described["unit"]
    scale = described.get("scale", [1.0] * array.ndim)
    own = [{"type": "scale", "scale": scale}, *described.get("more", [])]
    datasets = [{"path": "0", "coordinateTransformations": own}, {"path": "1"}]
    multiscale = {"version": "0.4", "axes": named, "datasets": datasets} | described.get("top", {})
    group = zarr.open_group(path, mode="w", zarr_format=zarr_format)
    ome = {"version": "0.5", "multiscales": [multiscale]}
    group.attrs.put({"ome": ome} if zarr_format == 3 else {"multiscales": [multiscale]})
    chunks = tuple(min(16, n) for n in array.shape)
    group.create_array("0", data=array, chunks=chunks)
    group.create_array("1", data=array[..., ::2, ::2], chunks=chunks)
    return path


def plain_zarr(path: Path, array: np.ndarray, **kwargs) -> Path:
    zarr.create_array(path, data=array, chunks=tuple(min(16, n) for n in array.shape), **kwargs)
    return path


# --- Parts --------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    shape=st.lists(st.integers(1, 30), min_size=1, max_size=3), data=st.data(), voxels=st.integers(1, 3000)
)
def test_runs_cover_a_raster_once_in_c_order_and_cut_no_chunk(shape, data, voxels):
    chunks = data.draw(st.lists(st.integers(1, 40), min_size=len(shape), max_size=len(shape)))
    counts, numbered = np.zeros(shape, int), []
    order = np.arange(np.prod(shape)).reshape(shape)
    for part in cut_chunks(shape, chunks, voxels):
        counts[part.slices] += 1
        numbered.append(order[part.slices].min())
        assert all(a % c == 0 for a, c in zip(part.start, chunks, strict=True))
        ends = zip(part.start, part.shape, chunks, shape, strict=True)
        assert all((a + s) % c == 0 or a + s == n for a, s, c, n in ends)
        whole_chunk = np.prod([min(c, n) for c, n in zip(chunks, shape, strict=True)])
        assert np.prod(part.shape) <= max(voxels, whole_chunk)
    assert (counts == 1).all() and numbered == sorted(numbered)


def test_tiles_of_a_run_follow_one_another_as_in_the_whole_raster():
    shape, tile = (3, 25, 40), (1, 8, 8)
    for voxels in (64, 300, 900, 2500):
        tiles = [
            tuple(np.add(run.start, inner.start))
            for run in cut_chunks(shape, tile, voxels)
            for inner in cut(run.shape, tile)
        ]
        assert tiles == [part.start for part in cut(shape, tile)]


# --- Any part is what the whole has there -----------------------------------------------------------


def tiled(path, array, **kwargs):
    tifffile.imwrite(path, array, tile=(16, 32), compression="zlib", **kwargs)


def in_strips(path, array, **kwargs):
    tifffile.imwrite(path, array, rowsperstrip=5, compression="zlib", **kwargs)


def uncompressed(path, array, **kwargs):
    tifffile.imwrite(path, array, **kwargs)


def pyramid(path, array, **kwargs):
    with tifffile.TiffWriter(path, bigtiff=True) as tiff:
        tiff.write(array, subifds=1, tile=(16, 16), compression="zlib", **kwargs)
        tiff.write(array[::2, ::2], subfiletype=1, tile=(16, 16), compression="zlib", **kwargs)


TIFFS = {
    "tiles": (tiled, (70, 90), "uint16", {}),
    "strips": (in_strips, (70, 90), "uint16", {}),
    "bytes as they are": (uncompressed, (70, 90), "float32", {}),
    "other byte order": (uncompressed, (70, 90), "uint16", {"byteorder": ">"}),
    "colours": (tiled, (70, 90, 3), "uint8", {"photometric": "rgb"}),
    "alpha": (tiled, (70, 90, 4), "uint8", {"photometric": "rgb", "extrasamples": ["unassalpha"]}),
    "planes of colour": (
        uncompressed,
        (3, 70, 90),
        "uint8",
        {"photometric": "rgb", "planarconfig": "separate"},
    ),
    "bright is zero": (tiled, (70, 90), "uint8", {"photometric": "miniswhite"}),
    "palette": (
        in_strips,
        (70, 90),
        "uint8",
        {"photometric": "palette", "colormap": RNG.integers(0, 65535, (3, 256), dtype=np.uint16)},
    ),
    "bits": (uncompressed, (70, 90), "bool", {}),
    "pyramid": (pyramid, (70, 90), "uint8", {}),
    "volume": (tiled, (7, 70, 90), "uint16", {"photometric": "minisblack"}),
    "volume as it is": (uncompressed, (7, 70, 90), "float32", {"photometric": "minisblack"}),
    "ImageJ stack": (
        uncompressed,
        (7, 70, 90),
        "uint16",
        {"imagej": True, "metadata": {"axes": "ZYX", "spacing": 2.0, "unit": "um"}, "resolution": (4, 2)},
    ),
    "OME with channels": (
        tiled,
        (2, 7, 70, 90),
        "uint8",
        {
            "ome": True,
            "photometric": "minisblack",
            "metadata": {
                "axes": "CZYX",
                "PhysicalSizeX": 0.5,
                "PhysicalSizeXUnit": "\N{MICRO SIGN}m",
                "PhysicalSizeY": 0.25,
                "PhysicalSizeYUnit": "\N{MICRO SIGN}m",
            },
        },
    ),
}


@pytest.mark.parametrize("kind", TIFFS)
def test_a_tiff_is_read_in_parts_as_it_is_read_whole(tmp_path, kind):
    write, shape, dtype, options = TIFFS[kind]
    array = numbers(shape) % 2 > 0 if dtype == "bool" else numbers(shape, dtype)
    path = tmp_path / ("image.ome.tif" if options.get("ome") else "image.tif")
    write(path, array, **options)
    expected, image = read_image(path), open_stored_image(path)
    assert (image.shape, image.channels, image.dtype) == (
        expected.shape,
        expected.channels,
        expected.array.dtype,
    )
    assert (image.affine, image.unit, image.path) == (expected.affine, expected.unit, path)
    assert image.channel_kinds == expected.channel_kinds
    np.testing.assert_array_equal(whole(image), expected.array)
    start = tuple(n // 3 for n in image.shape)
    part = image.read(start, (1,) * (image.ndim - 2) + (20, 41))
    exact = expected.window(start, part.shape)
    np.testing.assert_array_equal(part.array, exact.array)
    assert part.affine == exact.affine and part.array.dtype == exact.array.dtype


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("axes", ["yx", "cyx", "yxc", "tczyx", "zyx", "czyx", "zyxc"])
def test_axes_of_an_ome_zarr_image_may_stand_in_any_order(tmp_path, axes, zarr_format):
    size = {"t": 1, "c": 3, "z": 5, "y": 40, "x": 50}
    array = numbers(tuple(size[axis] for axis in axes))
    image = open_stored_image(ome_zarr(tmp_path / "a.zarr", array, axes, zarr_format=zarr_format))
    spatial = [axis for axis in "zyx" if axis in axes]
    order = [axes.index(axis) for axis in [*axes] if axis == "t"] + [axes.index(a) for a in spatial]
    expected = array.transpose(order + ([axes.index("c")] if "c" in axes else []))
    expected = expected.reshape((*image.shape, 3 if "c" in axes else 1))
    assert image.shape == tuple(size[axis] for axis in spatial)
    np.testing.assert_array_equal(whole(image), expected)
    start = tuple(n // 4 for n in image.shape)
    part = image.read(start, (2,) * image.ndim)
    assert part.array.shape == (2,) * image.ndim + expected.shape[-1:]
    np.testing.assert_array_equal(
        part.array, MedicalImage(expected, image.affine, "").window(start, part.shape).array
    )


def test_scales_and_translations_of_all_levels_place_an_ome_zarr_image(tmp_path):
    path = ome_zarr(
        tmp_path / "a.ome.zarr",
        numbers((2, 30, 40)),
        "cyx",
        unit="micrometer",
        scale=[1.0, 0.5, 0.25],
        more=[{"type": "translation", "translation": [0.0, 3.0, 4.0]}],
        top={"coordinateTransformations": [{"type": "scale", "scale": [1.0, 2.0, 2.0]}]},
    )
    image = open_stored_image(path, 2)
    assert image.affine == Affine.from_spacing((1.0, 0.5), (6.0, 8.0))
    assert image.unit == "micrometer" and image.chunks == (16, 16)


@pytest.mark.parametrize(
    ("shape", "ndim", "found", "channels"),
    [
        ((30, 40), None, (30, 40), 1),
        ((30, 40, 3), 2, (30, 40), 3),
        ((3, 30, 40), 2, (30, 40), 3),
        ((3, 30, 40), 3, (3, 30, 40), 1),
        ((20, 30, 40), None, (20, 30, 40), 1),
        ((2, 20, 30, 40), 3, (20, 30, 40), 2),
    ],
)
def test_a_zarr_array_without_names_has_channels_where_these_must_be(tmp_path, shape, ndim, found, channels):
    image = open_stored_image(plain_zarr(tmp_path / "a.zarr", numbers(shape)), ndim)
    assert (image.shape, image.channels, image.unit) == (found, channels, "pixel")


def test_dimension_names_of_zarr_are_taken_at_their_word(tmp_path):
    path = plain_zarr(tmp_path / "a.zarr", numbers((6, 30, 40)), dimension_names=["c", "y", "x"])
    assert (open_stored_image(path).shape, open_stored_image(path).channels) == ((30, 40), 6)


def test_shards_and_an_image_that_bioformats2raw_nests_are_read(tmp_path):
    array = numbers((32, 64))
    zarr.create_array(tmp_path / "s.zarr", data=array, chunks=(8, 8), shards=(16, 32))
    np.testing.assert_array_equal(whole(open_stored_image(tmp_path / "s.zarr"))[..., 0], array)
    outer = zarr.open_group(tmp_path / "b.zarr", mode="w", zarr_format=2)
    outer.attrs.put({"bioformats2raw.layout": 3})
    ome_zarr(tmp_path / "b.zarr" / "0", array, "yx", zarr_format=2)
    np.testing.assert_array_equal(whole(open_stored_image(tmp_path / "b.zarr"))[..., 0], array)


def test_a_volume_of_one_slice_is_a_picture_unless_a_volume_is_wanted(tmp_path):
    path = ome_zarr(tmp_path / "a.zarr", numbers((1, 30, 40)), "zyx", scale=[9.0, 2.0, 3.0])
    assert open_stored_image(path, 2).spacing == (2.0, 3.0)
    assert open_stored_image(path, 3).shape == (1, 30, 40)


def test_a_part_of_a_part_lies_where_it_lies_in_the_whole():
    image = MedicalImage(numbers((30, 40, 2)), Affine.from_spacing((2.0, 3.0)), "millimeter")
    inner = stored_in_memory(image).window((5, 6), (20, 20)).window((1, 2), (10, 10)).read((3, 4), (5, 6))
    expected = image.window((9, 12), (5, 6))
    np.testing.assert_array_equal(inner.array, expected.array)
    assert inner.affine == expected.affine


def test_a_file_is_told_from_what_it_was_before_a_change(tmp_path):
    path = tmp_path / "a.tif"
    tiled(path, numbers((40, 50)))
    first = open_stored_image(path).identity
    assert open_stored_image(path).identity == first
    tiled(path, numbers((40, 51)))
    assert open_stored_image(path).identity != first


# --- What cannot be read ----------------------------------------------------------------------------


def break_metadata(path: Path) -> None:
    ome_zarr(path, numbers((20, 20)), "yx")
    (path / "zarr.json").write_text('{"zarr_format": 3, "node_type"', "utf-8")


def name_missing_level(path: Path) -> None:
    ome_zarr(path, numbers((20, 20)), "yx")
    (path / "0" / "zarr.json").unlink()


def count_axes_wrong(path: Path) -> None:
    ome_zarr(path, numbers((20, 20)), "zyx")


def group_without_image(path: Path) -> None:
    zarr.open_group(path, mode="w")


def plate(path: Path) -> None:
    zarr.open_group(path, mode="w").attrs.put({"ome": {"plate": {}}})


def complex_numbers(path: Path) -> None:
    plain_zarr(path, numbers((20, 20)).astype(complex))


def packed_with(path: Path, name: str, level: str = "filters") -> None:
    """An array of zarr 2 whose metadata asks for a codec of numcodecs."""
    plain_zarr(path, numbers((16, 16), "uint8"), zarr_format=2, compressors=None)
    described = json.loads((path / ".zarray").read_text("utf-8"))
    codec = {"id": name}
    (path / ".zarray").write_text(
        json.dumps(described | {level: [codec] if level == "filters" else codec}), "utf-8"
    )


def series_of_times(path: Path) -> None:
    ome_zarr(path, numbers((4, 20, 20)), "tyx")


FAULTS: dict[str, tuple[Callable[[Path], None], str]] = {
    "metadata cut short": (break_metadata, "is damaged or not a zarr file"),
    "a level that is gone": (name_missing_level, "is damaged or not a OME-Zarr file"),
    "axes that do not count up": (count_axes_wrong, "2 axes of voxels, called zyx"),
    "no image": (group_without_image, "describes no image"),
    "many images": (plate, "is a plate of many images"),
    "complex numbers": (complex_numbers, "holds complex128 values"),
    "an odd codec": (
        lambda path: packed_with(path, "base64"),
        "is packed with base64, which is not opened since it might run a program",
    ),
    "pickles": (lambda path: packed_with(path, "pickle"), "pickle"),
    "pickles as compression": (lambda path: packed_with(path, "pickle", "compressor"), "pickle"),
    "times": (series_of_times, "only depth, rows, columns and channels have a place here"),
    "nothing": (lambda path: None, "does not exist"),
    "an empty folder": (lambda path: path.mkdir(), "is damaged or not a zarr file"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_zarr_folder_that_cannot_be_used_is_refused_in_one_sentence(tmp_path, fault):
    make, sentence = FAULTS[fault]
    make(tmp_path / "a.zarr")
    with pytest.raises(ImageError) as caught:
        open_stored_image(tmp_path / "a.zarr")
    assert sentence in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("level", ["filters", "compressor"])
def test_a_pickle_in_a_chunk_is_never_opened(tmp_path, level):
    packed_with(tmp_path / "a.zarr", "pickle", level)
    ran = tmp_path / "ran"
    # Protocol 0 of `open(ran, "w")`.
    (tmp_path / "a.zarr" / "0.0").write_bytes(f"cbuiltins\nopen\n(V{ran}\nVw\ntR.".encode())
    with pytest.raises(ImageError):
        open_stored_image(tmp_path / "a.zarr")
    assert not ran.exists()


def test_objects_of_zarr_2_are_refused(tmp_path):
    path = plain_zarr(tmp_path / "a.zarr", numbers((20, 20)), zarr_format=2)
    described = json.loads((path / ".zarray").read_text("utf-8"))
    described |= {"dtype": "|O", "filters": [{"id": "pickle", "protocol": 5}], "fill_value": None}
    (path / ".zarray").write_text(json.dumps(described), "utf-8")
    with pytest.raises(ImageError):
        open_stored_image(path)


def test_a_damaged_chunk_is_told_when_it_is_read(tmp_path):
    path = plain_zarr(tmp_path / "a.zarr", numbers((40, 40)))
    (path / "c" / "1" / "1").write_bytes(b"no zstd")
    image = open_stored_image(path)
    image.read((0, 0), (16, 16))
    with pytest.raises(ImageError, match="is damaged or not a zarr file"):
        image.read((10, 10), (20, 20))


def test_a_tiff_that_is_cut_short_is_refused_before_any_work(tmp_path):
    path = tmp_path / "a.tif"
    tiled(path, numbers((200, 300)))
    path.write_bytes(path.read_bytes()[:-5000])
    with pytest.raises(ImageError, match="cut short|damaged"):
        open_stored_image(path)


def test_nan_is_told_with_its_place(tmp_path):
    array = numbers((40, 40), "float32")
    array[30, 31] = np.nan
    image = open_stored_image(plain_zarr(tmp_path / "a.zarr", array))
    image.read((0, 0), (20, 20))
    with pytest.raises(ImageError, match="NaN or infinite values among its voxels 20:40 x 20:40"):
        image.read((20, 20), (20, 20))


def test_pieces_that_are_too_large_to_be_unpacked_whole_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "MOST_CHUNK_BYTES", 2000)
    tifffile.imwrite(tmp_path / "a.tif", numbers((40, 50)), rowsperstrip=40, compression="zlib")
    with pytest.raises(ImageError, match="export it in tiles or chunks"):
        open_stored_image(tmp_path / "a.tif")


@pytest.mark.parametrize(("name", "ndim"), [("a.tif", 3), ("a.zarr", 3)])
def test_an_image_of_other_axes_than_are_needed_is_refused(tmp_path, name, ndim):
    if name.endswith("tif"):
        tiled(tmp_path / name, numbers((40, 50)))
    else:
        ome_zarr(tmp_path / name, numbers((40, 50)), "yx")
    with pytest.raises(ImageError, match="is a 2D image .* a 3D image is needed here"):
        open_stored_image(tmp_path / name, ndim)


def test_a_compression_that_is_not_known_here_is_named_before_any_work(tmp_path):
    from PIL import Image

    if importlib.util.find_spec("imagecodecs"):
        pytest.skip("imagecodecs knows it")
    Image.fromarray(numbers((40, 50), "uint8")).save(tmp_path / "a.tif", compression="tiff_lzw")
    with pytest.raises(ImageError, match=r"compressed in a way \(LZW\) .* pip install imagecodecs"):
        open_stored_image(tmp_path / "a.tif")


def test_a_part_beyond_the_image_is_refused():
    image = stored_in_memory(MedicalImage(numbers((30, 40, 1)), Affine.identity(2), "pixel"))
    with pytest.raises(ImageError, match="the part 20:40 x 0:10 is not inside it"):
        image.read((20, 0), (20, 10))


def test_other_formats_are_refused(tmp_path):
    with pytest.raises(ImageError, match="cannot be read part by part"):
        open_stored_image(tmp_path / "a.png")


def test_without_zarr_the_extra_is_named(tmp_path, monkeypatch):
    import sys

    tiled(tmp_path / "a.tif", numbers((40, 50)))
    monkeypatch.setitem(sys.modules, "zarr", None)
    for name in ("a.zarr", "a.tif"):
        with pytest.raises(ImageError, match=r'pip install "napari-swipe\[scale\]"'):
            open_stored_image(tmp_path / name)
