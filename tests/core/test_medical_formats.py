"""NRRD, MetaImage and DICOM: every voxel keeps its value and its place in the patient."""

from __future__ import annotations

import struct
import sys
from collections.abc import Sequence
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 - its own documentation calls it so

from swipe_core.coordinates import Affine
from swipe_core.errors import ImageError
from swipe_core.images import (
    LabelMap,
    holds_labels,
    read_header,
    read_image,
    read_label_map,
    write_label_map,
)
from swipe_core.images.formats import holds_dicom, is_dicom
from swipe_core.images.units import conversion

RNG = np.random.default_rng(0)
VOLUME = RNG.integers(-1000, 2000, (5, 6, 7)).astype(np.int16)  # (z, y, x)
LABELS = RNG.integers(0, 4, (5, 6, 7)).astype(np.uint8)
SOME_VOXELS = [(0, 0, 0), (4, 0, 0), (0, 5, 0), (0, 0, 6), (3, 1, 4)]  # (z, y, x)
LPS_TO_RAS = np.array([-1.0, -1.0, 1.0])
FILES = [".nrrd", ".nhdr", ".mha", ".mhd"]


def turn(axis: int, angle: float) -> np.ndarray:
    rotation = np.eye(3)
    i, j = (axis + 1) % 3, (axis + 2) % 3
    rotation[i, i] = rotation[j, j] = np.cos(angle)
    rotation[i, j], rotation[j, i] = -np.sin(angle), np.sin(angle)
    return rotation


OBLIQUE = turn(0, 0.3) @ turn(1, -0.2) @ turn(2, 0.5)
MIRRORED = np.diag([1.0, -1.0, 1.0])
PERMUTED = np.array([[0.0, 0, 1], [1, 0, 0], [0, -1, 0]])
DIRECTIONS = {"oblique": OBLIQUE, "mirrored": MIRRORED, "permuted": PERMUTED}


def itk_image(array: np.ndarray = VOLUME, direction: np.ndarray = OBLIQUE, **options: bool) -> sitk.Image:
    image = sitk.GetImageFromArray(array, **options)
    image.SetSpacing((0.7, 0.9, 2.5))
    image.SetOrigin((-10.5, 20.25, 300.0))
    image.SetDirection(direction.ravel().tolist())
    return image


def save(image: sitk.Image, path: Path) -> Path:
    sitk.WriteImage(image, str(path))
    return path


STEPS = "space directions: (0.5,0,0) (0,0.25,0) (0,0,2)"


def nrrd(path: Path, fields: str) -> Path:
    """24 voxels of (4, 3, 2) in (x, y, z) order."""
    header = f"NRRD0005\ntype: uint8\ndimension: 3\nsizes: 4 3 2\n{fields}\nencoding: raw\n\n"
    path.write_bytes(header.encode() + bytes(24))
    return path


def assert_same_place(affine: Affine, image: sitk.Image, tolerance: float = 1e-6) -> None:
    """Every voxel lies where ITK has it, told in our world."""
    for z, y, x in SOME_VOXELS:
        world_xyz = LPS_TO_RAS * image.TransformIndexToPhysicalPoint((x, y, z))
        np.testing.assert_allclose(affine.apply(np.array([z, y, x], float)), world_xyz[::-1], atol=tolerance)


def save_series(
    folder: Path,
    image: sitk.Image,
    positions: Sequence[Sequence[float]] | None = None,
    series: str = "1.2.3.1",
    suffix: str = ".dcm",
    tags: dict[str, str] | None = None,
) -> Path:
    """A DICOM series with a slope of 0.5 and an intercept of -1024, slice by slice in reversed order."""
    folder.mkdir(exist_ok=True)
    direction = np.reshape(image.GetDirection(), (3, 3))
    writer = sitk.ImageFileWriter()
    writer.SetImageIO("GDCMImageIO")
    writer.KeepOriginalImageUIDOn()
    count = image.GetSize()[2]
    for index in range(count):
        plane = image[:, :, index]
        position = positions[index] if positions else image.TransformIndexToPhysicalPoint((0, 0, index))
        values = {
            "0008|0060": "CT",
            "0008|0018": f"{series}.{index + 1}",
            "0020|000d": "1.2.3",
            "0020|000e": series,
            "0020|0037": "\\".join(f"{v:.10g}" for v in direction[:, :2].T.ravel()),
            "0020|0032": "\\".join(f"{v:.10g}" for v in position),
            "0028|1053": "0.5",
            "0028|1052": "-1024",
            "0028|0100": "16",
            "0028|0101": "16",
            "0028|0102": "15",
            "0028|0103": "1",
        } | (tags or {})
        for key, value in values.items():
            plane.SetMetaData(key, value)
        writer.SetFileName(str(folder / f"{series}-{count - index}{suffix}"))
        writer.Execute(plane)
    return folder


def save_frame(path: Path, colours: np.ndarray) -> Path:
    """A colour picture in DICOM, byte by byte: ITK's writer invents an orientation."""

    def element(group: int, number: int, kind: str, value: bytes) -> bytes:
        value += b"\0" * (len(value) % 2)
        long = kind in ("OB", "OW")
        length = struct.pack("<HI" if long else "<H", *((0, len(value)) if long else (len(value),)))
        return struct.pack("<HH", group, number) + kind.encode() + length + value

    secondary_capture, plain_little_endian = b"1.2.840.10008.5.1.4.1.1.7", b"1.2.840.10008.1.2.1"
    start = element(2, 2, "UI", secondary_capture) + element(2, 3, "UI", b"1.2.3")
    start += element(2, 0x10, "UI", plain_little_endian)
    body = element(8, 0x16, "UI", secondary_capture) + element(8, 0x18, "UI", b"1.2.3")
    rows, columns, samples = colours.shape
    numbers = {6: 0, 0x10: rows, 0x11: columns, 0x100: 8, 0x101: 8, 0x102: 7, 0x103: 0}
    body += element(0x28, 2, "US", struct.pack("<H", samples)) + element(0x28, 4, "CS", b"RGB ")
    for number, value in numbers.items():
        body += element(0x28, number, "US", struct.pack("<H", value))
    body += element(0x7FE0, 0x10, "OB", colours.tobytes())
    path.write_bytes(bytes(128) + b"DICM" + element(2, 0, "UL", struct.pack("<I", len(start))) + start + body)
    return path


def ct() -> sitk.Image:
    """Values that only a slope of 0.5 can make."""
    return itk_image(VOLUME * 0.5 - 1024)


class TestFiles:
    @pytest.mark.parametrize("suffix", [*FILES, ".NRRD"])
    @pytest.mark.parametrize("name", DIRECTIONS)
    def test_every_voxel_keeps_its_value_and_its_place_in_the_world(self, tmp_path, suffix, name):
        image = itk_image(direction=DIRECTIONS[name])
        written = save(image, tmp_path / f"a{suffix.lower()}")
        read = read_image(written.rename(tmp_path / f"a{suffix}"))
        assert np.array_equal(read.array, VOLUME[..., None])
        assert read.array.dtype == np.int16
        assert read.spacing == pytest.approx((2.5, 0.9, 0.7))
        assert read.unit == "millimeter"
        assert_same_place(read.affine, image)

    @pytest.mark.parametrize("suffix", FILES)
    def test_it_lies_where_nibabel_has_the_same_image(self, tmp_path, suffix):
        nifti, other = (save(itk_image(), tmp_path / f"a{s}") for s in (".nii.gz", suffix))
        as_nifti, as_other = read_image(nifti), read_image(other)
        np.testing.assert_allclose(as_other.affine.matrix, as_nifti.affine.matrix, atol=1e-5)
        assert np.array_equal(as_other.array, as_nifti.array)
        xyz = nibabel.load(nifti).affine @ [4, 1, 3, 1]
        np.testing.assert_allclose(as_other.affine.apply(np.array([3.0, 1, 4])), xyz[2::-1], atol=1e-4)

    @pytest.mark.parametrize("suffix", FILES)
    def test_the_parts_of_a_voxel_are_channels(self, tmp_path, suffix):
        colours = RNG.integers(0, 256, (5, 6, 7, 3)).astype(np.uint8)
        path = save(itk_image(colours, isVector=True), tmp_path / f"a{suffix}")
        assert np.array_equal(read_image(path).array, colours)
        assert (read_header(path).channels, read_image(path).channel_axis) == (3, "channel")

    @pytest.mark.parametrize("suffix", FILES)
    def test_points_in_time_come_last_and_are_called_so(self, tmp_path, suffix):
        times = sitk.JoinSeries([itk_image(VOLUME + i) for i in range(3)])
        path = save(times, tmp_path / f"a{suffix}")
        image = read_image(path)
        assert np.array_equal(image.array, np.stack([VOLUME, VOLUME + 1, VOLUME + 2], axis=-1))
        assert_same_place(image.affine, itk_image())
        assert (read_header(path).channels, image.channel_axis) == (3, "time")

    @pytest.mark.parametrize("suffix", FILES)
    def test_a_2d_image_has_no_place_in_a_patient_and_is_not_turned(self, tmp_path, suffix):
        picture = sitk.GetImageFromArray(VOLUME[0])
        picture.SetSpacing((0.5, 0.25))
        image = read_image(save(picture, tmp_path / f"a{suffix}"))
        assert np.array_equal(image.array, VOLUME[0][..., None])
        assert image.affine == Affine.from_spacing((0.25, 0.5))

    def test_a_volume_of_one_slice_is_a_2d_image_where_one_is_asked_for(self, tmp_path):
        path = save(itk_image(VOLUME[:1]), tmp_path / "a.nrrd")
        assert read_image(path).shape == (1, 6, 7)
        assert read_image(path, ndim=2).shape == (6, 7)
        with pytest.raises(ImageError, match="a stack of 5 slices of 6 x 7 voxels, and a 2D image is needed"):
            read_image(save(itk_image(), tmp_path / "b.nrrd"), ndim=2)

    def test_an_nrrd_without_a_named_space_is_not_turned_and_keeps_its_unit(self, tmp_path):
        header = (
            'NRRD0005\ntype: uint8\ndimension: 3\nsizes: 4 3 2\nspacings: 0.5 0.25 2\nunits: "um" "um" "um"'
        )
        voxels = np.arange(24, dtype=np.uint8)
        (tmp_path / "a.nrrd").write_bytes(f"{header}\nencoding: raw\n\n".encode() + voxels.tobytes())
        image = read_image(tmp_path / "a.nrrd")
        assert np.array_equal(image.array[..., 0], voxels.reshape(2, 3, 4))
        assert (image.affine, image.unit) == (Affine.from_spacing((2.0, 0.25, 0.5)), "micrometer")

    def test_an_nrrd_in_right_anterior_superior_lies_where_it_says(self, tmp_path):
        header = "NRRD0005\ntype: uint8\ndimension: 3\nspace: RAS\nsizes: 4 3 2\nspace origin: (1,2,3)"
        steps = "space directions: (0.5,0,0) (0,0.25,0) (0,0,2)\nkinds: domain domain domain"
        path = tmp_path / "a.nrrd"
        path.write_bytes(f"{header}\n{steps}\nencoding: raw\n\n".encode() + bytes(24))
        assert read_image(path).affine == Affine.from_spacing((2.0, 0.25, 0.5), origin=(3.0, 2.0, 1.0))

    @pytest.mark.parametrize(
        ("space", "signs"),
        [
            ("left-posterior-superior", (1, -1, -1)),
            ("LPS", (1, -1, -1)),
            ("RAS", (1, 1, 1)),
            ("right-anterior-superior", (1, 1, 1)),
            ("Left-Anterior-Superior", (1, 1, -1)),
            ("scanner-xyz", None),
            ("3D-right-handed", None),
        ],
    )
    def test_an_nrrd_is_in_a_patient_where_its_space_is_named_after_one(self, tmp_path, space, signs):
        image = read_image(nrrd(tmp_path / "a.nrrd", f"space: {space}\n{STEPS}"))
        assert image.space.is_anatomical == (signs is not None)
        steps = np.array([2.0, 0.25, 0.5]) * (signs or (1, 1, 1))
        np.testing.assert_allclose(np.diag(image.affine.matrix)[:3], steps)

    @pytest.mark.parametrize(
        ("units", "spacing", "unit"),
        [
            ('space units: "um" "um" "um"', (2.0, 0.25, 0.5), "micrometer"),
            ('space units: "um" "mm" "mm"', (2.0, 0.25, 0.0005), "millimeter"),
            ('space units: "cm" "cm" "cm"', (2.0, 0.25, 0.5), "centimeter"),
            ("content: nothing", (2.0, 0.25, 0.5), "millimeter"),
        ],
    )
    def test_an_nrrd_of_a_patient_has_the_units_of_its_space_else_millimetres(
        self, tmp_path, units, spacing, unit
    ):
        image = read_image(nrrd(tmp_path / "a.nrrd", f"space: RAS\n{units}\n{STEPS}"))
        assert (image.spacing, image.unit) == (pytest.approx(spacing), unit)

    @pytest.mark.parametrize(
        ("fields", "unit"),
        [
            ("spacings: 0.5 0.25 2", "pixel"),
            (f"space dimension: 3\n{STEPS}", "pixel"),
            (f'space dimension: 3\nspace units: "um" "um" "um"\n{STEPS}', "micrometer"),
            (f"space: scanner-xyz\n{STEPS}", "millimeter"),
        ],
    )
    def test_an_nrrd_claims_no_millimetres_that_nothing_says(self, tmp_path, fields, unit):
        assert read_image(nrrd(tmp_path / "a.nrrd", fields)).unit == unit

    @pytest.mark.parametrize(
        ("fields", "unit", "is_anatomical"),
        [
            ("DistanceUnits = um\nTransformMatrix = 1 0 0 0 1 0 0 0 1", "micrometer", True),
            ("DistanceUnits = cm\nRotation = 1 0 0 0 1 0 0 0 1", "centimeter", True),
            ("TransformMatrix = 1 0 0 0 1 0 0 0 1", "millimeter", True),
            ("ElementSpacing = 2 2 2", "millimeter", False),
            ("Name = a", "pixel", False),
        ],
    )
    def test_a_metaimage_says_its_unit_and_its_turn_or_has_none(self, tmp_path, fields, unit, is_anatomical):
        header = f"ObjectType = Image\nNDims = 3\nDimSize = 4 3 2\n{fields}\nElementType = MET_UCHAR\n"
        (tmp_path / "a.mha").write_bytes(f"{header}ElementDataFile = LOCAL\n".encode() + bytes(24))
        image = read_image(tmp_path / "a.mha")
        assert (image.unit, image.space.is_anatomical) == (unit, is_anatomical)

    def test_complex_numbers_are_refused(self, tmp_path):
        path = save(sitk.GetImageFromArray(VOLUME.astype(np.complex64)), tmp_path / "a.nrrd")
        with pytest.raises(ImageError, match="real numbers"):
            read_image(path)

    @pytest.mark.parametrize("suffix", [".nrrd", ".mha", ".dcm"])
    def test_a_file_cut_short_is_refused_in_one_sentence_without_addresses(self, tmp_path, suffix):
        path = tmp_path / f"a{suffix}"
        if suffix == ".dcm":
            path = next(save_series(tmp_path, ct()).glob("*.dcm"))
        else:
            sitk.WriteImage(itk_image(), str(path))
        path.write_bytes(path.read_bytes()[:-40])
        with pytest.raises(ImageError) as caught:
            read_image(path)
        assert str(path) in str(caught.value)
        assert "0x" not in str(caught.value) and ".cxx" not in str(caught.value)

    @pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
    @pytest.mark.parametrize("name", DIRECTIONS)
    def test_a_written_label_map_lies_where_its_image_does(self, tmp_path, suffix, name):
        image = itk_image(direction=DIRECTIONS[name])
        read = read_image(save(image, tmp_path / "image.nrrd"))
        affine, path = read.affine, tmp_path / f"labels{suffix}"
        write_label_map(path, LabelMap(LABELS, affine, "millimeter", space=read.space))
        assert np.array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(path))), LABELS)
        again = read_label_map(path)
        assert np.array_equal(again.array, LABELS) and again.array.dtype == np.uint8
        np.testing.assert_allclose(again.affine.matrix, affine.matrix, atol=1e-9)
        assert_same_place(again.affine, sitk.ReadImage(str(path)))

    @pytest.mark.parametrize(
        ("suffix", "spacing", "unit"),
        [(".nrrd", (1000.0, 1000.0), "micrometer"), (".mha", (1.0, 1.0), "millimeter")],
    )
    def test_a_written_2d_label_map_states_its_unit(self, tmp_path, suffix, spacing, unit):
        path = tmp_path / f"a{suffix}"
        write_label_map(path, LabelMap(LABELS[0], Affine.from_spacing((1000.0, 1000.0)), "micrometer"))
        again = read_label_map(path)
        assert np.array_equal(again.array, LABELS[0])
        assert (again.spacing, again.unit) == (spacing, unit)

    @pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
    def test_a_written_volume_that_is_of_no_patient_is_not_turned_and_is_none_when_read(
        self, tmp_path, suffix
    ):
        affine = Affine.from_spacing((2.0, 0.25, 0.5), origin=(3.0, 2.0, 1.0))
        path = tmp_path / f"a{suffix}"
        write_label_map(path, LabelMap(LABELS, affine, "nanometer"))
        again = read_label_map(path)
        assert np.array_equal(again.array, LABELS) and not again.space.is_anatomical
        assert again.unit == ("nanometer" if suffix == ".nrrd" else "millimeter")
        factor = conversion("nanometer", again.unit)
        np.testing.assert_allclose(again.affine.matrix[:3] / factor, affine.matrix[:3])
        origin = sitk.ReadImage(str(path)).GetOrigin()
        np.testing.assert_allclose(origin, factor * np.array([1.0, 2.0, 3.0]))

    @pytest.mark.parametrize("suffix", [".nhdr", ".mhd", ".dcm"])
    def test_formats_of_several_files_are_not_written(self, tmp_path, suffix):
        with pytest.raises(ImageError, match=r"\.nrrd"):
            write_label_map(tmp_path / f"a{suffix}", LabelMap(LABELS, Affine.identity(3), "millimeter"))
        assert list(tmp_path.iterdir()) == []


class TestDicom:
    def test_a_folder_of_slices_is_a_volume_at_its_place_with_its_rescaled_values(self, tmp_path):
        image = read_image(save_series(tmp_path / "series", ct()))
        assert np.array_equal(image.array[..., 0], VOLUME * 0.5 - 1024)
        assert image.spacing == pytest.approx((2.5, 0.9, 0.7), rel=1e-6)
        assert (image.unit, image.path) == ("millimeter", tmp_path / "series")
        assert_same_place(image.affine, ct())

    def test_files_without_a_suffix_and_strangers_among_them_make_no_difference(self, tmp_path):
        folder = save_series(tmp_path / "series", ct(), suffix="")
        (folder / "notes.txt").write_text("Chest, with contrast.", "utf-8")
        (folder / ".hidden").write_bytes(b"")
        (folder / "more").mkdir()
        assert_same_place(read_image(folder).affine, ct())

    def test_a_tilted_gantry_is_the_shear_that_it_is(self, tmp_path):
        upright = itk_image(VOLUME * 0.5 - 1024, np.eye(3))
        start, step = np.array(upright.GetOrigin()), np.array([0.0, 0.8, 2.5])
        positions = [start + index * step for index in range(5)]
        affine = read_image(save_series(tmp_path / "series", upright, positions)).affine
        for index, position in enumerate(positions):
            place = affine.apply(np.array([index, 0.0, 0.0]))
            np.testing.assert_allclose(place, (LPS_TO_RAS * position)[::-1], atol=1e-6)

    def test_a_missing_slice_is_found(self, tmp_path):
        folder = save_series(tmp_path / "series", ct())
        (folder / "1.2.3.1-3.dcm").unlink()
        with pytest.raises(ImageError, match="2.5 to 5 mm apart.*missing"):
            read_image(folder)

    def test_several_slices_at_one_place_are_refused(self, tmp_path):
        places = [ct().TransformIndexToPhysicalPoint((0, 0, index // 2)) for index in range(5)]
        with pytest.raises(ImageError, match="several slices at one place"):
            read_image(save_series(tmp_path / "series", ct(), places))

    def test_several_series_are_named_and_none_is_chosen(self, tmp_path):
        folder = save_series(tmp_path / "study", ct(), tags={"0008|103e": "Chest"})
        save_series(folder, ct()[:, :, :3], series="1.2.3.2", tags={"0008|103e": "Head"})
        with pytest.raises(ImageError) as caught:
            read_image(folder)
        assert "2 DICOM series" in str(caught.value)
        assert "'Chest' (5 files)" in str(caught.value) and "'Head' (3 files)" in str(caught.value)
        assert "a folder of its own" in str(caught.value)

    def test_slices_of_different_sizes_are_refused(self, tmp_path):
        folder = save_series(tmp_path / "series", ct()[:, :, :3])
        for path in folder.iterdir():
            path.rename(folder / f"a{path.name}")
        save_series(folder, ct()[:5, :, 3:])
        with pytest.raises(ImageError, match="series"):
            read_image(folder)

    def test_a_series_of_one_file_is_a_volume_of_one_slice(self, tmp_path):
        folder = save_series(tmp_path / "series", ct()[:, :, 2:3])
        (path,) = folder.iterdir()
        image = read_image(folder)
        assert (image.shape, image.path) == ((1, 6, 7), folder)
        np.testing.assert_allclose(image.affine.matrix, read_image(path).affine.matrix)
        assert read_image(path, ndim=2).shape == (6, 7)
        world_xyz = LPS_TO_RAS * ct().TransformIndexToPhysicalPoint((3, 4, 2))
        np.testing.assert_allclose(image.affine.apply(np.array([0.0, 4, 3])), world_xyz[::-1], atol=1e-6)

    def test_a_frame_without_an_orientation_is_a_2d_picture(self, tmp_path):
        colours = RNG.integers(0, 256, (6, 7, 3)).astype(np.uint8)
        image = read_image(save_frame(tmp_path / "a.dcm", colours))
        assert np.array_equal(image.array, colours)
        assert (image.ndim, image.channels, image.unit) == (2, 3, "pixel")
        assert image.affine == Affine.identity(2)

    def test_a_folder_without_dicom_is_no_image(self, tmp_path):
        (tmp_path / "a.png").write_bytes(b"x" * 200)
        with pytest.raises(ImageError, match="is a folder without DICOM files"):
            read_image(tmp_path)

    def test_a_folder_that_only_claims_to_hold_dicom_is_refused(self, tmp_path):
        (tmp_path / "a.dcm").write_bytes(b"x" * 200)
        with pytest.raises(ImageError, match=r"a\.dcm is damaged or not a DICOM file"):
            read_image(tmp_path)


class TestSignature:
    def test_dicom_is_known_by_its_suffix_or_its_mark(self, tmp_path):
        (tmp_path / "a.DCM").write_bytes(b"")
        (tmp_path / "b").write_bytes(bytes(128) + b"DICM")
        (tmp_path / "c.png").write_bytes(b"short")
        assert [is_dicom(tmp_path / name) for name in ("a.DCM", "b", "c.png", "none")] == [
            True,
            True,
            False,
            False,
        ]

    def test_a_folder_holds_dicom_if_one_of_its_files_is(self, tmp_path):
        (tmp_path / "c.png").write_bytes(b"x" * 500)
        assert not holds_dicom(tmp_path)
        (tmp_path / ".b").write_bytes(bytes(128) + b"DICM")
        (tmp_path / "inside").mkdir()
        (tmp_path / "inside" / "a.dcm").write_bytes(b"")
        assert not holds_dicom(tmp_path)
        (tmp_path / "b").write_bytes(bytes(128) + b"DICM")
        assert holds_dicom(tmp_path)
        assert not holds_dicom(tmp_path / "b")

    def test_a_large_folder_is_not_searched_to_its_end(self, tmp_path, monkeypatch):
        for index in range(200):
            (tmp_path / f"{index}.png").write_bytes(b"x")
        opened: list[Path] = []
        real = Path.open
        monkeypatch.setattr(Path, "open", lambda path, *a, **k: opened.append(path) or real(path, *a, **k))
        assert not holds_dicom(tmp_path)
        assert 0 < len(opened) < 100


class TestHeaders:
    @pytest.mark.parametrize(
        ("shape", "axis", "channels"),
        [
            ((7, 6, 4), "channel", 1),
            ((7, 6, 4, 3), "time", 3),
            ((7, 6, 4, 1, 3), "channel", 3),
            ((7, 6), "channel", 1),
        ],
    )
    def test_the_fourth_axis_of_nifti_is_time_and_the_fifth_holds_channels(
        self, tmp_path, shape, axis, channels
    ):
        nibabel.Nifti1Image(np.zeros(shape, np.float32), np.eye(4)).to_filename(tmp_path / "a.nii")
        header = read_header(tmp_path / "a.nii")
        assert (header.channels, header.is_integer) == (channels, False)
        image = read_image(tmp_path / "a.nii")
        assert (image.channel_axis, image.channels) == (axis, channels)

    def test_a_format_that_does_not_say_has_the_defaults(self, tmp_path):
        write_label_map(tmp_path / "a.png", LabelMap(LABELS[0], Affine.identity(2), "pixel"))
        header = read_header(tmp_path / "a.png")
        assert header.channels is None and not header.is_declared_labels

    def test_a_missing_or_damaged_file_is_named(self, tmp_path):
        (tmp_path / "b.nii.gz").write_bytes(b"nothing")
        for name in ("a.nii", "b.nii.gz"):
            with pytest.raises(ImageError, match=name):
                read_header(tmp_path / name)


class TestHoldsLabels:
    def nifti(self, path: Path, dtype: type, intent: int = 0) -> Path:
        path.parent.mkdir(exist_ok=True)
        image = nibabel.Nifti1Image(LABELS.T.astype(dtype), np.eye(4))
        image.header.set_intent(intent)
        image.to_filename(path)
        return path

    @pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
    def test_what_this_program_writes_calls_itself_a_label_map(self, tmp_path, suffix):
        path = tmp_path / f"a{suffix}"
        write_label_map(path, LabelMap(LABELS, Affine.identity(3), "millimeter"))
        assert nibabel.load(path).header.get_intent()[0] == "label"
        assert holds_labels(path)

    @pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32])
    def test_a_file_that_calls_itself_a_label_map_is_one(self, tmp_path, dtype):
        assert holds_labels(self.nifti(tmp_path / "a.nii", dtype, intent=1002))

    @pytest.mark.parametrize(
        "name",
        ["labels/a.nii", "labelsTr/a.nii", "x/a_seg.nii", "x/A_Label.nii", "x/a_labels.nii", "x/a_dseg.nii"],
    )
    def test_whole_numbers_are_labels_where_label_maps_are_kept(self, tmp_path, name):
        assert holds_labels(self.nifti(tmp_path / name, np.int16))
        assert not holds_labels(self.nifti(tmp_path / name, np.float32))

    @pytest.mark.parametrize(
        "name", ["images/a.nii", "images/seg_a.nii", "images/a_segment.nii", "mylabels/a.nii"]
    )
    def test_anything_else_is_an_image_however_few_values_it_has(self, tmp_path, name):
        assert not holds_labels(self.nifti(tmp_path / name, np.uint8))

    def test_scaled_numbers_are_no_labels(self, tmp_path):
        path = self.nifti(tmp_path / "a_seg.nii", np.int16)
        with path.open("r+b") as file:
            file.seek(112)
            file.write(np.float32([0.5, 0]).tobytes())
        assert not holds_labels(path)

    def test_several_channels_are_no_label_map(self, tmp_path):
        path = tmp_path / "a_seg.nii"
        nibabel.Nifti1Image(np.zeros((7, 6, 5, 2), np.uint8), np.eye(4)).to_filename(path)
        assert not holds_labels(path)

    @pytest.mark.parametrize("suffix", FILES)
    def test_the_rule_holds_for_nrrd_and_metaimage_too(self, tmp_path, suffix):
        assert holds_labels(save(itk_image(LABELS), tmp_path / f"a_seg{suffix}"))
        assert not holds_labels(save(itk_image(LABELS), tmp_path / f"a{suffix}"))
        assert not holds_labels(save(itk_image(LABELS.astype(np.float32)), tmp_path / f"b_seg{suffix}"))

    def test_a_segmentation_of_3d_slicer_is_a_label_map(self, tmp_path):
        assert holds_labels(save(itk_image(LABELS), tmp_path / "Segmentation.seg.nrrd"))


class TestWithoutTheirLibraries:
    @pytest.fixture(autouse=True)
    def no_libraries(self, monkeypatch):
        for library in ("SimpleITK", "pydicom"):
            monkeypatch.setitem(sys.modules, library, None)  # which makes its import fail

    @pytest.mark.parametrize("suffix", [*FILES, ".dcm"])
    def test_the_extra_that_is_needed_is_named(self, tmp_path, suffix):
        (tmp_path / f"a{suffix}").write_bytes(b"x" * 200)
        with pytest.raises(ImageError, match=r'pip install "napari-swipe\[medical\]"'):
            read_image(tmp_path / f"a{suffix}")

    def test_a_folder_of_dicom_and_a_writer_name_it_too(self, tmp_path):
        (tmp_path / "b").write_bytes(bytes(128) + b"DICM")
        with pytest.raises(ImageError, match="medical"):
            read_image(tmp_path)
        with pytest.raises(ImageError, match="medical"):
            write_label_map(tmp_path / "a.nrrd", LabelMap(LABELS, Affine.identity(3), "millimeter"))

    def test_the_other_formats_do_not_need_it(self, tmp_path):
        write_label_map(tmp_path / "a.nii.gz", LabelMap(LABELS, Affine.identity(3), "millimeter"))
        assert np.array_equal(read_label_map(tmp_path / "a.nii.gz").array, LABELS)
