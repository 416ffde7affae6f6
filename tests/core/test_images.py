"""Images and label maps: what is in a file is what comes out, and what is written reads back."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
import tifffile
from PIL import Image

from swipe_core.coordinates import Affine
from swipe_core.errors import ImageError
from swipe_core.images import (
    IMAGE_SUFFIXES,
    LabelMap,
    MedicalImage,
    image_stem,
    read_image,
    read_label_map,
    write_image,
    write_label_map,
)
from swipe_core.images.raster import exif_orientation, is_turned_by_exif

RNG = np.random.default_rng(0)
LABELS_2D = RNG.integers(0, 5, (6, 7)).astype(np.uint8)
LABELS_3D = RNG.integers(0, 5, (4, 6, 7)).astype(np.uint8)
GREY = RNG.integers(0, 256, (6, 7), dtype=np.uint8)
COLOUR = RNG.integers(0, 256, (6, 7, 3), dtype=np.uint8)
VOLUME = RNG.integers(-1000, 1000, (7, 6, 4)).astype(np.int16)  # (x, y, z), as nibabel has it

# (x, y, z) affines as nibabel has them, of numbers that single precision holds exactly.
AFFINES = {
    "identity": np.eye(4),
    "anisotropic": np.diag([0.75, 0.5, 3.0, 1.0]),
    "flipped": np.array([[-1.5, 0, 0, 90], [0, -1.5, 0, 126], [0, 0, 2, -72], [0, 0, 0, 1.0]]),
    "permuted": np.array([[0, 0, 3, -10.5], [-1, 0, 0, 20], [0, 2, 0, 30.25], [0, 0, 0, 1.0]]),
    "oblique": np.array([[0.75, -0.5, 0, 1], [0.5, 0.75, 0, 2], [0, 0, 2.5, 3], [0, 0, 0, 1.0]]),
    "sheared": np.array([[1, 0.25, 0.125, -5], [0, 1.5, 0.5, 6], [0, 0, 2, 7], [0, 0, 0, 1.0]]),
}


def labels(array: np.ndarray, affine: Affine | None = None, unit: str = "millimeter") -> LabelMap:
    return LabelMap(array, affine or Affine.identity(array.ndim), unit)


def save_nifti(path: Path, array: np.ndarray, affine: np.ndarray | None = None, unit: str = "mm") -> Path:
    image = nibabel.Nifti1Image(array, np.eye(4) if affine is None else affine)
    image.header.set_xyzt_units(unit)
    image.to_filename(path)
    return path


def save_picture(path: Path, array: np.ndarray, mode: str | None = None) -> Path:
    picture = Image.fromarray(array)
    (picture.convert(mode) if mode else picture).save(path)
    return path


def save_png_bytes(path: Path, rows: np.ndarray, bits: int, colour_type: int, width: int) -> Path:
    """A PNG chunk by chunk, for the kinds that Pillow cannot write."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, len(rows), bits, colour_type, 0, 0, 0)
    lines = b"".join(b"\0" + row.tobytes() for row in rows)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    return path


class TestNifti:
    @pytest.mark.parametrize("suffix", [".nii", ".NII.GZ"])
    @pytest.mark.parametrize("name", AFFINES)
    def test_every_voxel_keeps_its_value_and_its_place_in_the_world(self, tmp_path, name, suffix):
        affine = AFFINES[name]
        image = read_image(save_nifti(tmp_path / f"a{suffix}", VOLUME, affine))
        assert np.array_equal(image.array[..., 0], VOLUME.transpose(2, 1, 0))
        for x, y, z in [(0, 0, 0), (6, 0, 0), (1, 5, 3), (2, 3, 1)]:
            world_xyz = (affine @ [x, y, z, 1])[:3]
            assert np.array_equal(image.affine.apply(np.array([z, y, x], float)), world_xyz[::-1])

    @pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
    @pytest.mark.parametrize("name", AFFINES)
    def test_a_written_label_map_has_the_exact_affine_of_its_image(self, tmp_path, name, suffix):
        image = read_image(save_nifti(tmp_path / "image.nii.gz", VOLUME, AFFINES[name]))
        array = (image.array[..., 0] > 0).astype(np.int32)
        write_label_map(tmp_path / f"labels{suffix}", LabelMap(array, image.affine, image.unit))

        written = nibabel.load(tmp_path / f"labels{suffix}")
        assert np.array_equal(written.affine, AFFINES[name])
        assert np.array_equal(np.asarray(written.dataobj), VOLUME > 0)
        again = read_label_map(tmp_path / f"labels{suffix}")
        assert again.affine == image.affine
        assert np.array_equal(again.array, array)

    @pytest.mark.parametrize("name", AFFINES)
    def test_the_qform_of_a_written_file_agrees_with_its_sform_or_is_switched_off(self, tmp_path, name):
        affine = Affine(AFFINES[name][[2, 1, 0, 3]][:, [2, 1, 0, 3]])
        write_label_map(tmp_path / "a.nii", labels(LABELS_3D, affine))
        header = nibabel.load(tmp_path / "a.nii").header
        qform, code = header.get_qform(coded=True)
        assert code == (0 if name == "sheared" else 1)
        assert header.get_sform(coded=True)[1] == 1
        if code:
            np.testing.assert_allclose(qform, AFFINES[name], atol=1e-5)

    def test_the_qform_places_the_voxels_where_there_is_no_sform(self, tmp_path):
        nifti = nibabel.Nifti1Image(VOLUME, None)
        nifti.set_sform(None, code=0)
        nifti.set_qform(AFFINES["oblique"], code=1)
        nifti.to_filename(tmp_path / "a.nii")
        image, expected = read_image(tmp_path / "a.nii"), nibabel.load(tmp_path / "a.nii").affine
        assert np.array_equal(image.affine.matrix[:3, :3], expected[:3, :3][::-1, ::-1])
        # A quaternion makes a matrix in double precision, and a sform holds it in single.
        write_label_map(tmp_path / "b.nii", labels(LABELS_3D, image.affine))
        assert np.array_equal(nibabel.load(tmp_path / "b.nii").affine, expected.astype(np.float32))

    @pytest.mark.parametrize(
        ("code", "unit"),
        [("mm", "millimeter"), ("micron", "micrometer"), ("meter", "meter"), ("unknown", "millimeter")],
    )
    def test_its_unit_is_the_one_of_the_header_and_millimetres_where_it_has_none(self, tmp_path, code, unit):
        image = read_image(save_nifti(tmp_path / "a.nii", VOLUME, unit=code))
        assert image.unit == unit
        write_label_map(tmp_path / "b.nii", labels(LABELS_3D, unit=unit))
        assert read_label_map(tmp_path / "b.nii").unit == unit

    def test_a_unit_that_it_lacks_is_written_in_millimetres(self, tmp_path):
        affine = Affine.from_spacing((3.0, 2.0, 1.0), origin=(10.0, 20.0, 30.0))
        write_label_map(tmp_path / "a.nii", labels(LABELS_3D, affine, "centimeter"))
        again = read_label_map(tmp_path / "a.nii")
        assert (again.unit, again.spacing) == ("millimeter", (30, 20, 10))
        assert again.affine.origin.tolist() == [100, 200, 300]

    def test_slope_and_intercept_are_applied(self, tmp_path):
        image = nibabel.Nifti1Image(VOLUME, np.eye(4))
        image.to_filename(tmp_path / "a.nii")
        with (tmp_path / "a.nii").open("r+b") as file:
            file.seek(112)  # scl_slope and scl_inter; nibabel itself would rescale the voxels
            file.write(struct.pack("<2f", 0.5, -1024))
        array = read_image(tmp_path / "a.nii").array[..., 0]
        assert np.array_equal(array, VOLUME.transpose(2, 1, 0) * 0.5 - 1024)

    def test_a_fourth_axis_is_the_channels(self, tmp_path):
        series = RNG.normal(size=(7, 6, 4, 3)).astype(np.float32)
        image = read_image(save_nifti(tmp_path / "a.nii", series))
        assert (image.shape, image.channels) == ((4, 6, 7), 3)
        assert np.array_equal(image.array, series.transpose(2, 1, 0, 3))

    def test_a_vector_axis_is_the_channels_too(self, tmp_path):
        vectors = RNG.normal(size=(7, 6, 4, 1, 3)).astype(np.float32)
        image = read_image(save_nifti(tmp_path / "a.nii", vectors))
        assert np.array_equal(image.array, vectors[:, :, :, 0].transpose(2, 1, 0, 3))

    def test_times_and_vectors_at_once_are_refused(self, tmp_path):
        path = save_nifti(tmp_path / "a.nii", np.zeros((7, 6, 4, 2, 3), np.float32))
        with pytest.raises(ImageError, match=r"a\.nii has shape .*split the file"):
            read_image(path)

    def test_rgb_voxels_are_three_channels(self, tmp_path):
        voxels = np.zeros((7, 6, 4), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
        voxels["R"], voxels["B"] = 1, 3
        image = read_image(save_nifti(tmp_path / "a.nii", voxels))
        assert image.shape == (4, 6, 7)
        assert image.array[0, 0, 0].tolist() == [1, 0, 3]

    @pytest.mark.parametrize("shape", [(7, 6), (7, 6, 1), (7, 6, 1, 2)])
    def test_a_single_slice_is_a_2d_image_where_one_is_asked_for(self, tmp_path, shape):
        array = RNG.normal(size=shape).astype(np.float32)
        image = read_image(save_nifti(tmp_path / "a.nii", array, np.diag([0.5, 2, 3, 1])), ndim=2)
        assert image.shape == (6, 7)
        assert image.spacing == (2, 0.5)
        assert np.array_equal(image.array, array.reshape(7, 6, -1).transpose(1, 0, 2))

    def test_a_slice_tilted_in_space_keeps_its_spacing_in_2d(self, tmp_path):
        image = read_image(save_nifti(tmp_path / "a.nii", VOLUME[..., :1], AFFINES["permuted"]), ndim=2)
        assert image.spacing == (2, 1)

    def test_a_2d_label_map_reads_back(self, tmp_path):
        affine = Affine(np.array([[0, 2, 5], [-1.5, 0, 3], [0, 0, 1.0]]))
        write_label_map(tmp_path / "a.nii.gz", labels(LABELS_2D, affine))
        again = read_label_map(tmp_path / "a.nii.gz", ndim=2)
        assert again.affine == affine
        assert np.array_equal(again.array, LABELS_2D)

    def test_a_volume_is_refused_where_a_2d_image_is_needed(self, tmp_path):
        with pytest.raises(ImageError, match=r"a stack of 4 slices of 6 x 7 voxels, and a 2D .*--frames"):
            read_image(save_nifti(tmp_path / "a.nii", VOLUME), ndim=2)

    def test_an_affine_without_extent_is_refused(self, tmp_path):
        image = nibabel.Nifti1Image(VOLUME, np.eye(4))
        image.header.set_sform(np.diag([1, 1, 0, 1]), code=1)
        nibabel.Nifti1Image(VOLUME, None, image.header).to_filename(tmp_path / "a.nii")
        with pytest.raises(ImageError, match="affine"):
            read_image(tmp_path / "a.nii")

    def test_complex_numbers_are_refused(self, tmp_path):
        with pytest.raises(ImageError, match="real numbers"):
            read_image(save_nifti(tmp_path / "a.nii", VOLUME.astype(np.complex64)))

    def test_big_endian_files_come_in_native_byte_order(self, tmp_path):
        header = nibabel.Nifti1Header(endianness=">")
        header.set_data_dtype(np.int16)
        image = nibabel.Nifti1Image(VOLUME, np.eye(4), header)
        image.to_filename(tmp_path / "a.nii")
        array = read_image(tmp_path / "a.nii").array
        assert array.dtype.isnative and array.dtype == np.int16
        assert np.array_equal(array[..., 0], VOLUME.transpose(2, 1, 0))

    def test_nifti_2_is_read_too(self, tmp_path):
        nibabel.Nifti2Image(VOLUME, AFFINES["oblique"]).to_filename(tmp_path / "a.nii")
        assert np.array_equal(read_image(tmp_path / "a.nii").array[..., 0], VOLUME.transpose(2, 1, 0))


class TestPictures:
    @pytest.mark.parametrize("suffix", [".png", ".bmp", ".PNG"])
    def test_colours_come_channels_last(self, tmp_path, suffix):
        image = read_image(save_picture(tmp_path / f"a{suffix}", COLOUR))
        assert np.array_equal(image.array, COLOUR)
        assert (image.ndim, image.channels, image.unit) == (2, 3, "pixel")
        assert image.affine == Affine.identity(2)

    def test_grey_has_one_channel(self, tmp_path):
        image = read_image(save_picture(tmp_path / "a.png", GREY))
        assert np.array_equal(image.array, GREY[..., None])

    def test_an_animation_is_refused_rather_than_read_as_its_first_frame(self, tmp_path):
        first, second = Image.fromarray(GREY), Image.fromarray(255 - GREY)
        first.save(tmp_path / "a.png", save_all=True, append_images=[second])
        with pytest.raises(ImageError, match="animation of 2 frames"):
            read_image(tmp_path / "a.png")

    def test_sixteen_bits_of_grey_are_all_kept(self, tmp_path):
        deep = RNG.integers(0, 65536, (6, 7), dtype=np.uint16)
        image = read_image(save_picture(tmp_path / "a.png", deep))
        assert image.array.dtype == np.uint16
        assert np.array_equal(image.array[..., 0], deep)

    @pytest.mark.parametrize(("samples", "colour_type"), [(2, 4), (3, 2), (4, 6)])
    def test_sixteen_bits_of_colour_are_all_kept_and_alpha_is_dropped(self, tmp_path, samples, colour_type):
        deep = RNG.integers(0, 65536, (6, 7, samples), dtype=np.uint16)
        path = save_png_bytes(tmp_path / "a.png", deep.astype(">u2"), 16, colour_type, width=7)
        array = read_image(path).array
        assert array.dtype == np.uint16
        assert np.array_equal(array, deep[..., : {2: 1, 3: 3, 4: 3}[samples]])

    def test_alpha_is_dropped(self, tmp_path):
        alpha = np.full((6, 7, 1), 9, np.uint8)
        colour = read_image(save_picture(tmp_path / "rgba.png", np.concatenate([COLOUR, alpha], -1)))
        grey = read_image(save_picture(tmp_path / "la.png", np.concatenate([GREY[..., None], alpha], -1)))
        assert np.array_equal(colour.array, COLOUR)
        assert np.array_equal(grey.array[..., 0], GREY)

    @pytest.mark.parametrize("transparency", [None, 1, b"\x00\x80\xff"])
    def test_a_palette_gives_colours_to_an_image_and_its_indices_to_a_label_map(self, tmp_path, transparency):
        picture = Image.fromarray(LABELS_2D).convert("P")
        picture.putdata(LABELS_2D.ravel().tolist())
        palette = RNG.integers(0, 256, (5, 3), dtype=np.uint8)
        picture.putpalette(palette.ravel().tolist())
        options = {} if transparency is None else {"transparency": transparency}
        picture.save(tmp_path / "a.png", **options)
        assert np.array_equal(read_image(tmp_path / "a.png").array, palette[LABELS_2D])
        assert np.array_equal(read_label_map(tmp_path / "a.png").array, LABELS_2D)

    def test_one_bit_is_black_and_white_in_an_image_and_0_and_1_in_a_label_map(self, tmp_path):
        path = save_picture(tmp_path / "a.png", LABELS_2D > 2)
        assert np.array_equal(read_image(path).array[..., 0], np.where(LABELS_2D > 2, 255, 0))
        assert np.array_equal(read_label_map(path).array, LABELS_2D > 2)

    @pytest.mark.parametrize("bits", [2, 4])
    def test_few_bits_of_grey_are_stretched_in_an_image_and_kept_in_a_label_map(self, tmp_path, bits):
        classes = RNG.integers(0, 2**bits, (6, 8), dtype=np.uint8)
        per_byte = 8 // bits
        shifts = np.arange(per_byte)[::-1] * bits
        packed = (classes.reshape(6, -1, per_byte) << shifts).sum(-1).astype(np.uint8)
        path = save_png_bytes(tmp_path / "a.png", packed, bits, 0, width=8)
        assert np.array_equal(read_label_map(path).array, classes)
        assert np.array_equal(read_image(path).array[..., 0], classes * (255 // (2**bits - 1)))

    @pytest.mark.parametrize(("mode", "channels"), [("L", 1), ("RGB", 3), ("CMYK", 3)])
    def test_a_jpeg_of_any_mode_is_grey_or_rgb(self, tmp_path, mode, channels):
        flat = np.broadcast_to(np.uint8([200, 120, 40]), (16, 16, 3))
        Image.fromarray(flat).convert(mode).save(tmp_path / "a.jpg", quality=100)
        image = read_image(tmp_path / "a.jpg")
        expected = [200, 120, 40] if channels == 3 else [135]
        assert image.channels == channels
        assert np.abs(image.array.astype(int) - expected).max() <= 3

    def test_a_jpeg_label_map_is_a_clean_mask(self, tmp_path):
        mask = np.zeros((64, 64), np.uint8)
        mask[20:40, 10:50] = 255
        save_picture(tmp_path / "a.jpg", mask)
        assert not np.array_equal(read_image(tmp_path / "a.jpg").array[..., 0], mask)
        assert np.array_equal(read_label_map(tmp_path / "a.jpg").array, mask)

    @pytest.mark.parametrize("noisy", [GREY, LABELS_2D])
    def test_a_jpeg_is_refused_as_a_label_map_of_several_classes(self, tmp_path, noisy):
        with pytest.raises(ImageError, match="JPEG"):
            read_label_map(save_picture(tmp_path / "a.jpg", noisy))

    def test_a_png_named_jpg_is_read_for_what_it_is(self, tmp_path):
        Image.fromarray(LABELS_2D).save(tmp_path / "a.jpg", format="PNG")
        assert np.array_equal(read_label_map(tmp_path / "a.jpg").array, LABELS_2D)

    def test_a_picture_is_refused_where_a_volume_is_needed(self, tmp_path):
        with pytest.raises(ImageError, match="3D"):
            read_image(save_picture(tmp_path / "a.png", GREY), ndim=3)


class TestTiff:
    @pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "u4", "f2", "f4", "f8"])
    @pytest.mark.parametrize(("byteorder", "bigtiff"), [("<", False), (">", True)])
    def test_every_number_type_comes_in_native_byte_order(self, tmp_path, dtype, byteorder, bigtiff):
        array = (RNG.random((6, 7)) * 100).astype(dtype)
        tifffile.imwrite(tmp_path / "a.tif", array, byteorder=byteorder, bigtiff=bigtiff)
        image = read_image(tmp_path / "a.tif")
        assert image.array.dtype == np.dtype(dtype) and image.array.dtype.isnative
        assert np.array_equal(image.array[..., 0], array)
        assert (image.ndim, image.unit, image.spacing) == (2, "pixel", (1, 1))

    @pytest.mark.parametrize("planar", [False, True])
    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
    def test_rgb_comes_channels_last_however_it_is_stored(self, tmp_path, planar, dtype):
        colour = COLOUR.astype(dtype) * 3
        stored = np.moveaxis(colour, -1, 0) if planar else colour
        config = "separate" if planar else "contig"
        tifffile.imwrite(tmp_path / "a.tif", stored, photometric="rgb", planarconfig=config)
        assert np.array_equal(read_image(tmp_path / "a.tif").array, colour)

    def test_alpha_is_dropped(self, tmp_path):
        rgba = np.concatenate([COLOUR, GREY[..., None]], -1)
        tifffile.imwrite(tmp_path / "a.tif", rgba, photometric="rgb", extrasamples=["unassalpha"])
        assert np.array_equal(read_image(tmp_path / "a.tif").array, COLOUR)

    @pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "tiff_adobe_deflate", "packbits"])
    @pytest.mark.parametrize("array", [GREY, COLOUR, GREY.astype(np.uint16) * 200], ids=["L", "RGB", "I;16"])
    def test_lossless_compression_makes_no_difference(self, tmp_path, compression, array):
        Image.fromarray(array).save(tmp_path / "a.tif", compression=compression)
        assert np.array_equal(np.squeeze(read_image(tmp_path / "a.tif").array), array)

    def test_a_stack_of_lzw_pages_is_a_volume(self, tmp_path):
        first, *others = [Image.fromarray(page) for page in LABELS_3D]
        first.save(tmp_path / "a.tif", compression="tiff_lzw", save_all=True, append_images=others)
        assert np.array_equal(read_label_map(tmp_path / "a.tif").array, LABELS_3D)

    def test_packed_samples_of_twelve_bits_are_unpacked(self, tmp_path):
        deep = RNG.integers(0, 4096, (6, 8), dtype=np.uint16)
        high, low = deep[:, 0::2], deep[:, 1::2]
        packed = np.stack([high >> 4, (high & 15) << 4 | low >> 8, low & 255], -1).astype(np.uint8).tobytes()
        tags = [
            (256, 8),
            (257, 6),
            (258, 12),
            (259, 1),
            (262, 1),
            (273, 8),
            (277, 1),
            (278, 6),
            (279, len(packed)),
        ]
        entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
        directory = struct.pack("<H", len(tags)) + entries + bytes(4)
        header = b"II*\0" + struct.pack("<I", 8 + len(packed))
        (tmp_path / "a.tif").write_bytes(header + packed + directory)
        assert np.array_equal(read_image(tmp_path / "a.tif").array[..., 0], deep)

    @pytest.mark.parametrize("compression", ["raw", "tiff_lzw"])
    def test_white_is_zero_is_turned_round_in_an_image_and_not_in_a_label_map(self, tmp_path, compression):
        picture = Image.fromarray(255 - GREY)
        picture.save(tmp_path / "a.tif", compression=compression, tiffinfo={262: 0})
        with tifffile.TiffFile(tmp_path / "a.tif") as tiff:
            stored_inverted = tiff.pages[0].photometric == 0
        assert stored_inverted
        image, stored = read_image(tmp_path / "a.tif").array[..., 0], read_label_map(tmp_path / "a.tif").array
        assert np.array_equal(image, 255 - stored)

    def test_a_palette_gives_colours_to_an_image_and_its_indices_to_a_label_map(self, tmp_path):
        palette = RNG.integers(0, 256, (3, 256), dtype=np.uint16)
        tifffile.imwrite(tmp_path / "a.tif", LABELS_2D, photometric="palette", colormap=palette * 257)
        assert np.array_equal(read_image(tmp_path / "a.tif").array, palette.T[LABELS_2D])
        assert np.array_equal(read_label_map(tmp_path / "a.tif").array, LABELS_2D)

    def test_one_bit_is_black_and_white_in_an_image_and_0_and_1_in_a_label_map(self, tmp_path):
        tifffile.imwrite(tmp_path / "a.tif", LABELS_2D > 2, photometric="minisblack")
        assert np.array_equal(read_image(tmp_path / "a.tif").array[..., 0], np.where(LABELS_2D > 2, 255, 0))
        assert np.array_equal(read_label_map(tmp_path / "a.tif").array, LABELS_2D > 2)

    @pytest.mark.parametrize("truncate", [False, True])
    def test_pages_without_a_meaning_are_slices_unless_2d_is_asked_for(self, tmp_path, truncate):
        tifffile.imwrite(tmp_path / "a.tif", LABELS_3D, photometric="minisblack", truncate=truncate)
        assert np.array_equal(read_image(tmp_path / "a.tif").array[..., 0], LABELS_3D)
        assert np.array_equal(read_image(tmp_path / "a.tif", ndim=2).array, np.moveaxis(LABELS_3D, 0, -1))

    def test_declared_slices_are_refused_where_a_2d_image_is_needed(self, tmp_path):
        tifffile.imwrite(tmp_path / "a.tif", LABELS_3D, imagej=True, metadata={"axes": "ZYX"})
        with pytest.raises(ImageError, match=r"a stack of 4 slices \(axes ZYX .* 2D image .*--frames"):
            read_image(tmp_path / "a.tif", ndim=2)

    def test_a_picture_is_refused_where_a_volume_is_needed(self, tmp_path):
        tifffile.imwrite(tmp_path / "a.tif", GREY)
        with pytest.raises(ImageError, match=r"2D image .* 3D"):
            read_image(tmp_path / "a.tif", ndim=3)

    def test_a_movie_is_refused_as_one_where_a_2d_image_is_needed(self, tmp_path):
        tifffile.imwrite(tmp_path / "a.tif", LABELS_3D, imagej=True, metadata={"axes": "TYX"})
        with pytest.raises(ImageError, match=r"a movie of 4 time points \(axes TYX .* 2D image .*--frames"):
            read_image(tmp_path / "a.tif", ndim=2)
        assert np.array_equal(read_image(tmp_path / "a.tif", ndim=3).array[..., 0], LABELS_3D)

    def test_a_time_series_of_volumes_is_refused(self, tmp_path):
        tifffile.imwrite(
            tmp_path / "a.tif", np.zeros((2, 3, 4, 5), np.uint8), imagej=True, metadata={"axes": "TZYX"}
        )
        with pytest.raises(ImageError, match="volumes at 2 time points: axes TZYX"):
            read_image(tmp_path / "a.tif")

    @pytest.mark.parametrize(("axes", "order"), [("ZCYX", (0, 2, 3, 1)), ("CZYX", (1, 2, 3, 0))])
    def test_ome_channels_come_last_and_its_spacing_is_read(self, tmp_path, axes, order):
        array = RNG.integers(0, 9000, (3, 2, 6, 7), dtype=np.uint16)
        metadata = {"axes": axes, "PhysicalSizeX": 0.25, "PhysicalSizeY": 0.5, "PhysicalSizeZ": 2.0}
        tifffile.imwrite(tmp_path / "a.ome.tif", array, metadata=metadata)
        image = read_image(tmp_path / "a.ome.tif")
        assert np.array_equal(image.array, array.transpose(order))
        assert (image.spacing, image.unit) == ((2.0, 0.5, 0.25), "micrometer")

    def test_ome_axes_of_different_units_are_brought_to_one(self, tmp_path):
        metadata = {"axes": "ZYX", "PhysicalSizeX": 500, "PhysicalSizeXUnit": "nm"}
        metadata |= {"PhysicalSizeY": 0.5, "PhysicalSizeYUnit": "µm", "PhysicalSizeZ": 2.0}
        tifffile.imwrite(tmp_path / "a.ome.tif", LABELS_3D, metadata=metadata)
        image = read_image(tmp_path / "a.ome.tif")
        assert (image.spacing, image.unit) == ((2000, 500, 500), "nanometer")

    def test_an_imagej_spacing_that_is_no_number_says_nothing(self, tmp_path):
        path, text = tmp_path / "a.tif", "ImageJ=1.53t\nunit=um\nspacing=unknown"
        tifffile.imwrite(path, LABELS_3D[0], description=text, metadata=None, resolution=(2, 4))
        assert read_image(path).spacing == pytest.approx((0.25, 0.5))

    @pytest.mark.parametrize("unit", ["um", "micron", "\\u00B5m"])
    def test_imagej_spacing_is_read_under_every_name_of_the_micrometer(self, tmp_path, unit):
        tifffile.imwrite(
            tmp_path / "a.tif",
            LABELS_3D,
            imagej=True,
            resolution=((4, 1), (2, 1)),
            metadata={"axes": "ZYX", "spacing": 2.5, "unit": unit},
        )
        image = read_image(tmp_path / "a.tif")
        assert (image.spacing, image.unit) == ((2.5, 0.5, 0.25), "micrometer")

    def test_imagej_channels_come_last(self, tmp_path):
        array = RNG.integers(0, 9000, (3, 2, 6, 7), dtype=np.uint16)
        tifffile.imwrite(tmp_path / "a.tif", array, imagej=True, metadata={"axes": "ZCYX"})
        assert np.array_equal(read_image(tmp_path / "a.tif").array, array.transpose(0, 2, 3, 1))

    def test_pixels_per_centimetre_are_a_spacing_and_pixels_per_inch_are_not(self, tmp_path):
        tifffile.imwrite(tmp_path / "cm.tif", GREY, resolution=(20_000, 40_000), resolutionunit="centimeter")
        tifffile.imwrite(tmp_path / "inch.tif", GREY, resolution=(300, 300), resolutionunit="inch")
        tifffile.imwrite(
            tmp_path / "j.tif", GREY, imagej=True, resolution=(72, 72), metadata={"unit": "inch"}
        )
        microscope = read_image(tmp_path / "cm.tif")
        assert (microscope.spacing, microscope.unit) == ((0.25, 0.5), "micrometer")
        for printed in (read_image(tmp_path / "inch.tif"), read_image(tmp_path / "j.tif")):
            assert (printed.spacing, printed.unit) == ((1, 1), "pixel")

    @pytest.mark.parametrize("name", ["a.tif", "a.ome.tif", "a.TIFF"])
    @pytest.mark.parametrize("unit", ["micrometer", "millimeter", "nanometer", "centimeter", "pixel"])
    @pytest.mark.parametrize("spacing", [(2.5, 0.3, 0.1625), (5.0, 1234.5, 0.001)])
    def test_a_written_stack_has_its_spacing(self, tmp_path, name, unit, spacing):
        write_label_map(tmp_path / name, labels(LABELS_3D, Affine.from_spacing(spacing), unit))
        again = read_label_map(tmp_path / name)
        assert np.array_equal(again.array, LABELS_3D)
        assert (again.spacing, again.unit) == (spacing, unit)

    def test_a_written_picture_has_its_spacing(self, tmp_path):
        write_label_map(
            tmp_path / "a.tif", labels(LABELS_2D, Affine.from_spacing((0.7, 1 / 3)), "micrometer")
        )
        again = read_label_map(tmp_path / "a.tif")
        assert again.spacing == pytest.approx((0.7, 1 / 3), rel=1e-12)
        assert np.array_equal(again.array, LABELS_2D)

    def test_a_stack_of_pictures_is_written_as_one_and_by_tiff_alone(self, tmp_path):
        stack = labels(LABELS_3D, Affine.from_spacing((7.0, 0.5, 0.25)), "micrometer")
        for name in ("a.tif", "a.ome.tif"):
            write_label_map(tmp_path / name, stack, is_stack=True)
            with tifffile.TiffFile(tmp_path / name) as tiff:
                assert tiff.series[0].axes == "TYX"
            again = read_label_map(tmp_path / name)
            assert np.array_equal(again.array, LABELS_3D)
            assert again.spacing[1:] == (0.5, 0.25)
        for name in ("a.nii", "a.png", "a.nrrd"):
            with pytest.raises(ImageError, match=r"name it \.tif"):
                write_label_map(tmp_path / name, stack, is_stack=True)

    def test_the_written_stack_is_one_that_imagej_opens(self, tmp_path):
        write_label_map(tmp_path / "a.tif", labels(LABELS_3D, unit="micrometer"))
        with tifffile.TiffFile(tmp_path / "a.tif") as tiff:
            assert tiff.is_imagej and tiff.series[0].axes == "ZYX"
            assert tiff.imagej_metadata["unit"] == "micron"

    def test_a_file_that_is_cut_short_is_refused_rather_than_filled_with_zeros(self, tmp_path):
        for name, options in {"a": {}, "j": {"imagej": True}, "t": {"truncate": True}}.items():
            path = tmp_path / f"{name}.tif"
            tifffile.imwrite(path, np.ones((4, 64, 64), np.uint16), photometric="minisblack", **options)
            path.write_bytes(path.read_bytes()[: -64 * 64])
            with pytest.raises(ImageError, match=rf"{name}\.tif"):
                read_image(path)


class TestLabelMaps:
    def test_whole_numbers_stored_as_floats_are_labels(self, tmp_path):
        path = save_nifti(tmp_path / "a.nii.gz", LABELS_3D.T.astype(np.float64))
        assert np.array_equal(read_label_map(path).array, LABELS_3D)
        assert read_label_map(path).array.dtype == np.uint8
        negative = save_nifti(tmp_path / "b.nii.gz", LABELS_3D.T.astype(np.float32) - 1)
        assert np.array_equal(read_label_map(negative).array, LABELS_3D.astype(int) - 1)

    @pytest.mark.parametrize("value", [0.5, np.nan, np.inf, 1e30])
    def test_other_floats_are_refused_with_their_count_and_an_example(self, tmp_path, value):
        array = LABELS_3D.T.astype(np.float32)
        array[0, 0, :2] = value
        with pytest.raises(
            ImageError, match=rf"a\.nii holds 2 values .* {np.float32(value):g}".replace("+", ".")
        ):
            read_label_map(save_nifti(tmp_path / "a.nii", array))

    def test_instances_become_one_class(self, tmp_path):
        Image.fromarray(LABELS_2D.astype(np.uint16) * 300).save(tmp_path / "a.png")
        assert np.array_equal(read_label_map(tmp_path / "a.png", instances=True).array, LABELS_2D > 0)
        assert np.array_equal(read_label_map(tmp_path / "a.png").array, LABELS_2D.astype(int) * 300)

    def test_grey_saved_as_colour_is_accepted_and_colours_are_refused(self, tmp_path):
        grey = save_picture(tmp_path / "grey.png", np.repeat(LABELS_2D[..., None], 3, -1))
        assert np.array_equal(read_label_map(grey).array, LABELS_2D)
        with pytest.raises(ImageError, match="3 different colours"):
            read_label_map(save_picture(tmp_path / "colour.png", COLOUR))

    def test_a_label_map_of_several_times_is_refused(self, tmp_path):
        with pytest.raises(ImageError, match="2 different time points"):
            read_label_map(save_nifti(tmp_path / "a.nii", RNG.integers(0, 9, (7, 6, 4, 2)).astype(np.uint8)))

    @pytest.mark.parametrize("suffix", [".nii.gz", ".tif", ".png"])
    @pytest.mark.parametrize(("largest", "dtype"), [(255, np.uint8), (256, np.uint16), (65535, np.uint16)])
    def test_the_smallest_dtype_is_written_and_every_label_reads_back(self, tmp_path, suffix, largest, dtype):
        array = LABELS_2D.astype(np.int64)
        array[0, 0] = largest
        write_label_map(tmp_path / f"a{suffix}", labels(array))
        again = read_label_map(tmp_path / f"a{suffix}", ndim=2).array
        assert again.dtype == dtype
        assert np.array_equal(again, array)

    @pytest.mark.parametrize("suffix", [".nii.gz", ".tif"])
    def test_labels_beyond_16_bits_read_back(self, tmp_path, suffix):
        array = LABELS_3D.astype(np.int64) * 1_000_000
        write_label_map(
            tmp_path / f"a{suffix}", labels(array, Affine.from_spacing((3.0, 2.0, 1.0)), "micrometer")
        )
        again = read_label_map(tmp_path / f"a{suffix}")
        assert again.array.dtype == np.uint32
        assert np.array_equal(again.array, array)
        assert (again.spacing, again.unit) == ((3, 2, 1), "micrometer")

    @pytest.mark.parametrize(
        ("name", "array", "reason"),
        [
            ("a.png", LABELS_3D, "2D"),
            ("a.png", LABELS_2D.astype(np.int64) * 70_000, "65535"),
            ("a.tif", LABELS_2D.astype(np.int64) * 2**40, "2\\*\\*32"),
            ("a.nii", LABELS_3D.astype(np.int8) - 1, "negative"),
            ("a.jpg", LABELS_2D, r"\.nii\.gz"),
            ("a.txt", LABELS_2D, r"\.nii\.gz"),
            ("missing/a.nii", LABELS_3D, "folder"),
        ],
    )
    def test_what_a_format_cannot_hold_is_refused_and_leaves_no_file(self, tmp_path, name, array, reason):
        with pytest.raises(ImageError, match=reason) as caught:
            write_label_map(tmp_path / name, labels(array))
        assert str(tmp_path / name) in str(caught.value)
        assert list(tmp_path.iterdir()) == []

    def test_a_failed_write_keeps_the_file_of_before(self, tmp_path, monkeypatch):
        write_label_map(tmp_path / "a.nii", labels(LABELS_3D))
        before = (tmp_path / "a.nii").read_bytes()

        def full_disk(*_: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "replace", full_disk)
        with pytest.raises(ImageError, match="No space left"):
            write_label_map(tmp_path / "a.nii", labels(LABELS_3D * 2))
        assert (tmp_path / "a.nii").read_bytes() == before
        assert [path.name for path in tmp_path.iterdir()] == ["a.nii"]

    def test_an_existing_file_is_replaced(self, tmp_path):
        for array in (LABELS_3D, LABELS_3D * 2):
            write_label_map(tmp_path / "a.nii.gz", labels(array))
            assert np.array_equal(read_label_map(tmp_path / "a.nii.gz").array, array)


class TestBadFiles:
    @pytest.mark.parametrize("suffix", IMAGE_SUFFIXES)
    @pytest.mark.parametrize("content", [b"", b"This is only text, whatever its name says.\n" * 20])
    def test_an_empty_file_and_one_of_text_are_refused_in_one_sentence(self, tmp_path, suffix, content):
        path = tmp_path / f"a{suffix}"
        path.write_bytes(content)
        for read in (read_image, read_label_map):
            assert_one_sentence(read, path)

    @pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".tif", ".nii", ".nii.gz"])
    @pytest.mark.parametrize("share", [0.1, 0.9])
    def test_a_file_cut_short_is_refused_in_one_sentence(self, tmp_path, suffix, share):
        path = tmp_path / f"a{suffix}"
        noise = RNG.integers(0, 256, (64, 64), dtype=np.uint8)
        save_nifti(path, noise[..., None]) if ".nii" in suffix else Image.fromarray(noise).save(path)
        content = path.read_bytes()
        path.write_bytes(content[: int(share * len(content))])
        assert_one_sentence(read_image, path)

    def test_a_missing_file_is_named(self, tmp_path):
        with pytest.raises(ImageError, match=r"none\.png does not exist"):
            read_image(tmp_path / "none.png")

    def test_a_folder_is_not_an_image(self, tmp_path):
        (tmp_path / "a.png").mkdir()
        with pytest.raises(ImageError, match="is a folder"):
            read_image(tmp_path / "a.png")

    def test_an_unknown_suffix_is_refused_with_the_known_ones(self, tmp_path):
        (tmp_path / "a.docx").write_bytes(b"x")
        with pytest.raises(ImageError, match=r"\.nii\.gz, \.tif"):
            read_image(tmp_path / "a.docx")

    def test_values_that_are_not_finite_are_counted(self, tmp_path):
        array = VOLUME.astype(np.float32)
        array[0, 0, 0], array[1, 1, 1], array[2, 2, 2] = np.nan, np.inf, -np.inf
        with pytest.raises(ImageError, match=r"a\.nii\.gz has 3 NaN or infinite values among 168"):
            read_image(save_nifti(tmp_path / "a.nii.gz", array))
        tifffile.imwrite(tmp_path / "a.tif", array, photometric="minisblack")
        with pytest.raises(ImageError, match=r"a\.tif has 3 NaN"):
            read_image(tmp_path / "a.tif")


def assert_one_sentence(read: Callable[[Path], object], path: Path) -> None:
    with pytest.raises(ImageError) as caught:
        read(path)
    text = str(caught.value)
    assert str(path) in text
    assert text.endswith(".") and "\n" not in text and len(text) < 400


class TestTypes:
    @pytest.mark.parametrize(
        ("name", "stem"),
        [
            ("a.nii.gz", "a"),
            ("folder/a.b.NII", "a.b"),
            ("a.ome.tiff", "a"),
            ("a.png", "a"),
            ("a.txt", "a.txt"),
            ("case.1.jpg", "case.1"),
        ],
    )
    def test_a_stem_is_the_name_without_the_whole_suffix(self, name, stem):
        assert image_stem(Path(name)) == stem

    def test_an_image_knows_its_shape_spacing_and_grid(self):
        image = MedicalImage(np.zeros((4, 6, 7, 2)), Affine.from_spacing((3.0, 2.0, 1.0)), "millimeter")
        assert (image.ndim, image.shape, image.channels, image.spacing) == (3, (4, 6, 7), 2, (3, 2, 1))
        assert (image.grid.shape, image.grid.affine) == (image.shape, image.affine)

    def test_a_label_map_knows_its_shape_spacing_and_grid(self):
        label_map = labels(LABELS_3D, Affine.from_spacing((3.0, 2.0, 1.0)))
        assert (label_map.ndim, label_map.shape, label_map.spacing) == (3, (4, 6, 7), (3, 2, 1))
        assert (label_map.grid.shape, label_map.grid.affine) == (label_map.shape, label_map.affine)

    def test_axes_that_do_not_match_the_affine_are_a_fault(self):
        with pytest.raises(ValueError, match="channels"):
            MedicalImage(np.zeros((6, 7)), Affine.identity(2), "pixel")
        with pytest.raises(ValueError, match="label map"):
            LabelMap(np.zeros((4, 6, 7), np.uint8), Affine.identity(2), "pixel")

    def test_what_was_read_can_be_written_to(self, tmp_path):
        save_picture(tmp_path / "a.png", GREY)
        save_nifti(tmp_path / "a.nii", VOLUME)
        tifffile.imwrite(tmp_path / "a.tif", GREY)
        for path in tmp_path.iterdir():
            assert read_image(path).array.flags.writeable
            assert read_label_map(path).array.flags.writeable


class TestRealData:
    def test_frames_and_their_masks_have_one_shape(self, shared_data):
        for image_path in sorted((shared_data / "polypgen/val/images").iterdir())[:5]:
            image = read_image(image_path, ndim=2)
            mask = read_label_map(shared_data / f"polypgen/val/labels/{image_path.stem}.png", ndim=2)
            assert image.channels == 3 and image.shape == mask.shape
            assert set(np.unique(mask.array)) <= {0, 1}

    def test_nuclei_are_instances_in_tiff(self, shared_data):
        path = sorted((shared_data / "nuclei/val/labels").glob("*.tif"))[0]
        instances, nuclei = read_label_map(path, ndim=2), read_label_map(path, ndim=2, instances=True)
        assert instances.array.max() > 1
        assert np.array_equal(nuclei.array, instances.array > 0)

    def test_a_hippocampus_and_its_labels_share_a_grid(self, shared_data):
        path = sorted((shared_data / "hippocampus/val/images").iterdir())[0]
        image = read_image(path)
        label_map = read_label_map(shared_data / "hippocampus/val/labels" / path.name)
        assert (image.grid.shape, image.affine, image.unit) == (
            label_map.shape,
            label_map.affine,
            "millimeter",
        )
        assert set(np.unique(label_map.array)) == {0, 1, 2}

    def test_the_affine_of_a_real_ct_survives_a_round_trip(self, shared_data, tmp_path):
        path = shared_data / "ct-example/labels/example_ct_sm.nii.gz"
        write_label_map(tmp_path / "a.nii.gz", read_label_map(path))
        source, written = nibabel.load(path), nibabel.load(tmp_path / "a.nii.gz")
        assert np.array_equal(source.affine, written.affine)
        assert np.array_equal(np.asarray(source.dataobj), np.asarray(written.dataobj))


def dyes(count: int = 3) -> np.ndarray:
    return RNG.integers(0, 256, (count, 6, 7), dtype=np.uint8)


def nrrd(path: Path, kind: str, count: int = 3, more: str = "") -> Path:
    header = f"NRRD0004\ntype: uchar\ndimension: 3\nsizes: {count} 7 6\nencoding: raw\n"
    header += f"kinds: {kind} domain domain\n"
    path.write_bytes((header + more + "\n").encode() + np.moveaxis(dyes(count), 0, -1).tobytes())
    return path


class TestWhatChannelsAre:
    """Only what a file declares as colour is colour."""

    def test_pictures_of_colour_are_declared_whatever_they_are_stored_as(self, tmp_path):
        for mode in ("RGB", "RGBA", "P", "CMYK"):
            suffix = ".jpg" if mode == "CMYK" else ".png"
            image = read_image(save_picture(tmp_path / f"{mode}{suffix}", COLOUR, mode))
            assert (image.channels, image.channel_axis) == (3, "colour")

    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.uint32, np.float32])
    @pytest.mark.parametrize("planarconfig", ["contig", "separate"])
    @pytest.mark.parametrize(("photometric", "axis"), [("rgb", "colour"), ("minisblack", "channel")])
    def test_a_tiff_of_three_samples_is_colour_where_its_tag_says_so(
        self, tmp_path, dtype, planarconfig, photometric, axis
    ):
        stored = (
            COLOUR.astype(dtype) if planarconfig == "contig" else np.moveaxis(COLOUR.astype(dtype), -1, 0)
        )
        tifffile.imwrite(tmp_path / "a.tif", stored, photometric=photometric, planarconfig=planarconfig)
        image = read_image(tmp_path / "a.tif", ndim=2)
        assert np.array_equal(image.array, COLOUR.astype(dtype))
        assert image.channel_axis == axis

    def test_a_fourth_sample_that_is_no_alpha_makes_four_channels_of_which_three_are_called_colours(
        self, tmp_path
    ):
        four = np.concatenate([COLOUR, GREY[..., None]], -1)
        tifffile.imwrite(tmp_path / "a.tif", four, photometric="rgb", extrasamples=["unspecified"])
        image = read_image(tmp_path / "a.tif")
        assert (image.channels, image.channel_axis) == (4, "channel")
        assert np.array_equal(image.with_channels(["red", "green", "blue"]).array, COLOUR)

    @pytest.mark.parametrize("count", [2, 3, 4, 7])
    def test_an_imagej_composite_has_channels_with_its_labels(self, tmp_path, count):
        labels = [f"dye {n}" for n in range(count)]
        metadata = {"axes": "CYX", "mode": "composite", "Labels": labels}
        tifffile.imwrite(tmp_path / "a.tif", dyes(count), imagej=True, metadata=metadata)
        image = read_image(tmp_path / "a.tif", ndim=2)
        assert (image.channels, image.channel_axis, list(image.channel_names)) == (count, "channel", labels)

    def test_the_labels_of_a_hyperstack_are_those_of_its_first_slice(self, tmp_path):
        array = RNG.integers(0, 9000, (4, 2, 6, 7), dtype=np.uint16)
        labels = [f"{dye} {z}" for z in range(4) for dye in ("GFP", "DAPI")]
        tifffile.imwrite(tmp_path / "a.tif", array, imagej=True, metadata={"axes": "ZCYX", "Labels": labels})
        assert read_image(tmp_path / "a.tif").channel_names == ("GFP 0", "DAPI 0")

    def test_ome_names_its_channels(self, tmp_path):
        metadata = {"axes": "CYX", "Channel": {"Name": ["GFP", "RFP", "DAPI"]}}
        tifffile.imwrite(tmp_path / "a.ome.tif", dyes(), metadata=metadata)
        image = read_image(tmp_path / "a.ome.tif", ndim=2)
        assert (image.channel_axis, image.channel_names) == ("channel", ("GFP", "RFP", "DAPI"))

    def test_ome_with_three_samples_of_a_pixel_is_colour(self, tmp_path):
        tifffile.imwrite(tmp_path / "a.ome.tif", COLOUR, photometric="rgb", metadata={"axes": "YXS"})
        assert read_image(tmp_path / "a.ome.tif").channel_axis == "colour"

    def test_pages_that_take_the_place_of_channels_are_pages(self, tmp_path):
        tifffile.imwrite(tmp_path / "a.tif", dyes(), photometric="minisblack")
        assert read_image(tmp_path / "a.tif", ndim=2).channel_axis == "page"

    def test_a_nifti_of_times_counts_times_and_one_of_rgb_is_colour(self, tmp_path):
        times = read_image(save_nifti(tmp_path / "a.nii", np.zeros((7, 6, 4, 3), np.int16)))
        parts = read_image(save_nifti(tmp_path / "b.nii", np.zeros((7, 6, 4, 1, 3), np.int16)))
        rgb = np.zeros((7, 6, 4), [("R", "u1"), ("G", "u1"), ("B", "u1")])
        colour = read_image(save_nifti(tmp_path / "c.nii", rgb))
        assert [image.channel_axis for image in (times, parts, colour)] == ["time", "channel", "colour"]

    @pytest.mark.parametrize(
        ("kind", "axis"),
        [("RGB-color", "colour"), ("3-color", "colour"), ("vector", "channel"), ("list", "channel")],
    )
    def test_an_nrrd_is_colour_where_its_kind_says_so(self, tmp_path, kind, axis):
        pytest.importorskip("SimpleITK")
        image = read_image(nrrd(tmp_path / "a.nrrd", kind))
        assert (image.channels, image.channel_axis) == (3, axis)

    def test_overlapping_segments_are_called_so(self, tmp_path):
        pytest.importorskip("SimpleITK")
        segments = "Segment0_LabelValue:=1\nSegment0_Layer:=0\nSegment1_LabelValue:=1\nSegment1_Layer:=1\n"
        path = nrrd(tmp_path / "a.seg.nrrd", "list", 2, segments)
        with pytest.raises(
            ImageError, match="2 different layers of segments, .* segments overlap.* 3D Slicer"
        ):
            read_label_map(path)

    @pytest.mark.parametrize(("axis", "axes"), [("channel", "CYX"), ("colour", "YXS")])
    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
    def test_what_is_written_is_colour_only_if_it_was(self, tmp_path, axis, axes, dtype):
        array = np.moveaxis(dyes(), 0, -1).astype(dtype)
        write_image(tmp_path / "a.tif", MedicalImage(array, Affine.identity(2), "pixel", channel_axis=axis))
        again = read_image(tmp_path / "a.tif", ndim=2)
        assert np.array_equal(again.array, array) and again.array.dtype == dtype
        assert again.channel_axis == axis
        with tifffile.TiffFile(tmp_path / "a.tif") as tiff:
            assert tiff.series[0].axes == axes

    def test_a_volume_of_colours_is_written_as_one(self, tmp_path):
        array = RNG.integers(0, 256, (4, 6, 7, 3), dtype=np.uint8)
        image = MedicalImage(array, Affine.identity(3), "millimeter", channel_axis="colour")
        write_image(tmp_path / "a.nii.gz", image)
        again = read_image(tmp_path / "a.nii.gz")
        assert np.array_equal(again.array, array) and again.channel_axis == "colour"


def turned(path: Path, orientation: int) -> Path:
    """A picture of 6 rows and 7 columns that viewers turn."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(COLOUR).save(path, exif=exif)
    return path


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_a_picture_that_viewers_turn_is_known_and_read_as_it_is_stored(tmp_path, suffix):
    path = turned(tmp_path / f"a{suffix}", 6)
    assert read_image(path).shape == (6, 7)
    assert exif_orientation(path) == 6 and is_turned_by_exif(path)
    assert not is_turned_by_exif(turned(tmp_path / f"b{suffix}", 3))
    assert exif_orientation(save_picture(tmp_path / f"c{suffix}", COLOUR)) == 1


def test_what_is_no_photograph_is_not_turned(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", GREY)
    (tmp_path / "b.png").write_bytes(b"\x89PNG\r\n\x1a\n damaged")
    assert [exif_orientation(tmp_path / name) for name in ("a.tif", "b.png", "none.jpg")] == [1, 1, 1]
