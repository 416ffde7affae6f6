"""What users get wrong, row by row: one sentence that says what to do, nothing on the console, no traceback.

A row is a name, how its file comes to be, and the sentence that is expected, or the numbers where the
file only looks wrong.
"""

from __future__ import annotations

import errno
import gzip
import importlib.util
import json
import logging
import os
import re
import shutil
import struct
import tracemalloc
import warnings
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nibabel
import numpy as np
import psutil
import pytest
import SimpleITK as sitk  # noqa: N813 - its own documentation calls it so
import tifffile
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from swipe_core.checkpoints.file import Checkpoint, load_checkpoint, save_checkpoint
from swipe_core.cli import main as swipe
from swipe_core.coordinates import Affine
from swipe_core.data.cases import Case, find_cases
from swipe_core.data.dataset import BatchConfig, TrainingSet
from swipe_core.data.labelled import read_labelled
from swipe_core.data.labels import LabelConfig
from swipe_core.data.preprocessing import PreprocessingConfig
from swipe_core.data.sampling import SamplingConfig
from swipe_core.errors import SwipeError
from swipe_core.images import MedicalImage, read_header, read_image, read_label_map
from swipe_core.images import itk as itk_module
from swipe_core.images.decoding import decoding
from swipe_core.networks.swipe.build import build_swipe
from swipe_core.prediction.predictor import Predictor
from swipe_core.progress import Notice
from swipe_core.training.config import dump_config, load_config

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (24, 20), dtype=np.uint8)
COLOUR = RNG.integers(0, 256, (24, 20, 3), dtype=np.uint8)
INDICES = RNG.integers(0, 4, (24, 20), dtype=np.uint8)
PALETTE = RNG.integers(0, 256, (4, 3), dtype=np.uint8)
BITS = GREY > 100
VOLUME = RNG.integers(-90, 90, (6, 7, 8)).astype(np.int16)  # (z, y, x)
LABELS = (VOLUME > 0).astype(np.uint8)
TEXT = "This is only text, whatever its name says.\n" * 20

Write = Callable[[Path], object]


def one_sentence(work: Callable[[], object]) -> str:
    """The sentence that some work is refused with."""
    with pytest.raises(SwipeError) as caught:
        work()
    text = str(caught.value)
    assert "\n" not in text and len(text) < 500
    assert text.endswith((".", "?"))
    return text


@pytest.fixture(autouse=True)
def quiet(capfd, caplog):
    """Nothing on the console but what a test has taken from it, and no complaint of a library."""
    yield
    assert capfd.readouterr() == ("", "")
    assert [record.message for record in caplog.records if record.levelno >= logging.WARNING] == []


# --- How files come to be -----------------------------------------------------------------------


def png(width: int, height: int, pixels: bytes = b"\0") -> Write:
    """A PNG whose header promises what is asked."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    body = header + chunk(b"IDAT", zlib.compress(pixels)) + chunk(b"IEND", b"")
    return lambda path: path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)


def picture(array: np.ndarray, mode: str | None = None, **options: Any) -> Write:
    made = Image.fromarray(array)
    made = made.convert(mode) if mode else made
    return lambda path: made.save(path, **options)


def with_palette(path: Path) -> None:
    made = Image.fromarray(INDICES).convert("P")
    made.putdata(INDICES.ravel().tolist())
    made.putpalette(PALETTE.ravel().tolist())
    made.save(path)


def tiff(array: np.ndarray, **options: Any) -> Write:
    return lambda path: tifffile.imwrite(path, array, **options)


def pyramid(subifds: bool) -> Write:
    """A picture, its half and its quarter."""

    def write(path: Path) -> None:
        with tifffile.TiffWriter(path) as file:
            for level in range(3):
                options = {"subifds": 2} if subifds and level == 0 else {"subfiletype": min(level, 1)}
                file.write(GREY[:: 2**level, :: 2**level], **options)

    return write


def twelve_bits(path: Path) -> None:
    deep = GREY.astype(np.uint16) * 16
    high, low = deep[:, 0::2], deep[:, 1::2]
    packed = np.stack([high >> 4, (high & 15) << 4 | low >> 8, low & 255], -1).astype(np.uint8).tobytes()
    height, width = deep.shape
    tags = {256: width, 257: height, 258: 12, 259: 1, 262: 1, 273: 8, 277: 1, 278: height, 279: len(packed)}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    directory = struct.pack("<H", len(tags)) + entries + bytes(4)
    path.write_bytes(b"II*\0" + struct.pack("<I", 8 + len(packed)) + packed + directory)


def tiff_of_tags(changes: dict[int, int], **options: Any) -> Write:
    """A TIFF with tags that contradict its pixels."""

    def write(path: Path) -> None:
        tifffile.imwrite(path, GREY, **options)
        with tifffile.TiffFile(path) as file:
            places = {tag: file.pages[0].tags[tag].valueoffset for tag in changes}
        spoilt = bytearray(path.read_bytes())
        for tag, value in changes.items():
            struct.pack_into("<I", spoilt, places[tag], value)
        path.write_bytes(spoilt)

    return write


def nifti(array: np.ndarray = VOLUME, changes: dict[int, bytes] | None = None) -> Write:
    """A NIfTI with some bytes of its header replaced, by their places."""

    def write(path: Path) -> None:
        made = bytearray(
            nibabel.Nifti1Image(array.T, np.diag([2.0, 2.0, 2.0, 1.0]), dtype=array.dtype).to_bytes()
        )
        for place, value in (changes or {}).items():
            made[place : place + len(value)] = value
        path.write_bytes(gzip.compress(made) if path.name.lower().endswith(".gz") else made)

    return write


def shorts(*numbers: int) -> bytes:
    return struct.pack(f"<{len(numbers)}h", *numbers)


def floats(*numbers: float) -> bytes:
    return struct.pack(f"<{len(numbers)}f", *numbers)


DIM, XYZT_UNITS, SLOPE, PIXDIM, QFORM_CODE, SFORM_CODE, SFORM = 40, 123, 112, 76, 252, 254, 280


def itk(compressed: bool = False) -> Write:
    return lambda path: sitk.WriteImage(sitk.GetImageFromArray(VOLUME), str(path), compressed)


def spoilt(write: Write, damage: Callable[[bytes], bytes]) -> Write:
    def both(path: Path) -> None:
        write(path)
        path.write_bytes(damage(path.read_bytes()))

    return both


def cut(write: Write) -> Write:
    return spoilt(write, lambda whole: whole[: len(whole) * 2 // 3])


def replaced(write: Write, old: bytes, new: bytes) -> Write:
    return spoilt(write, lambda whole: whole.replace(old, new))


def flipped(write: Write, place: int) -> Write:
    def flip(whole: bytes) -> bytes:
        damaged = bytearray(whole)
        damaged[place] ^= 0xFF
        return bytes(damaged)

    return spoilt(write, flip)


def bytes_of(content: bytes | str) -> Write:
    return lambda path: path.write_bytes(content if isinstance(content, bytes) else content.encode())


def link_to(target: str | Path) -> Write:
    def write(path: Path) -> None:
        try:
            path.symlink_to(target)
        except OSError:  # Windows wants a privilege for it
            pytest.skip("links cannot be made here")

    return write


# --- Images -------------------------------------------------------------------------------------

DAMAGED = r"is damaged or not a .* file that can be read here \(.+\); export it again"
REFUSED_IMAGES: list[tuple[str, Write, str]] = [
    ("missing.png", lambda _: None, "does not exist; name an image file"),
    ("folder.png", lambda path: path.mkdir(), "is a folder without DICOM files; name an image file"),
    ("unknown.docx", bytes_of(TEXT), r"of no known image format; use one of \.nii"),
    ("link.png", link_to("nowhere.png"), "does not exist; name an image file"),
    ("empty.png", bytes_of(b""), "is empty; copy or export it again"),
    ("empty.nii.gz", bytes_of(b""), "is empty; copy or export it again"),
    ("text.png", bytes_of(TEXT), "is no PNG, JPEG or BMP picture, whatever its name says; export it again"),
    ("text.jpg", bytes_of(TEXT), "is no PNG, JPEG or BMP picture, whatever its name says; export it again"),
    ("text.tif", bytes_of(TEXT), DAMAGED),
    ("text.nii", bytes_of(TEXT), DAMAGED),
    ("text.nii.gz", bytes_of(TEXT), DAMAGED),
    ("text.nrrd", bytes_of(TEXT), DAMAGED),
    ("text.mha", bytes_of(TEXT), "does not name what holds the voxels; export it again"),
    ("text.dcm", bytes_of(TEXT), DAMAGED),
    ("cut.png", cut(picture(COLOUR)), DAMAGED),
    ("cut.jpg", cut(picture(COLOUR)), DAMAGED),
    ("cut.bmp", cut(picture(COLOUR)), DAMAGED),
    ("cut.tif", cut(tiff(GREY)), r"is cut short at byte \d+ of \d+; copy or export it again"),
    ("cut-zlib.tif", cut(tiff(GREY, compression="zlib")), "is cut short .*; copy or export it again"),
    ("cut.nii", cut(nifti()), r"promises .* which a file of \d+ bytes cannot hold; export it again"),
    ("cut.nii.gz", cut(nifti()), DAMAGED),
    ("cut.nrrd", cut(itk()), DAMAGED),
    ("cut.mha", cut(itk()), r"holds \d+ of 672 bytes of voxels; copy or export it again"),
    ("nan.tif", tiff(np.full((4, 5), np.nan, np.float32)), "has 20 NaN or infinite values .*; replace them"),
    ("infinite.tif", tiff(np.full((4, 5), np.inf)), "has 20 NaN or infinite values .*; replace them"),
    ("nan.nii.gz", nifti(np.full((2, 3, 4), np.nan, np.float32)), "has 24 NaN .*; replace them"),
    ("complex.tif", tiff(GREY.astype(np.complex64)), "holds complex64 values; export real numbers instead"),
    ("complex.nii", nifti(VOLUME.astype(np.complex64)), "holds complex64 values; real numbers are needed"),
    (
        "times.tif",
        tiff(np.zeros((2, 3, 4, 5), np.uint8), imagej=True, metadata={"axes": "TZYX"}),
        "axes TZYX .*: split the file",
    ),
    (
        "five.tif",
        tiff(np.zeros((2, 2, 3, 4, 5), np.uint8), photometric="rgb", planarconfig="separate"),
        "only depth, rows, columns and .*: split the file",
    ),
    ("times.nii", nifti(np.zeros((3, 2, 4, 5, 6), np.int16)), r"only one axis after the third .*; split"),
    (
        "nothing.nii",
        nifti(np.zeros((3, 2, 0), np.int16)),
        r"holds no voxels: its shape is .*; export it again",
    ),
    ("nothing.tif", tiff_of_tags({256: 0, 257: 0}), DAMAGED),
    ("nothing.png", png(0, 5), DAMAGED),
    ("nothing.mha", replaced(itk(), b"8 7 6", b"0 7 6"), "holds no voxels: .*; export it again"),
    ("negative.mha", replaced(itk(), b"8 7 6", b"-8 7 6"), "of voxels; copy or export it again"),
    ("gigantic.png", png(2**31 - 1, 2**31 - 1), r"promises .* TB\), which a file of .* cannot hold; export"),
    ("large.png", png(100_000, 100_000), r"promises .*\(10 GB\), which a file of .* cannot hold; export"),
    ("gigantic.tif", tiff_of_tags({256: 2**31 - 1, 257: 2**31 - 1}), "is cut short .*; copy or export"),
    (
        "gigantic-zlib.tif",
        tiff_of_tags({256: 40_000, 257: 40_000}, compression="zlib"),
        "has 1 of the 1667 parts of a page; copy or export it again",
    ),
    (
        "gigantic.nii",
        nifti(changes={DIM: shorts(3, 32767, 32767, 32767)}),
        r"promises 32767 x 32767 x 32767 values \(70.4 TB\), which a file of .* cannot hold; export",
    ),
    (
        "gigantic.nii.gz",
        nifti(changes={DIM: shorts(3, 2000, 2000, 1000)}),
        r"promises 2000 x 2000 x 1000 values \(8 GB\), which a file of .* cannot hold; export it again",
    ),
    (
        "gigantic.nrrd",
        replaced(itk(), b"8 7 6", b"900000 900000 900000"),
        r"promises .* and .* of memory are free; crop it, or reduce its resolution, first",
    ),
    ("gigantic.mha", replaced(itk(), b"8 7 6", b"900000 90000 9000"), "holds 672 of 1458000000000000 bytes"),
    ("negative.nii", nifti(changes={DIM: shorts(3, -8, 7, 6)}), DAMAGED),
    ("many-axes.nii", nifti(changes={DIM: shorts(9, 8, 7, 6)}), DAMAGED),
    ("singular.nii", nifti(changes={SFORM: floats(*[0] * 12)}), "does not place its voxels .*; repair its"),
    (
        "nan-affine.nii",
        nifti(changes={SFORM: floats(*[np.nan] * 12)}),
        "does not place .*; repair its header",
    ),
    (
        "nan-spacing.nii",
        nifti(changes={QFORM_CODE: shorts(0, 0), PIXDIM: floats(1, np.nan, np.nan, np.nan)}),
        "does not place its voxels in space; repair its header",
    ),
    (
        "not-gzip.nii.gz",
        lambda path: nifti()(path) or path.write_bytes(gzip.decompress(path.read_bytes())),
        DAMAGED,
    ),
    ("checksum.nii.gz", flipped(nifti(), -6), r"\(CRC check failed .*\); export it again"),
    ("voxels.nii.gz", flipped(nifti(), -90), DAMAGED),
    (
        "no-checksum.nii.gz",
        spoilt(nifti(), lambda whole: whole[:-8]),
        "ended before the end-of-stream marker",
    ),
    (
        "voxels.mha",
        flipped(itk(compressed=True), -90),
        "is damaged or cut short: .*; copy or export it again",
    ),
    (
        "alone.mhd",
        lambda path: itk()(path) or path.with_suffix(".raw").unlink(),
        r"its voxels are in alone\.raw, which is not there; copy it too",
    ),
]


@pytest.mark.parametrize(("name", "write", "said"), [pytest.param(*row, id=row[0]) for row in REFUSED_IMAGES])
def test_an_image_that_cannot_be_read_is_refused_with_what_to_do(tmp_path, name, write, said):
    write(tmp_path / name)
    for read in (read_image, read_label_map):
        if read is read_label_map and "NaN" in said:
            said = "no whole numbers"
        text = one_sentence(lambda read=read: read(tmp_path / name))
        assert re.search(said, text), text
        assert str(tmp_path / Path(name).stem.split(".")[0]) in text


def test_an_image_that_does_not_fit_into_memory_is_refused_before_it_is_read(tmp_path, monkeypatch):
    free = SimpleNamespace(available=400)
    for name, write in {
        "a.png": picture(GREY),
        "a.tif": tiff(GREY),
        "a.nii.gz": nifti(),
        "a.nrrd": itk(),
        "a.mha": itk(),
    }.items():
        write(tmp_path / name)
        monkeypatch.setattr(psutil, "virtual_memory", lambda: free)
        text = one_sentence(lambda name=name: read_image(tmp_path / name))
        assert "400 bytes of memory are free; crop it" in text
        monkeypatch.undo()
        read_image(tmp_path / name)


def test_reading_in_threads_that_overlap_leaves_no_filter_behind(tmp_path):
    path, before = tmp_path / "a.nii", list(warnings.filters)
    first, second = decoding(path, "NIfTI"), decoding(path, "NIfTI")
    with ThreadPoolExecutor(1) as other:
        first.__enter__()
        other.submit(second.__enter__).result()
        first.__exit__(None, None, None)
        assert warnings.filters[1:] == before  # the second still reads
        other.submit(second.__exit__, None, None, None).result()
    assert warnings.filters == before


def test_a_few_bytes_that_become_many_take_no_more_memory_than_a_block(tmp_path):
    itk(compressed=True)(tmp_path / "bomb.mha")
    head, found, _ = (tmp_path / "bomb.mha").read_bytes().partition(b"ElementDataFile = LOCAL\n")
    (tmp_path / "bomb.mha").write_bytes(head + found + zlib.compress(bytes(2**26)))
    tracemalloc.start()
    try:
        itk_module.check_metaimage(tmp_path / "bomb.mha", 672)
        assert tracemalloc.get_traced_memory()[1] < 4 * itk_module.BLOCK
    finally:
        tracemalloc.stop()


def test_voxels_of_several_blocks_are_counted_whole(tmp_path):
    path = tmp_path / "large.mha"
    sitk.WriteImage(sitk.GetImageFromArray(RNG.integers(0, 4, (3, 2**10, 2**10), np.uint8)), str(path), True)
    assert read_image(path).shape == (3, 2**10, 2**10)
    path.write_bytes(path.read_bytes()[:-4])
    assert "holds 0 of 3145728 bytes of voxels" in one_sentence(lambda: read_image(path))


def test_a_header_is_read_without_unpacking_the_voxels(tmp_path, monkeypatch):
    itk(compressed=True)(tmp_path / "a.mha")
    monkeypatch.setattr(itk_module, "_unpacked_size", lambda *_: pytest.fail("the voxels were unpacked"))
    assert read_header(tmp_path / "a.mha").channels == 1


def on_paper(colours: np.ndarray) -> np.ndarray:
    """What is left of colours after they were turned to inks and back."""
    inks = np.asarray(Image.fromarray(colours).convert("CMYK")).astype(float) / 255
    return np.rint(255 * (1 - inks[..., :3]) * (1 - inks[..., 3:])).astype(np.uint8)


FLAT = np.full((16, 16, 3), (200, 120, 40), np.uint8)
NUMBER_TYPES = (
    *("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"),
    *("float32", "float64"),
)
WORKING_IMAGES: list[tuple[str, Write, np.ndarray]] = [
    ("palette.png", with_palette, PALETTE[INDICES]),
    ("palette.tif", with_palette, PALETTE[INDICES]),
    ("palette.bmp", with_palette, PALETTE[INDICES]),
    ("cmyk.tif", picture(COLOUR, "CMYK"), on_paper(COLOUR)),
    ("cmyk-lzw.tif", picture(COLOUR, "CMYK", compression="tiff_lzw"), on_paper(COLOUR)),
    ("cmyk.jpg", picture(FLAT, "CMYK", quality=100), FLAT),
    ("bits.png", picture(BITS), BITS[..., None] * np.uint8(255)),
    ("bits.tif", picture(BITS), BITS[..., None] * np.uint8(255)),
    ("bits-of-a-fax.tif", picture(BITS, compression="group4"), BITS[..., None] * np.uint8(255)),
    ("bits.bmp", picture(BITS), BITS[..., None] * np.uint8(255)),
    ("bits.jpg", picture(np.full((16, 16), True)), np.full((16, 16, 1), 255, np.uint8)),
    ("twelve-bits.tif", twelve_bits, GREY[..., None].astype(np.uint16) * 16),
    ("float64.tif", tiff(GREY / 3), GREY[..., None] / 3),
    ("big-endian.tif", tiff(GREY.astype(np.uint16), byteorder=">"), GREY[..., None].astype(np.uint16)),
    ("bigtiff.tif", tiff(GREY, bigtiff=True), GREY[..., None]),
    ("pyramid-of-pages.tif", pyramid(subifds=False), GREY[..., None]),
    ("pyramid-below.tif", pyramid(subifds=True), GREY[..., None]),
    ("alpha.png", picture(COLOUR, "RGBA"), COLOUR),
    ("alpha.tif", picture(COLOUR, "RGBA"), COLOUR),
    (
        "two-channels.tif",
        tiff(COLOUR[..., :2], photometric="minisblack", planarconfig="contig"),
        COLOUR[..., :2],
    ),
    ("one-wide.png", picture(GREY[:, :1]), GREY[:, :1, None]),
    ("one-high.tif", tiff(GREY[:1]), GREY[:1, :, None]),
    ("named-otherwise.png", picture(COLOUR, format="BMP"), COLOUR),
    ("Größe 名前 (1).png", picture(GREY), GREY[..., None]),
    ("times.nii", nifti(np.stack([VOLUME, VOLUME + 1])), np.stack([VOLUME, VOLUME + 1], -1)),
    ("seconds.nii", nifti(changes={XYZT_UNITS: b"\x08"}), VOLUME[..., None]),
    ("unit-unknown.nii", nifti(changes={XYZT_UNITS: b"\xff"}), VOLUME[..., None]),
    ("no-affine.nii", nifti(changes={SFORM_CODE: shorts(0), QFORM_CODE: shorts(0)}), VOLUME[..., None]),
    ("no-slope.nii", nifti(changes={SLOPE: floats(0, 0)}), VOLUME[..., None]),
    *(
        (
            f"{kind}-with-slope.nii.gz",
            nifti(np.abs(VOLUME).astype(kind), {SLOPE: floats(0.5, -3)}),
            np.abs(VOLUME)[..., None] * 0.5 - 3,
        )
        for kind in (
            "int8",
            "uint8",
            "int16",
            "uint16",
            "int32",
            "uint32",
            "int64",
            "uint64",
            "float32",
            "float64",
        )
    ),
]


@pytest.mark.parametrize(
    ("name", "write", "expected"), [pytest.param(*row, id=row[0]) for row in WORKING_IMAGES]
)
def test_an_unusual_image_simply_works(tmp_path, name, write, expected):
    write(tmp_path / name)
    image = read_image(tmp_path / name)
    assert image.array.shape == expected.shape
    close = 3 if name.endswith(".jpg") or "cmyk" in name else 0
    np.testing.assert_allclose(image.array.astype(float), expected.astype(float), atol=close)
    assert image.array.dtype.isnative
    assert np.isfinite(image.affine.matrix).all()


def test_four_inks_are_read_as_colours_and_called_so(tmp_path):
    tifffile.imwrite(tmp_path / "inks.tif", np.zeros((16, 16, 4), np.uint8), photometric="separated")
    image = read_image(tmp_path / "inks.tif")
    assert image.channel_kinds.is_colour and image.array.min() == 255


def test_objects_with_negative_numbers_are_refused(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.array([[0, -1], [2, 2]], np.int16))
    said = one_sentence(lambda: read_label_map(tmp_path / "a.tif", instances=True))
    assert "must not be negative, and the least is -1" in said


def test_a_link_to_an_image_is_read(tmp_path):
    picture(GREY)(tmp_path / "real.png")
    link_to(tmp_path / "real.png")(tmp_path / "link.png")
    assert np.array_equal(read_image(tmp_path / "link.png").array[..., 0], GREY)


def test_a_picture_that_pillow_calls_too_large_is_read_without_a_word(tmp_path, monkeypatch):
    names = ("a.png", "a.bmp", "a.tif")
    for name in names:
        picture(GREY)(tmp_path / name)
    picture(GREY, compression="tiff_lzw")(tmp_path / "lzw.tif")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    for name in names:
        assert np.array_equal(read_image(tmp_path / name).array[..., 0], GREY)
    if importlib.util.find_spec("imagecodecs") is None:  # of the extra `scale`, which unpacks it
        assert "export it without compression" in one_sentence(lambda: read_image(tmp_path / "lzw.tif"))


# --- Images and models --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def checkpoint_path(tiny_config, tmp_path_factory) -> Path:
    """An untrained network for grey pictures."""
    config = tiny_config()
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("models") / "whole.safetensors"
    save_checkpoint(path, Checkpoint(config.checkpoint_content(), build_swipe(config.model).state_dict()))
    return path


def image_of(array: np.ndarray) -> MedicalImage:
    return MedicalImage(array, Affine.identity(array.ndim - 1), "pixel", Path("a.tif"))


UNSUITABLE: list[tuple[str, np.ndarray, str]] = [
    ("two-channels", GREY[..., None].repeat(2, -1), "a.tif has 2 channels; this model takes 1"),
    ("four-channels", GREY[..., None].repeat(4, -1), "a.tif has 4 channels; this model takes 1"),
    ("a-volume", VOLUME[..., None], "a.tif is 3D, and this model is for 2D images"),
    ("too-large-numbers", np.full((8, 8, 1), 1e300), "too large; replace them first"),
    ("nan", np.full((8, 8, 1), np.nan), "NaN, infinite or too large; replace them first"),
]


@pytest.mark.parametrize(("array", "said"), [pytest.param(*row[1:], id=row[0]) for row in UNSUITABLE])
def test_an_image_that_does_not_suit_the_model_is_refused(checkpoint_path, array, said):
    predictor = Predictor.load(checkpoint_path, device="cpu")
    assert said in one_sentence(lambda: predictor.field(image_of(array)))


@pytest.mark.parametrize("shape", [(1, 1), (24, 1), (1, 20), (5, 3), (33, 31)])
@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.float64, np.float16])
def test_an_image_of_any_size_and_type_is_segmented(checkpoint_path, shape, dtype):
    predictor = Predictor.load(checkpoint_path, device="cpu")
    constant = image_of(np.full((*shape, 1), 7, dtype))
    assert predictor.field(constant).render().array.shape == shape


# --- Pairs --------------------------------------------------------------------------------------


def pair(
    name: str = "a", image: Write | None = None, label: Write | None = None, suffix: str = ".png"
) -> Write:
    """An image and its label map in a data set."""

    def write(folder: Path) -> None:
        for kind, make in (("images", image or picture(GREY)), ("labels", label or picture(BITS))):
            (folder / kind).mkdir(parents=True, exist_ok=True)
            make(folder / kind / f"{name}{suffix}")

    return write


def both(*writes: Write) -> Write:
    return lambda folder: [write(folder) for write in writes]


def stray(place: str, write: Write) -> Write:
    def make(folder: Path) -> None:
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        write(folder / place)

    return make


def elsewhere(path: Path) -> None:
    """Labels that lie 7 voxels beside their image."""
    made = nibabel.Nifti1Image(LABELS.T, np.diag([2.0, 2.0, 2.0, 1.0]))
    made.affine[0, 3] = 14
    nibabel.Nifti1Image(LABELS.T, made.affine).to_filename(path)


def elsewhere_in_itk(path: Path) -> None:
    made = sitk.GetImageFromArray(LABELS)
    made.SetOrigin((7.0, 0.0, 0.0))
    sitk.WriteImage(made, str(path))


REFUSED_PAIRS: list[tuple[str, Write, str]] = [
    ("no-folders", lambda folder: None, r"There is no folder .*images: a data set has images/ and labels/"),
    ("no-pair", both(stray("images/x", Path.mkdir), stray("labels/x", Path.mkdir)), "put at least one image"),
    ("other-stem", both(pair(), stray("images/b.png", picture(GREY))), r"\(b\): add or rename the missing"),
    ("lonely-label", both(pair(), stray("labels/c.png", picture(BITS))), r"\(c\): add or rename the missing"),
    ("doubled-stem", both(pair(), stray("images/a.bmp", picture(GREY))), "must be unique: rename or remove"),
    (
        "broken-image",
        both(pair(), stray("images/b.png", link_to("gone.png"))),
        r"b\.png is a link to .* remove",
    ),
    ("broken-label", pair(label=link_to("gone.png")), r"a\.png is a link to a file that is not there: bring"),
    ("other-shape", pair(label=picture(BITS[:, 1:])), r"same shape.*\(24, 20\).*\(24, 19\): resample"),
    ("outside-classes", pair(label=picture(INDICES)), r"outside the 2 classes 0 to 1 \(2, 3\): name more"),
    (
        "fractions",
        pair(suffix=".tif", image=tiff(GREY), label=tiff(GREY / 3)),
        "a label map needs class numbers",
    ),
    ("nan-label", pair(suffix=".tif", image=tiff(GREY), label=tiff(GREY * np.nan)), "needs class numbers"),
    (
        "negative",
        pair(suffix=".tif", image=tiff(GREY), label=tiff(-BITS.astype(np.int16))),
        r"\(-1\): name more",
    ),
    ("colours", pair(label=picture(COLOUR)), "one number per voxel; save class numbers instead of colours"),
    (
        "blurred",
        pair(suffix=".jpg", label=picture(GREY)),
        "compression blurs labels .*; save the label map as",
    ),
    ("cut-image", pair(image=cut(picture(GREY))), "is damaged .*; export it again"),
    ("cut-label", pair(label=cut(picture(GREY))), "is damaged .*; export it again"),
]
REFUSED_VOLUMES: list[tuple[str, Write, str]] = [
    ("elsewhere", pair(suffix=".nii.gz", image=nifti(), label=elsewhere), "7.0 voxels apart: resample"),
    ("capitals", pair(suffix=".NII.GZ", image=nifti(), label=elsewhere), "7.0 voxels apart: resample"),
    ("nrrd", pair(suffix=".nrrd", image=itk(), label=elsewhere_in_itk), "7.0 voxels apart: resample"),
    ("a-picture", pair(), "is a 2D picture, and a 3D image is needed here; use"),
]


def read_first(folder: Path, ndim: int, **labels: Any) -> object:
    return read_labelled(find_cases(folder)[0], ndim, LabelConfig(**labels))


@pytest.mark.parametrize(
    ("write", "said", "ndim"),
    [
        pytest.param(*row[1:], ndim, id=row[0])
        for ndim, rows in ((2, REFUSED_PAIRS), (3, REFUSED_VOLUMES))
        for row in rows
    ],
)
def test_a_pair_that_does_not_fit_is_refused_with_what_to_do(tmp_path, write, said, ndim):
    write(tmp_path)
    text = one_sentence(lambda: read_first(tmp_path, ndim))
    assert re.search(said, text), text


WORKING_PAIRS: list[tuple[str, Write]] = [
    ("spaces-and-unicode", pair("Größe 名前 (1)")),
    (
        "accents-of-two-kinds",
        both(stray("images/e\u0301.png", picture(GREY)), stray("labels/\u00e9.png", picture(BITS))),
    ),
    ("whole-floats", pair(suffix=".tif", image=tiff(GREY), label=tiff(BITS.astype(np.float64)))),
    ("all-background", pair(label=picture(BITS & False))),
    ("all-foreground", pair(label=picture(BITS | True))),
    ("other-formats", both(stray("images/a.jpg", picture(GREY)), stray("labels/a.tif", picture(BITS)))),
    (
        "hidden-files",
        both(pair(), stray("images/.a.png", bytes_of(b"")), stray("labels/Thumbs.db", bytes_of(b""))),
    ),
]


@pytest.mark.parametrize("write", [pytest.param(row[1], id=row[0]) for row in WORKING_PAIRS])
def test_an_unusual_pair_simply_works(tmp_path, write):
    write(tmp_path)
    (case,) = find_cases(tmp_path)
    labelled = read_labelled(case, 2, LabelConfig())
    assert labelled.image.shape == labelled.labels.shape == (24, 20)


def test_pairs_behind_links_work(tmp_path):
    pair()(tmp_path / "real")
    for kind in ("images", "labels"):
        (tmp_path / "linked" / kind).mkdir(parents=True)
        link_to(tmp_path / "real" / kind / "a.png")(tmp_path / "linked" / kind / "b.png")
    link_to(tmp_path / "linked")(tmp_path / "set")
    assert read_labelled(find_cases(tmp_path / "set")[0], 2, LabelConfig()).name == "b"


def test_a_negative_number_can_be_the_ignore_label(tmp_path):
    labels = np.where(BITS, -1, 1).astype(np.int16)
    pair(suffix=".tif", image=tiff(GREY), label=tiff(labels))(tmp_path)
    (case,) = find_cases(tmp_path)
    assert read_labelled(case, 2, LabelConfig(ignore_label=-1)).labels.array.min() == -1


# --- Training sets ------------------------------------------------------------------------------


def training_set(cases: list[Case], memory_gb: float = 1.0, **sampling: Any) -> TrainingSet:
    return TrainingSet(
        cases,
        preprocessing=PreprocessingConfig(ndim=2, channels=1),
        labels=LabelConfig(ignore_label=255),
        sampling=SamplingConfig(**{"foreground_points": 20, "background_points": 20, **sampling}),
        augmentation=None,
        batch=BatchConfig(size=3, points=5, memory_gb=memory_gb),
        seed=0,
    )


def unlabelled(name: str) -> Write:
    return pair(name, label=picture(np.full_like(GREY, 255)))


@pytest.mark.parametrize("memory_gb", [1.0, 1.5 * GREY.size * 4 / 2**30, 1e-9])
def test_training_goes_on_without_the_cases_that_have_nothing_to_teach_and_counts_them(tmp_path, memory_gb):
    both(*(pair(name) for name in "bdf"), *(unlabelled(name) for name in "ae"))(tmp_path)
    cases = find_cases(tmp_path)
    batches = training_set(cases, memory_gb)
    notices = [report.message for report in batches.load() if isinstance(report, Notice)]
    assert notices == [
        "2 of 5 label maps (a.png, e.png) hold nothing but the ignore label 255: these cases are left out."
    ]
    names = [name for step in range(4) for name in batches[step].names]
    assert all(sorted(names[i : i + 3]) == ["b", "d", "f"] for i in range(0, 12, 3))
    assert batches.cases == cases


def test_nothing_is_said_of_cases_that_all_teach(tmp_path):
    both(pair("a"), pair("b"))(tmp_path)
    reports = list(training_set(find_cases(tmp_path)).load())
    assert not any(isinstance(report, Notice) for report in reports)


def test_a_set_that_has_nothing_to_teach_is_refused(tmp_path):
    both(unlabelled("a"), unlabelled("b"))(tmp_path)
    text = one_sentence(lambda: list(training_set(find_cases(tmp_path)).load()))
    assert "2 of 2 label maps (a.png, b.png)" in text and "label some voxels" in text


def test_cases_of_background_alone_are_trained_on_beside_others_unless_no_background_is_sampled(tmp_path):
    both(pair(label=picture(BITS & False)), pair("b"))(tmp_path)
    cases = find_cases(tmp_path)
    batches = training_set(cases)
    list(batches.load())
    classes = dict(zip(batches[0].names, batches[0].classes, strict=True))
    assert (classes["a"] == 0).all() and (classes["b"] == 1).any()
    text = one_sentence(lambda: list(training_set(cases, background_points=0).load()))
    assert "a.png" in text and "give sampling.foreground_points or sampling.background_points" in text


# --- Checkpoints --------------------------------------------------------------------------------

WHOLE = "not a whole safetensors file .*: copy or download it again"
OTHER = "do not belong to the network it describes: the file was altered; use another copy"


def header(changes: dict[str, str | None]) -> Write:
    """The same tensors under a header with changes."""

    def write(path: Path) -> None:
        size = int.from_bytes(path.read_bytes()[:8], "little")
        old = json.loads(path.read_bytes()[8 : 8 + size])["__metadata__"]
        new = {name: value for name, value in (old | changes).items() if value is not None}
        save_file(load_file(path), path, new)

    return write


def network(**fields: Any) -> Write:
    """The same tensors under the description of another network."""

    def write(path: Path) -> None:
        content = load_checkpoint(path).content.model_dump(mode="json")
        content["model"] |= fields
        header({"content": json.dumps(content)})(path)

    return write


def tensors(change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]], **kept: None) -> Write:
    """Other tensors under the same header."""

    def write(path: Path) -> None:
        size = int.from_bytes(path.read_bytes()[:8], "little")
        metadata = json.loads(path.read_bytes()[8 : 8 + size])["__metadata__"]
        save_file(change(load_file(path)), path, {k: v for k, v in metadata.items() if k not in kept})

    return write


def without_one(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return dict(list(weights.items())[1:])


def renamed(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    (name, tensor), *rest = weights.items()
    return {f"{name}x": tensor, **dict(rest)}


def reshaped(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: torch.cat([t, t]) if t.ndim else t for name, t in weights.items()}


def of_file(damage: Callable[[bytes], bytes]) -> Write:
    return lambda path: path.write_bytes(damage(path.read_bytes()))


REFUSED_CHECKPOINTS: list[tuple[str, Write, str]] = [
    ("missing", Path.unlink, r"There is no checkpoint .*: give the path of a \.safetensors file"),
    ("empty", bytes_of(b""), WHOLE),
    ("text", bytes_of(TEXT), WHOLE),
    ("zip", bytes_of(b"PK\x03\x04" * 90), WHOLE),
    ("cut-short", of_file(lambda whole: whole[:-1]), WHOLE),
    ("cut-in-half", of_file(lambda whole: whole[: len(whole) // 2]), WHOLE),
    ("longer", of_file(lambda whole: whole + b"more"), WHOLE),
    ("flipped-weight", flipped(lambda path: None, -5), WHOLE),
    ("flipped-length", flipped(lambda path: None, 1), WHOLE),
    (
        "another-program",
        lambda path: save_file({"w": torch.zeros(3)}, path),
        "no SwIPE checkpoint: give a file",
    ),
    ("newer", header({"version": "2"}), "checkpoint version 2 and .* up to 1: update napari-swipe"),
    (
        "no-number",
        header({"version": "\u00b2"}),
        "checkpoint version \u00b2 and .* up to 1: update napari-swipe",
    ),
    ("long-number", header({"version": "9" * 5000}), "checkpoint version 9+ and .* up to 1: update"),
    ("no-content", header({"content": None}), "has an unusable header .*; use another copy or update"),
    ("missing-tensor", tensors(without_one), WHOLE),
    ("renamed-tensor", tensors(renamed), WHOLE),
    ("missing-tensor-undigested", tensors(without_one, digest=None), OTHER),
    ("renamed-tensor-undigested", tensors(renamed, digest=None), OTHER),
    ("reshaped-tensor-undigested", tensors(reshaped, digest=None), OTHER),
    ("wider", network(embedding_width=32), OTHER),
    ("gigantic", network(planes=[10**9] * 4), OTHER),
    ("gigantic-decoder", network(patch_hidden=[10**6, 10**6]), OTHER),
    ("endless", network(blocks=[10**9, 1, 1, 1]), OTHER),
    ("endless-groups", network(scale=10**9), OTHER),
    ("endless-frequencies", network(fourier_frequencies=10**9), r"unusable model\.fourier_frequencies"),
    ("unknown-backbone", network(backbone="os.system"), r"unusable content\.model|unusable model\.backbone"),
]


@pytest.mark.parametrize(
    ("change", "said"), [pytest.param(*row[1:], id=row[0]) for row in REFUSED_CHECKPOINTS]
)
def test_a_checkpoint_that_cannot_be_used_is_refused_with_what_to_do(tmp_path, checkpoint_path, change, said):
    path = Path(shutil.copy(checkpoint_path, tmp_path / "model.safetensors"))
    change(path)
    if "version 9" in said:
        with pytest.raises(SwipeError, match="update napari-swipe"):
            load_checkpoint(path)
        return
    text = one_sentence(lambda: load_checkpoint(path).build())
    assert re.search(said, text), text
    assert str(path) in text


def test_a_checkpoint_from_before_there_were_digests_still_loads(tmp_path, checkpoint_path):
    path = Path(shutil.copy(checkpoint_path, tmp_path / "model.safetensors"))
    header({"digest": None})(path)
    load_checkpoint(path).build()


def test_a_3d_model_refuses_a_picture(volume_checkpoint):
    predictor = Predictor.load(volume_checkpoint, device="cpu")
    text = one_sentence(lambda: predictor.field(image_of(GREY[..., None])))
    assert "a.tif is 2D, and this model is for 3D images" in text


# --- Configurations -----------------------------------------------------------------------------

LEAST = "name: least\npreprocessing: {}\n"
REFUSED_CONFIGS: list[tuple[str, str, str]] = [
    ("empty", "", "must hold sections such as 'model:' and 'training:'"),
    ("comment", "# nothing\n", "must hold sections such as"),
    ("a-list", "- name\n- steps\n", "must hold sections such as"),
    ("words", "just words", "must hold sections such as"),
    ("a-tab", "name: x\ntraining:\n\tsteps: 3\n", r"in line 3; indent with spaces"),
    ("unclosed", "name: [x\n", r"in line \d; correct it there"),
    (
        "doubled-key",
        LEAST + "training:\n  steps: 3\n  steps: 4\n",
        "'steps' stands twice in line 5; correct it",
    ),
    ("doubled-section", LEAST + "name: other\n", "'name' stands twice in line 3; correct it there"),
    ("number-as-key", LEAST + "3: 4\n", "a key that is no name in line 3; correct it there"),
    ("list-as-key", LEAST + "[a]: 4\n", "a key that is no name in line 3; correct it there"),
    ("merged", LEAST + "a: &a {b: 1}\nc: {<<: [*a, *a]}\n", "it merges maps with '<<' in line 4; correct it"),
    ("deep", "a: " + "[" * 1500, "nested too deeply|in line 1"),
    ("an-object", "!!python/object/apply:os.system [ls]", "could not determine a constructor"),
    ("a-date", LEAST + "training: {steps: 2024-13-45}\n", "a value that cannot be read"),
    ("a-truth", LEAST + "training: {steps: !!bool maybe}\n", "a value that cannot be read"),
    (
        "unknown-field",
        LEAST + "training: {stepz: 3}\n",
        r"no field 'training.stepz'\. Did you mean 'steps'\?",
    ),
    ("unknown-section", LEAST + "trainig: {steps: 3}\n", r"no field 'trainig'\. Did you mean 'training'\?"),
    ("like-no-other", LEAST + "zzzzz: 3\n", r"no field 'zzzzz'\. Take it out\."),
    ("no-name", "preprocessing: {}\n", "the field 'name' is missing; add it"),
    ("no-steps", LEAST + "training: {steps: 0}\n", "training.steps cannot be 0 .*greater than or equal to 1"),
    ("less-than-no-steps", LEAST + "training: {steps: -5}\n", "training.steps cannot be -5 "),
    ("half-a-step", LEAST + "training: {steps: 1.5}\n", "training.steps cannot be 1.5 "),
    ("words-for-steps", LEAST + "training: {steps: many}\n", "training.steps cannot be 'many' "),
    ("list-for-steps", LEAST + "training: {steps: [1, 2]}\n", r"training.steps cannot be \[1, 2\] "),
    ("nan-rate", LEAST + "training: {learning_rate: .nan}\n", "training.learning_rate cannot be nan "),
    ("number-for-section", LEAST + "training: 5\n", "training cannot be 5 "),
    ("long-value", LEAST + f"training: {{steps: {'x' * 9000}}}\n", r"training.steps cannot be 'x+\.\.\.x+' "),
    ("no-size", "name: x\npreprocessing: {size: [0, 64]}\n", r"preprocessing.size.* cannot be 0 "),
    ("size-of-3", "name: x\npreprocessing: {size: [64, 64, 64]}\n", "`size` needs 2 numbers for ndim 2"),
    (
        "gigantic-size",
        "name: x\npreprocessing: {size: [1000000, 1000000]}\n",
        "more than any memory holds; lower",
    ),
    (
        "gigantic-crop",
        "name: x\npreprocessing: {crop_size: [9999999, 999]}\n",
        "more than any memory holds; lower",
    ),
    (
        "endless-window",
        "name: x\npreprocessing: {intensity: window, window: [-.inf, .inf]}\n",
        "preprocessing.window.* cannot be -inf .*finite",
    ),
    ("no-spacing", "name: x\npreprocessing: {spacing: [0, 1]}\n", r"preprocessing.spacing.* cannot be 0 "),
    (
        "endless-spacing",
        "name: x\npreprocessing: {spacing: [.inf, 1]}\n",
        r"preprocessing.spacing.* cannot be inf ",
    ),
]


@pytest.mark.parametrize(("text", "said"), [pytest.param(*row[1:], id=row[0]) for row in REFUSED_CONFIGS])
def test_a_configuration_that_cannot_be_used_is_refused_with_what_to_do(tmp_path, text, said):
    path = tmp_path / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    told = one_sentence(lambda: load_config(path))
    assert re.search(said, told), told
    assert str(path) in told


def test_an_override_is_read_as_strictly(tmp_path):
    assert "cannot be read as a value" in one_sentence(
        lambda: load_config("sessile", [("model", "{ndim: 2, ndim: 3}")])
    )


def test_aliases_of_aliases_take_no_time_and_no_memory(tmp_path):
    lines = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 40)]
    path = tmp_path / "mine.yaml"
    path.write_text(LEAST + "\n".join(lines) + "\ntraining: {steps: *a39}\n", encoding="utf-8")
    assert one_sentence(lambda: load_config(path))


@pytest.mark.parametrize("shape", [(17, 33), (40, 24), (1, 50)])
def test_sizes_that_the_network_cannot_divide_are_padded(tiny_config, shape):
    config = tiny_config({"preprocessing.size": shape})
    model = build_swipe(config.model).eval()
    predictor = Predictor(model, config.checkpoint_content())
    assert predictor.field(image_of(GREY[..., None])).render().array.shape == (24, 20)


# --- Scripts ------------------------------------------------------------------------------------


@pytest.fixture
def data(tmp_path) -> Path:
    """A data set of one pair, which a test may spoil."""
    both(*(lambda folder, part=part: pair()(folder / part) for part in ("train", "val")))(tmp_path / "data")
    return tmp_path / "data"


@pytest.fixture
def config_path(tmp_path, tiny_config) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(dump_config(tiny_config({"training.steps": 1})), encoding="utf-8")
    return path


def error_lines(capfd: pytest.CaptureFixture[str]) -> list[str]:
    """The lines that say what was wrong; a progress bar may stand beside them, and no traceback."""
    text = capfd.readouterr().err
    assert "Traceback" not in text and "Warning" not in text
    lines = [part.strip() for line in text.splitlines() for part in line.split("\r")]
    return [line for line in lines if line.startswith("error: ")]


def tree(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*")) if folder.exists() else []


Spoil = Callable[[Path, Path], object]  # from the data set and the configuration
REFUSED_TRAININGS: list[tuple[str, Spoil, str]] = [
    ("no-data", lambda data, _: shutil.rmtree(data), "There is no folder"),
    ("no-labels", lambda data, _: shutil.rmtree(data / "train" / "labels"), "There is no folder"),
    ("empty-config", lambda _, config: config.write_text("", "utf-8"), "must hold sections"),
    ("list-config", lambda _, config: config.write_text("- a", "utf-8"), "must hold sections"),
    ("no-steps", lambda _, config: config.write_text(LEAST + "training: {steps: 0}", "utf-8"), "cannot be 0"),
    ("doubled-key", lambda _, config: config.write_text(LEAST + "name: b", "utf-8"), "stands twice"),
    ("other-stem", lambda data, _: (data / "val/labels/a.png").rename(data / "val/labels/b.png"), "rename"),
    ("broken-link", lambda data, _: link_to("gone.png")(data / "train/images/b.png"), "is a link to a file"),
]
SPOILT_CASES: list[tuple[str, Spoil, str]] = [
    ("cut-image", lambda data, _: cut(picture(GREY))(data / "train/images/a.png"), "is damaged"),
    ("text-image", lambda data, _: bytes_of(TEXT)(data / "train/images/a.png"), "whatever its name says"),
    ("other-shape", lambda data, _: picture(BITS.T)(data / "train/labels/a.png"), "the same shape"),
    ("other-classes", lambda data, _: picture(INDICES)(data / "train/labels/a.png"), "outside the 2 classes"),
]


@pytest.mark.parametrize(
    ("spoil", "said", "left"),
    [pytest.param(*row[1:], set(), id=row[0]) for row in REFUSED_TRAININGS]
    # A run has its folder by the time that its cases are read.
    + [pytest.param(*row[1:], {"config.yaml", "log.jsonl"}, id=row[0]) for row in SPOILT_CASES],
)
def test_a_training_that_cannot_begin_ends_with_one_line_and_a_code(
    data, config_path, tmp_path, capfd, spoil, said, left
):
    spoil(data, config_path)
    run = tmp_path / "run"
    assert (
        swipe(["train", str(config_path), "--data", str(data), "--output", str(run), "--device", "cpu"]) == 2
    )
    (line,) = error_lines(capfd)
    assert said in line
    assert set(tree(run)) <= left


REFUSED_PREDICTIONS: list[tuple[str, str, Write, str]] = [
    ("missing", "a.png", lambda path: None, "There is no file or folder"),
    ("text", "a.png", bytes_of(TEXT), "whatever its name says; export it again"),
    ("empty", "a.tif", bytes_of(b""), "is empty; copy or export it again"),
    ("nan", "a.tif", tiff(np.full((9, 9), np.nan)), "replace them"),
    ("volume", "a.nii.gz", nifti(), "a stack of 6 slices of 7 x 8 voxels"),
    (
        "two-channels",
        "a.tif",
        tiff(COLOUR[..., :2], photometric="minisblack", planarconfig="contig"),
        "channels",
    ),
    ("gigantic", "a.png", png(10**5, 10**5), "cannot hold; export it again"),
    ("damaged-lzw", "a.tif", flipped(picture(GREY, compression="tiff_lzw"), 60), "export it again"),
]


@pytest.mark.parametrize(
    ("name", "write", "said"), [pytest.param(*row[1:], id=row[0]) for row in REFUSED_PREDICTIONS]
)
def test_a_prediction_that_cannot_be_made_ends_with_one_line_and_a_code(
    checkpoint_path, tmp_path, capfd, name, write, said
):
    write(tmp_path / name)
    output = tmp_path / "labels"
    command = [str(checkpoint_path), str(tmp_path / name), "--output", str(output), "--device", "cpu"]
    assert swipe(["predict", *command]) == 2
    (line,) = error_lines(capfd)
    assert said in line
    assert tree(output) == []


def test_a_damaged_checkpoint_ends_a_prediction_with_one_line(checkpoint_path, tmp_path, capfd):
    picture(GREY)(tmp_path / "a.png")
    path = Path(shutil.copy(checkpoint_path, tmp_path / "model.safetensors"))
    flipped(lambda _: None, -5)(path)
    assert swipe(["predict", str(path), str(tmp_path / "a.png"), "--output", str(tmp_path / "out")]) == 2
    (line,) = error_lines(capfd)
    assert "copy or download it again" in line
    assert not (tmp_path / "out").exists()


def refuse(*_: object, **__: object) -> None:
    raise PermissionError(errno.EACCES, "Permission denied")


@pytest.mark.parametrize("place", ["the folder", "the file"])
def test_an_output_that_is_read_only_is_named(checkpoint_path, tmp_path, capfd, monkeypatch, place):
    picture(GREY)(tmp_path / "a.png")
    output = tmp_path / "out"
    if place == "the file":
        output.mkdir()
    monkeypatch.setattr(*{"the folder": (Path, "mkdir"), "the file": (os, "replace")}[place], refuse)
    assert swipe(["predict", str(checkpoint_path), str(tmp_path / "a.png"), "--output", str(output)]) == 2
    (line,) = error_lines(capfd)
    assert str(output) in line and "Permission denied" in line
    assert tree(output) == []
