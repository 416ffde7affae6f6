"""Damage by chance: whatever the bytes are, reading works or is refused in words."""

from __future__ import annotations

import gzip
import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 - its own documentation calls it so
import tifffile
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from swipe_core.checkpoints.file import Checkpoint, load_checkpoint, save_checkpoint
from swipe_core.checkpoints.header import describe_checkpoint
from swipe_core.errors import SwipeError
from swipe_core.images import holds_labels, read_image, read_label_map
from swipe_core.networks.swipe.build import build_swipe
from swipe_core.training.config import dump_config, load_config

EXAMPLES = 40
HEAD = 420  # bytes: where headers are, and one change does the most
RNG = np.random.default_rng(0)
PICTURE = RNG.integers(0, 256, (12, 16), dtype=np.uint8)
COLOUR = RNG.integers(0, 256, (12, 16, 3), dtype=np.uint8)
VOLUME = RNG.integers(-90, 900, (4, 5, 6)).astype(np.int16)
PNG_SIGNATURE = 8

Damage = Callable[[bytes], bytes]
fuzzed = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@st.composite
def damages(draw: st.DrawFn) -> Damage:
    """A few bytes replaced, mostly in the head; then perhaps a piece cut out or doubled."""
    changes = draw(
        st.lists(st.tuples(st.booleans(), st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=6)
    )
    kind = draw(st.sampled_from(["whole", "whole", "cut short", "piece lost", "piece doubled"]))
    first, last = sorted(draw(st.tuples(st.floats(0, 1), st.floats(0, 1))))

    def damage(whole: bytes) -> bytes:
        spoilt = bytearray(whole)
        for is_in_head, place, value in changes:
            length = min(HEAD, len(spoilt)) if is_in_head else len(spoilt)
            spoilt[int(place * length)] = value
        start, stop = int(first * len(spoilt)), int(last * len(spoilt))
        return {
            "whole": bytes(spoilt),
            "cut short": bytes(spoilt[:stop]),
            "piece lost": bytes(spoilt[:start] + spoilt[stop:]),
            "piece doubled": bytes(spoilt[:stop] + spoilt[start:]),
        }[kind]

    return damage


def with_right_checksums(png: bytes) -> bytes:
    """The chunks of a PNG as far as they go, so that a change of its header is not refused by its sum."""
    chunks, place = [png[:PNG_SIGNATURE]], PNG_SIGNATURE
    while place + 12 <= len(png):
        (length,) = struct.unpack(">I", png[place : place + 4])
        body = png[place + 4 : place + 8 + length]
        chunks.append(png[place : place + 4] + body + struct.pack(">I", zlib.crc32(body)))
        place += 12 + length
    return b"".join(chunks)


def inside_gzip(damage: Damage) -> Damage:
    return lambda whole: gzip.compress(damage(gzip.decompress(whole)), 1)


def picture_bytes(kind: str, array: np.ndarray, **options: object) -> bytes:
    file = io.BytesIO()
    Image.fromarray(array).save(file, format=kind, **options)
    return file.getvalue()


def tiff_bytes(array: np.ndarray, **options: object) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, array, **options)
    return file.getvalue()


def nifti_bytes() -> bytes:
    return nibabel.Nifti1Image(VOLUME, np.diag([1.5, 1.5, 3.0, 1.0])).to_bytes()


def itk_bytes(suffix: str, *, compressed: bool) -> Callable[[Path], bytes]:
    def write(folder: Path) -> bytes:
        sitk.WriteImage(sitk.GetImageFromArray(VOLUME), str(folder / f"whole{suffix}"), compressed)
        return (folder / f"whole{suffix}").read_bytes()

    return write


SAMPLES: dict[str, tuple[str, Callable[[Path], bytes], Callable[[Damage], Damage]]] = {
    "png": (".png", lambda _: picture_bytes("PNG", COLOUR), lambda damage: damage),
    "png-with-right-checksums": (
        ".png",
        lambda _: picture_bytes("PNG", PICTURE),
        lambda damage: lambda whole: with_right_checksums(damage(whole)),
    ),
    "bmp": (".bmp", lambda _: picture_bytes("BMP", COLOUR), lambda damage: damage),
    "jpeg": (".jpg", lambda _: picture_bytes("JPEG", COLOUR), lambda damage: damage),
    "jpeg-progressive": (
        ".jpg",
        lambda _: picture_bytes("JPEG", COLOUR, progressive=True),
        lambda damage: damage,
    ),
    "tiff": (".tif", lambda _: tiff_bytes(VOLUME, imagej=True), lambda damage: damage),
    "tiff-zlib": (".tif", lambda _: tiff_bytes(COLOUR, compression="zlib"), lambda damage: damage),
    "tiff-lzw": (".tif", lambda _: picture_bytes("TIFF", PICTURE, compression="tiff_lzw"), lambda d: d),
    "ome-tiff": (".ome.tif", lambda _: tiff_bytes(VOLUME, ome=True), lambda damage: damage),
    "nifti": (".nii", lambda _: nifti_bytes(), lambda damage: damage),
    "nifti-gzip": (".nii.gz", lambda _: gzip.compress(nifti_bytes()), lambda damage: damage),
    "nifti-in-gzip": (".nii.gz", lambda _: gzip.compress(nifti_bytes()), inside_gzip),
    "nrrd": (".nrrd", itk_bytes(".nrrd", compressed=False), lambda damage: damage),
    "nrrd-gzip": (".nrrd", itk_bytes(".nrrd", compressed=True), lambda damage: damage),
    "metaimage": (".mha", itk_bytes(".mha", compressed=False), lambda damage: damage),
    "metaimage-zlib": (".mha", itk_bytes(".mha", compressed=True), lambda damage: damage),
}


def works_or_is_refused(read: Callable[[Path], object], path: Path) -> None:
    try:
        read(path)
    except SwipeError as error:
        assert "\n" not in str(error)


@pytest.mark.parametrize("name", SAMPLES)
@fuzzed
@given(damage=damages())
def test_a_damaged_image_is_read_or_refused_in_words(tmp_path_factory, capfd, name, damage):
    suffix, make, way = SAMPLES[name]
    folder = tmp_path_factory.getbasetemp()
    path = folder / f"damaged{suffix}"
    path.write_bytes(way(damage)(make(folder)))
    for read in (read_image, read_label_map, holds_labels):
        works_or_is_refused(read, path)
    assert capfd.readouterr() == ("", "")


@pytest.fixture(scope="module")
def checkpoint(tiny_config, tmp_path_factory) -> Path:
    config = tiny_config()
    path = tmp_path_factory.mktemp("whole") / "whole.safetensors"
    save_checkpoint(path, Checkpoint(config.checkpoint_content(), build_swipe(config.model).state_dict()))
    return path


@fuzzed
@given(damage=damages())
def test_a_damaged_checkpoint_is_refused_in_words_or_is_what_it_was(tmp_path_factory, checkpoint, damage):
    path = tmp_path_factory.getbasetemp() / "damaged.safetensors"
    path.write_bytes(damage(checkpoint.read_bytes()))
    whole = load_checkpoint(checkpoint).weights

    def load_and_compare(damaged: Path) -> None:
        built = load_checkpoint(damaged).build().state_dict()
        assert all(torch.equal(built[name], tensor) for name, tensor in whole.items())

    works_or_is_refused(describe_checkpoint, path)
    works_or_is_refused(load_and_compare, path)


@fuzzed
@given(damage=damages())
def test_a_damaged_configuration_is_read_or_refused_in_words(tmp_path_factory, tiny_config, damage):
    path = tmp_path_factory.getbasetemp() / "damaged.yaml"
    path.write_bytes(damage(dump_config(tiny_config()).encode()))
    works_or_is_refused(load_config, path)


@fuzzed
@given(text=st.text(st.sampled_from("ab:-[]{}&*!|>#'\"%@`,? \n\t0.1<~"), max_size=40))
def test_any_text_is_a_configuration_or_refused_in_words(tmp_path_factory, text):
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_text(text, encoding="utf-8")
    works_or_is_refused(load_config, path)
