"""Whatever is in a folder or file is either found as a picture of its own, or named as left out."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 - its own documentation calls it so
import tifffile
from dicom_writer import AXIAL, MAMMOGRAM, MR, write_dataset, write_dicom
from PIL import Image
from pydicom.dataset import Dataset

from swipe_core.errors import ImageError
from swipe_core.images import read_image
from swipe_core.images.finding import FoundImages, find_images, stem_of
from swipe_core.images.source import ImageSource
from swipe_core.images.stored import open_stored_image

NOISE = np.random.default_rng(7).integers(0, 255, (64, 64)).astype(np.uint8)
OME = '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"'
IDENTIFIERS = (
    "urn:uuid:00000000-0000-0000-0000-000000000000",
    "urn:uuid:00000000-0000-0000-0000-000000000001",
)


def png(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(NOISE).save(path)
    return path


def dicom(path: Path, series: str, *, place: float | None = None, title: str = "", number: int = 1) -> Path:
    """A slice at a place along z, or a picture without one, such as an X-ray."""
    values = {"SeriesInstanceUID": series, "SeriesDescription": title, "InstanceNumber": number}
    if place is None:
        return write_dicom(path, NOISE + np.uint8(number), MAMMOGRAM, **values)
    placed = {"ImagePositionPatient": [0, 0, place], "ImageOrientationPatient": list(AXIAL)}
    return write_dicom(path, NOISE + np.uint8(number), MR, PixelSpacing=[1, 1], **placed, **values)


def without_image(path: Path, sop_class: str) -> Path:
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = sop_class, "1.9"
    return write_dataset(path, dataset)


def slices(folder: Path, series: str, title: str = "", names: str = "IM") -> None:
    for number in range(1, 4):
        dicom(folder / f"{names}{number}", series, place=2.0 * number, title=title, number=number)


def ome_part(path: Path, number: int, images: str) -> Path:
    """A file of an OME-TIFF in several files: one plane, all of the description."""
    text = f'<?xml version="1.0" encoding="UTF-8"?>{OME} UUID="{IDENTIFIERS[number]}">{images}</OME>'
    tifffile.imwrite(path, NOISE + np.uint8(number), description=text, metadata=None)
    return path


def ome_image(number: int, depth: int, planes: str) -> str:
    size = f'PhysicalSizeX="{number + 0.5}" PhysicalSizeY="{number + 0.5}"'
    return (
        f'<Image ID="Image:{number}"><Pixels ID="Pixels:{number}" DimensionOrder="XYZCT" Type="uint8" '
        f'SizeX="64" SizeY="64" SizeZ="{depth}" SizeC="1" SizeT="1" {size}>'
        f'<Channel ID="Channel:{number}:0" SamplesPerPixel="1"/>{planes}</Pixels></Image>'
    )


def ome_plane(name: str, number: int, depth: int = 0) -> str:
    file = f'<UUID FileName="{name}">{IDENTIFIERS[number]}</UUID>'
    return f'<TiffData IFD="0" FirstZ="{depth}" PlaneCount="1">{file}</TiffData>'


def found_in(*paths: Path, **options: object) -> FoundImages:
    return find_images(paths, **options)


def stems(found: FoundImages) -> list[str]:
    return [stem_of(image) for image in found.images]


def left_out(found: FoundImages) -> dict[str, bool]:
    """Names of what is left out, and whether it was meant to be an image."""
    return {each.path.name: each.is_image for each in found.left_out}


class TestFolders:
    def test_pictures_and_dicom_beside_them_are_all_found(self, tmp_path):
        for name in ("a.png", "b.png"):
            png(tmp_path / name)
        dicom(tmp_path / "scout.dcm", "1.2.3")
        found = found_in(tmp_path)
        assert stems(found) == ["a", "b", "scout"] and not found.left_out

    def test_images_in_folders_inside_are_found_and_named_by_the_way_to_them(self, tmp_path):
        for name in ("a.png", "one/a.png", "two/deep/a.png"):
            png(tmp_path / name)
        assert stems(found_in(tmp_path)) == ["a", "one_a", "two_deep_a"]

    def test_a_folder_that_is_named_again_is_searched_once(self, tmp_path):
        png(tmp_path / "one" / "a.png")
        found = found_in(tmp_path, tmp_path / "one")
        assert stems(found) == ["one_a"] and not found.left_out

    def test_a_link_back_to_a_folder_above_is_no_end_of_folders(self, tmp_path):
        png(tmp_path / "one" / "a.png")
        (tmp_path / "one" / "again").symlink_to(tmp_path, target_is_directory=True)
        assert stems(found_in(tmp_path)) == ["one_a"]

    def test_labels_outputs_and_hidden_folders_inside_are_no_images(self, tmp_path):
        png(tmp_path / "a.png")
        for name in ("labels/a.png", "out/a.png", "old/a.png", ".hidden/a.png", "__MACOSX/a.png"):
            png(tmp_path / name)
        for name in ("old", "out"):
            (tmp_path / name / ".predict.jsonl").write_text("", "utf-8")
        found = found_in(tmp_path, output=tmp_path / "out")
        assert stems(found) == ["a"]
        assert left_out(found) == {"labels": False, "old": False}

    def test_images_in_the_folder_for_the_labels_are_named_as_left_out(self, tmp_path):
        for name in ("a.png", "p1/b.png"):
            png(tmp_path / name)
        assert left_out(found_in(tmp_path, output=tmp_path / "p1")) == {"p1": True}

    def test_a_named_folder_without_images_does_not_keep_the_others(self, tmp_path):
        png(tmp_path / "a" / "a.png")
        (tmp_path / "b").mkdir()
        found = found_in(tmp_path / "a", tmp_path / "b")
        assert stems(found) == ["a"] and left_out(found) == {"b": True}

    @pytest.mark.parametrize("name", ["a.czi", "a.svs", "a.JP2", "a.gif", "a.npy", "a.mgz", "a.avi"])
    def test_images_of_formats_that_are_not_read_are_named(self, tmp_path, name):
        png(tmp_path / "b.png")
        (tmp_path / name).write_bytes(b"anything")
        [other] = found_in(tmp_path).left_out
        assert (other.path, other.is_image) == (tmp_path / name, True)
        assert f"({name[1:].lower()})" in other.reason

    def test_an_image_that_is_not_called_one_is_named_with_the_ending_that_it_needs(self, tmp_path):
        png(tmp_path / "b.png")
        png(tmp_path / "c.png").rename(tmp_path / "scan")
        [other] = found_in(tmp_path).left_out
        assert other.path.name == "scan" and other.is_image and ".png" in other.reason

    def test_a_pair_of_header_and_voxels_is_named_once_and_raw_voxels_of_a_header_are_no_image(
        self, tmp_path
    ):
        sitk.WriteImage(sitk.GetImageFromArray(np.stack([NOISE] * 3)), str(tmp_path / "a.mhd"))
        for name in ("b.hdr", "b.img"):
            (tmp_path / name).write_bytes(b"anything")
        found = found_in(tmp_path)
        assert stems(found) == ["a"] and left_out(found) == {"b.hdr": True}

    def test_notes_and_tables_are_counted_and_not_complained_of(self, tmp_path):
        png(tmp_path / "a.png")
        for name in ("README.txt", "table.csv", "Makefile", "empty"):
            (tmp_path / name).write_text("" if name == "empty" else "words", "utf-8")
        (tmp_path / "._a.png").write_bytes(b"Mac OS X")
        found = found_in(tmp_path)
        assert (stems(found), found.left_out, found.others) == (["a"], [], 4)

    def test_hidden_images_are_named_without_being_a_fault(self, tmp_path):
        png(tmp_path / "a.png")
        png(tmp_path / ".b.png")
        assert left_out(found_in(tmp_path)) == {".b.png": False}

    @pytest.mark.skipif(os.name == "nt", reason="links need a right there")
    def test_a_link_that_leads_nowhere_is_named(self, tmp_path):
        png(tmp_path / "a.png")
        (tmp_path / "b.png").symlink_to(tmp_path / "gone.png")
        assert left_out(found_in(tmp_path)) == {"b.png": True}

    def test_a_folder_of_nothing_that_can_be_read_is_refused_with_the_names(self, tmp_path):
        (tmp_path / "a.czi").write_bytes(b"anything")
        with pytest.raises(ImageError, match=r"holds no images .*a\.czi .*OME-TIFF"):
            found_in(tmp_path)

    def test_empty_and_damaged_files_are_found_so_that_reading_them_can_fail(self, tmp_path):
        for name in ("a.png", "b.tif", "c.nii"):
            (tmp_path / name).write_bytes(b"")
        (tmp_path / "d.tif").write_bytes(b"II*\0 and nothing of use")
        assert stems(found_in(tmp_path)) == ["a", "b", "c", "d"]


class TestDicom:
    def test_a_folder_of_one_series_is_one_image_named_after_it(self, tmp_path):
        slices(tmp_path / "scan", "1.2.3")
        assert found_in(tmp_path / "scan").images == [ImageSource(tmp_path / "scan", None, "scan")]

    def test_single_x_rays_are_images_of_their_own(self, tmp_path):
        for number in range(3):
            dicom(tmp_path / f"patient{number}.dcm", f"1.2.77.{number}")
        assert stems(found_in(tmp_path, ndim=2)) == ["patient0", "patient1", "patient2"]

    def test_so_are_those_of_one_series_where_pictures_are_needed(self, tmp_path):
        for number in range(1, 4):
            dicom(tmp_path / f"view{number}.dcm", "1.2.77", number=number)
        assert stems(found_in(tmp_path, ndim=2)) == ["view1", "view2", "view3"]

    def test_a_study_of_folders_is_all_found(self, tmp_path):
        for name in ("s1", "s2"):
            slices(tmp_path / "p1" / name, f"1.2.{name[1]}")
        slices(tmp_path / "p2", "1.2.3")
        assert stems(found_in(tmp_path)) == ["p1_s1", "p1_s2", "p2"]

    def test_several_series_in_one_folder_are_read_one_by_one_under_their_titles(self, tmp_path):
        folder = tmp_path / "study"
        slices(folder, "1.2.1", title="T1 mprage", names="A")
        slices(folder, "1.2.2", title="T2/flair", names="B")
        dicom(folder / "report", "1.2.3")
        found = found_in(folder)
        assert stems(found) == ["study_T1_mprage", "study_T2_flair", "report"]
        assert "study (2)" in found.several
        first, second = (read_image(image) for image in found.images[:2])
        assert first.shape == second.shape == (3, 64, 64)

    def test_of_a_series_that_was_found_no_other_files_are_opened(self, tmp_path):
        for number in (1, 2):
            slices(tmp_path, f"1.2.{number}", names="AB"[number - 1])
        first, second = found_in(tmp_path).images
        for path in second.files:
            path.write_bytes(b"")
        assert read_image(first).shape == (3, 64, 64)
        assert first.absolute().files == first.files

    def test_series_of_the_same_title_have_numbers(self, tmp_path):
        for number in (1, 2):
            slices(tmp_path / "study", f"1.2.{number}", title="CT", names="AB"[number - 1])
        assert stems(found_in(tmp_path / "study")) == ["study_1", "study_2"]

    def test_dicom_without_an_image_is_named_and_no_fault_and_damaged_files_are_one(self, tmp_path):
        slices(tmp_path, "1.2.3")
        without_image(tmp_path / "contours.dcm", "1.2.840.10008.5.1.4.1.1.481.3")
        without_image(tmp_path / "DICOMDIR", "1.2.840.10008.1.3.10")
        (tmp_path / "empty.dcm").write_bytes(b"")
        found = found_in(tmp_path)
        assert len(found.images) == 1
        assert left_out(found) == {"contours.dcm": False, "DICOMDIR": False, "empty.dcm": True}


class TestTiff:
    def write(self, path: Path, *sizes: int, **options: object) -> Path:
        with tifffile.TiffWriter(path) as tiff:
            for size in sizes:
                tiff.write(NOISE[:size, :size], metadata=None, **options)
        return path

    def test_pictures_of_several_sizes_are_all_found_and_read(self, tmp_path):
        path = self.write(tmp_path / "sizes.tif", 64, 50, 40)
        found = found_in(path)
        assert stems(found) == ["sizes_1", "sizes_2", "sizes_3"]
        for image, size in zip(found.images, (64, 50, 40), strict=True):
            np.testing.assert_array_equal(read_image(image).array[..., 0], NOISE[:size, :size])
            stored = open_stored_image(image)
            np.testing.assert_array_equal(
                stored.read((0, 0), stored.shape).array[..., 0], NOISE[:size, :size]
            )
        assert len({open_stored_image(image).identity for image in found.images}) == 3

    def test_where_one_image_is_needed_a_file_of_several_is_refused(self, tmp_path):
        path = self.write(tmp_path / "sizes.tif", 64, 50)
        for read in (read_image, open_stored_image):
            with pytest.raises(ImageError, match=r"holds 2 pictures \(64 x 64, 50 x 50\), and one is needed"):
                read(path)

    def test_each_position_of_an_ome_tiff_has_its_own_size_of_pixels(self, tmp_path):
        with tifffile.TiffWriter(tmp_path / "a.ome.tif", ome=True) as tiff:
            for step in (0.5, 2.0):
                metadata = {"axes": "YX", "PhysicalSizeX": step, "PhysicalSizeY": step}
                tiff.write(NOISE, metadata=metadata)
        found = found_in(tmp_path)
        assert stems(found) == ["a_1", "a_2"]
        assert [read_image(image).spacing for image in found.images] == [(0.5, 0.5), (2.0, 2.0)]
        assert [open_stored_image(image).spacing for image in found.images] == [(0.5, 0.5), (2.0, 2.0)]

    def test_positions_in_files_of_their_own_are_each_found_once(self, tmp_path):
        names = ("p0.ome.tif", "p1.ome.tif")
        images = "".join(ome_image(n, 1, ome_plane(name, n)) for n, name in enumerate(names))
        for number, name in enumerate(names):
            ome_part(tmp_path / name, number, images)
        found = found_in(tmp_path)
        assert stems(found) == ["p0", "p1"] and not found.left_out
        for number, image in enumerate(found.images):
            read = read_image(image)
            np.testing.assert_array_equal(read.array[..., 0], NOISE + np.uint8(number))
            assert read.spacing == (number + 0.5, number + 0.5)

    def test_a_volume_over_several_files_is_found_once(self, tmp_path):
        names = ("z0.ome.tif", "z1.ome.tif")
        planes = "".join(ome_plane(name, n, n) for n, name in enumerate(names))
        for number, name in enumerate(names):
            ome_part(tmp_path / name, number, ome_image(0, 2, planes))
        found = found_in(tmp_path)
        assert stems(found) == ["z0"] and left_out(found) == {"z1.ome.tif": False}
        array = read_image(found.images[0]).array[..., 0]
        np.testing.assert_array_equal(array, [NOISE, NOISE + np.uint8(1)])
        with pytest.raises(ImageError, match=r"a part of the picture that begins in z0\.ome\.tif"):
            read_image(tmp_path / "z1.ome.tif")
        with pytest.raises(ImageError, match=r"begins in z0\.ome\.tif"):
            found_in(tmp_path / "z1.ome.tif")

    def test_a_thumbnail_before_the_image_is_not_taken_for_it(self, tmp_path):
        with tifffile.TiffWriter(tmp_path / "a.tif") as tiff:
            tiff.write(NOISE[:20, :20], metadata=None, subfiletype=1)
            tiff.write(NOISE, metadata=None)
        found = found_in(tmp_path)
        assert stems(found) == ["a"] and left_out(found) == {"a.tif": False}
        assert "20 x 20" in found.left_out[0].reason
        assert read_image(tmp_path / "a.tif").shape == (64, 64)

    def test_the_levels_of_a_pyramid_are_named_and_no_fault(self, tmp_path):
        with tifffile.TiffWriter(tmp_path / "a.tif") as tiff:
            tiff.write(NOISE, subifds=1, metadata=None)
            tiff.write(NOISE[::2, ::2], subfiletype=1, metadata=None)
        found = found_in(tmp_path)
        assert stems(found) == ["a"] and left_out(found) == {"a.tif": False}

    def test_a_picture_that_only_its_size_makes_a_smaller_copy_is_named_as_left_out(self, tmp_path):
        found = found_in(self.write(tmp_path / "a.tif", 64, 32))
        assert stems(found) == ["a"] and left_out(found) == {"a.tif": True}
        assert "32 x 32" in found.left_out[0].reason

    def test_pages_that_the_description_does_not_count_are_named(self, tmp_path):
        text = f"{OME}>{ome_image(0, 1, '<TiffData/>')}</OME>"
        with tifffile.TiffWriter(tmp_path / "a.ome.tif") as tiff:
            tiff.write(NOISE, description=text, metadata=None)
            tiff.write(NOISE[:30], metadata=None)
        found = found_in(tmp_path)
        assert left_out(found) == {"a.ome.tif": True} and "does not count: 1" in found.left_out[0].reason

    @pytest.mark.parametrize("options", [{"imagej": True}, {}, {"ome": True}, {"compression": "zlib"}])
    def test_a_stack_is_one_picture_and_nothing_is_left_out(self, tmp_path, options):
        tifffile.imwrite(tmp_path / "a.tif", np.stack([NOISE] * 6), metadata={"axes": "ZYX"}, **options)
        found = found_in(tmp_path)
        assert found.images == [ImageSource(tmp_path / "a.tif")] and not found.left_out


class TestZarr:
    def group(self, path: Path, **attributes: object) -> None:
        path.mkdir(parents=True)
        (path / ".zgroup").write_text('{"zarr_format": 2}', "utf-8")
        (path / ".zattrs").write_text(json.dumps(attributes), "utf-8")

    def test_the_fields_of_a_plate_are_images(self, tmp_path):
        plate = tmp_path / "plate.zarr"
        self.group(plate, plate={"wells": [{"path": "A/1"}, {"path": "B/2"}]})
        for well in ("A/1", "B/2"):
            self.group(plate / well, well={"images": [{"path": "0"}, {"path": "1"}]})
        found = found_in(plate, stores=True)
        assert stems(found) == ["plate_A_1_0", "plate_A_1_1", "plate_B_2_0", "plate_B_2_1"]
        assert found.images[3].path == plate / "B" / "2" / "1"

    def test_further_images_that_a_folder_describes_are_named(self, tmp_path):
        store = tmp_path / "a.zarr"
        self.group(store, multiscales=[{"datasets": []}, {"datasets": []}])
        found = found_in(store, stores=True)
        assert stems(found) == ["a"] and left_out(found) == {"a.zarr": True}

    def test_where_no_zarr_can_be_read_it_is_named(self, tmp_path):
        self.group(tmp_path / "a.zarr")
        with pytest.raises(ImageError, match=r"a\.zarr is a zarr folder"):
            found_in(tmp_path / "a.zarr")

    def test_the_series_of_a_converted_file_are_images(self, tmp_path):
        store = tmp_path / "a.zarr"
        self.group(store, **{"bioformats2raw.layout": 3})
        for name in ("0", "1", "OME"):
            self.group(store / name)
        assert [image.path.name for image in found_in(store, stores=True).images] == ["0", "1"]


def test_a_segmentation_of_slicer_beside_its_image_is_left_out_but_can_be_named(tmp_path):
    for name in ("ct.nrrd", "ct.seg.nrrd"):
        sitk.WriteImage(sitk.GetImageFromArray(NOISE), tmp_path / name)
    found = found_in(tmp_path)
    assert stems(found) == ["ct"]
    assert [(each.path.name, each.is_image) for each in found.left_out] == [("ct.seg.nrrd", False)]
    assert stems(found_in(tmp_path / "ct.seg.nrrd")) == ["ct.seg"]
