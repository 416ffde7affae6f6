"""A file opened in napari lies where its header says, whatever its affine, and as the layer that it is."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
from dicom_writer import write_dicom

from napari_swipe._reader import label_store_reader, medical_reader, nifti_reader
from swipe_core.blocks import cut
from swipe_core.coordinates import Affine, Grid
from swipe_core.errors import ImageError
from swipe_core.images import LabelMap, read_image, write_label_map
from swipe_core.images.label_store import LabelStore
from swipe_core.pictures import default_colours
from swipe_core.progress import finish

# (x, y, z) voxels to (x, y, z) world: tilted about x, mirrored in x, anisotropic, and moved.
OBLIQUE = np.array(
    [
        [-0.8, 0.0, 0.0, 30.0],
        [0.0, 1.2 * np.cos(0.3), -2.5 * np.sin(0.3), -12.0],
        [0.0, 1.2 * np.sin(0.3), 2.5 * np.cos(0.3), 7.0],
        [0.0, 0.0, 0.0, 1.0],
    ]
)
MIRRORED = np.array([[-0.8, 0, 0, 30], [0, 1.2, 0, -12], [0, 0, 2.5, 7], [0, 0, 0, 1]])


def save_nifti(path: Path, array: np.ndarray, affine: np.ndarray = OBLIQUE) -> str:
    image = nibabel.Nifti1Image(array, affine)
    image.header.set_xyzt_units("mm")
    image.to_filename(path)
    return str(path)


def open_file(path: str) -> list[tuple]:
    """What the reader that the path belongs to makes of it."""
    read = nifti_reader(path) or medical_reader(path)
    assert read is not None
    return read(path)


@pytest.fixture
def volume() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(6, 5, 4)).astype(np.float32)


def test_files_of_other_kinds_are_left_to_other_readers():
    assert nifti_reader("slide.tif") is None
    assert nifti_reader(["a.nii", "b.png"]) is None
    assert nifti_reader("A.NII.GZ") is not None


# napari shows a slice of a tilted volume along the volume's own axes, and says so.
@pytest.mark.filterwarnings("ignore:Non-orthogonal slicing:UserWarning")
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_a_volume_opens_in_the_viewer_at_its_place_in_the_world(tmp_path, volume, suffix, make_napari_viewer):
    path = save_nifti(tmp_path / f"scan{suffix}", volume)
    viewer = make_napari_viewer()
    (layer,) = viewer.open(path, plugin="napari-swipe")

    np.testing.assert_array_equal(layer.data, volume.transpose(2, 1, 0))
    assert layer.axis_labels == ("z", "y", "x")
    assert [str(unit) for unit in layer.units] == ["millimeter"] * 3
    np.testing.assert_allclose(layer.scale, (2.5, 1.2, 0.8), rtol=1e-6)
    voxel_xyz = np.array([5.0, 2.0, 3.0])
    world_xyz = nibabel.affines.apply_affine(nibabel.load(path).affine, voxel_xyz)
    np.testing.assert_allclose(layer.data_to_world(voxel_xyz[::-1]), world_xyz[::-1], rtol=1e-5)


def test_points_in_time_become_a_slider(tmp_path, volume, make_napari_viewer):
    series = np.stack([volume, volume + 1], axis=-1)
    path = save_nifti(tmp_path / "series.nii", series, MIRRORED)
    viewer = make_napari_viewer()
    (layer,) = viewer.open(path, plugin="napari-swipe")

    np.testing.assert_array_equal(layer.data, series.transpose(3, 2, 1, 0))
    assert layer.axis_labels == ("time", "z", "y", "x")
    world = layer.data_to_world((1, 0, 0, 0))
    np.testing.assert_allclose(world, (1, *MIRRORED[2::-1, 3]), rtol=1e-6)


def test_three_points_in_time_of_bytes_are_no_colours(tmp_path):
    series = np.zeros((6, 5, 4, 3), np.uint8)
    ((data, arguments, _),) = open_file(save_nifti(tmp_path / "series.nii", series))
    assert data.shape == (3, 4, 5, 6)
    assert (arguments["rgb"], arguments["axis_labels"][0]) == (False, "time")


def test_the_parts_of_a_vector_are_channels(tmp_path):
    vectors = np.zeros((6, 5, 4, 1, 3), np.float32)
    ((_, arguments, _),) = open_file(save_nifti(tmp_path / "vectors.nii", vectors))
    assert arguments["axis_labels"] == ("channel", "z", "y", "x")


def test_a_layer_knows_the_file_that_it_came_from(tmp_path, volume):
    path = save_nifti(tmp_path / "scan.nii", volume)
    ((_, arguments, _),) = open_file(path)
    assert arguments["metadata"]["path"] == path


def test_several_files_become_several_layers(tmp_path, volume):
    paths = [save_nifti(tmp_path / f"{name}.nii", volume) for name in ("a", "b")]
    read = nifti_reader(paths)
    assert read is not None
    assert [arguments["name"] for _, arguments, _ in read(paths)] == ["a.nii", "b.nii"]


def test_a_damaged_file_is_refused_by_name(tmp_path):
    path = tmp_path / "damaged.nii.gz"
    path.write_bytes(b"not a NIfTI file")
    read = nifti_reader(str(path))
    assert read is not None
    with pytest.raises(ImageError, match="damaged.nii.gz"):
        read(str(path))


def test_a_real_volume_opens(shared_data):
    path = str(min((shared_data / "hippocampus" / "val" / "images").glob("*.nii.gz")))
    read = nifti_reader(path)
    assert read is not None
    ((data, arguments, kind),) = read(path)
    assert kind == "image"
    assert data.ndim == 3
    assert arguments["scale"] == pytest.approx((1, 1, 1))


class TestLabelMaps:
    @pytest.fixture
    def labels(self) -> np.ndarray:
        return np.random.default_rng(0).integers(0, 3, (4, 5, 6)).astype(np.uint8)

    # As above: napari says that it shows slices of a tilted volume.
    @pytest.mark.filterwarnings("ignore:Non-orthogonal slicing:UserWarning")
    def test_a_written_label_map_opens_as_labels_at_its_place(self, tmp_path, labels, make_napari_viewer):
        affine = Affine(OBLIQUE[[2, 1, 0, 3]][:, [2, 1, 0, 3]])
        write_label_map(tmp_path / "a.nii.gz", LabelMap(labels, affine, "millimeter"))
        viewer = make_napari_viewer()
        (layer,) = viewer.open(str(tmp_path / "a.nii.gz"), plugin="napari-swipe")
        assert type(layer).__name__ == "Labels"
        np.testing.assert_array_equal(layer.data, labels)
        np.testing.assert_allclose(
            layer.data_to_world((3, 1, 2)), affine.apply(np.array([3.0, 1, 2])), rtol=1e-5
        )
        assert layer.axis_labels == ("z", "y", "x")

    def test_few_labels_have_the_colours_of_classes_and_many_those_of_napari(self, tmp_path, labels):
        for name, array in {"few": labels, "many": labels.astype(np.uint16) * 100}.items():
            write_label_map(tmp_path / f"{name}.nii", LabelMap(array, Affine.identity(3), "millimeter"))
        ((_, few, kind),) = open_file(str(tmp_path / "few.nii"))
        ((_, many, _),) = open_file(str(tmp_path / "many.nii"))
        assert kind == "labels" and "colormap" not in many
        wanted = default_colours(2)
        colours = few["colormap"].color_dict
        assert [to_hex(colours[label]) for label in (1, 2)] == wanted
        assert colours[0][3] == colours[None][3] == 0

    def test_whole_numbers_in_a_folder_of_labels_open_as_labels_and_elsewhere_as_an_image(
        self, tmp_path, labels
    ):
        for name in ("labels", "images"):
            (tmp_path / name).mkdir()
        kinds = {
            name: open_file(save_nifti(tmp_path / name / "a.nii", labels))[0][2]
            for name in ("labels", "images")
        }
        assert kinds == {"labels": "labels", "images": "image"}


def to_hex(colour: np.ndarray) -> str:
    return "#" + "".join(f"{round(255 * part):02x}" for part in colour[:3])


class TestOtherFormats:
    def itk_image(self, array: np.ndarray) -> object:
        import SimpleITK

        image = SimpleITK.GetImageFromArray(array)
        image.SetSpacing((0.5, 0.75, 2.0))
        image.SetOrigin((1.0, -2.0, 3.0))
        tilt = np.array([[1, 0, 0], [0, np.cos(0.3), -np.sin(0.3)], [0, np.sin(0.3), np.cos(0.3)]])
        image.SetDirection(tilt.ravel().tolist())
        return image

    @pytest.mark.filterwarnings("ignore:Non-orthogonal slicing:UserWarning")
    @pytest.mark.parametrize("suffix", [".nrrd", ".mha", ".nhdr", ".mhd"])
    def test_a_volume_opens_in_the_viewer_where_itk_has_it(self, tmp_path, suffix, make_napari_viewer):
        import SimpleITK

        array = np.random.default_rng(0).normal(size=(4, 5, 6)).astype(np.float32)
        image = self.itk_image(array)
        SimpleITK.WriteImage(image, str(tmp_path / f"a{suffix}"))
        viewer = make_napari_viewer()
        (layer,) = viewer.open(str(tmp_path / f"a{suffix}"), plugin="napari-swipe")
        np.testing.assert_array_equal(layer.data, array)
        left, back, up = image.TransformIndexToPhysicalPoint((5, 1, 3))
        np.testing.assert_allclose(layer.data_to_world((3, 1, 5)), (up, -back, -left), atol=1e-6)

    def test_a_folder_of_dicom_slices_opens_as_one_volume(self, tmp_path, make_napari_viewer):
        import SimpleITK

        array = np.random.default_rng(0).integers(0, 999, (4, 5, 6)).astype(np.int16)
        image = SimpleITK.GetImageFromArray(array)
        image.SetSpacing((0.5, 0.75, 2.0))
        folder = tmp_path / "series"
        folder.mkdir()
        writer = SimpleITK.ImageFileWriter()
        writer.KeepOriginalImageUIDOn()
        for index in range(4):
            plane = image[:, :, index]
            plane.SetMetaData("0020|000e", "1.2.3")
            plane.SetMetaData("0020|0037", "1\\0\\0\\0\\1\\0")
            plane.SetMetaData("0020|0032", f"0\\0\\{2 * index}")
            writer.SetFileName(str(folder / f"{index}.dcm"))
            writer.Execute(plane)
        viewer = make_napari_viewer()
        (layer,) = viewer.open(str(folder), plugin="napari-swipe")
        np.testing.assert_array_equal(layer.data, array)
        assert layer.name == "series"
        np.testing.assert_allclose(layer.data_to_world((3, 1, 5)), (6, -0.75, -2.5))

    def test_a_folder_of_several_images_opens_as_so_many_layers_and_tells_what_is_missing(
        self, tmp_path, make_napari_viewer, monkeypatch
    ):
        from dicom_writer import write_dicom, write_series
        from PIL import Image

        volume = np.random.default_rng(0).integers(0, 999, (4, 5, 6)).astype(np.uint16)
        places = [(0, 0, 2.0 * number) for number in range(4)]
        for name in ("T1", "T2"):
            write_series(
                tmp_path / name,
                volume,
                places,
                SeriesInstanceUID=f"1.2.{name[1]}",
                SeriesDescription=name,
            )
            for path in (tmp_path / name).iterdir():
                path.rename(tmp_path / f"{name}{path.name}")
        write_dicom(tmp_path / "p1" / "xray", volume[0], SeriesInstanceUID="1.2.3")
        Image.fromarray(volume[0].astype(np.uint8)).save(tmp_path / "photo.png")
        (tmp_path / "slide.czi").write_bytes(b"anything")
        told = []
        monkeypatch.setattr("napari.utils.notifications.show_warning", told.append)
        viewer = make_napari_viewer()
        layers = viewer.open(str(tmp_path), plugin="napari-swipe")
        folder = tmp_path.name
        assert [layer.name for layer in layers] == ["photo.png", f"{folder}_T1", f"{folder}_T2", "p1"]
        assert [layer.data.shape for layer in layers] == [(5, 6), (4, 5, 6), (4, 5, 6), (5, 6)]
        assert len(told) == 1 and "slide.czi" in told[0]

    def test_one_picture_of_several_does_not_claim_the_path_of_all(self, tmp_path, make_napari_viewer):
        from dicom_writer import write_series

        from napari_swipe.layers.axes import AxisRoles
        from napari_swipe.layers.source import LayerSource

        volume = np.random.default_rng(0).integers(0, 999, (4, 5, 6)).astype(np.uint16)
        for series in ("1.2.3", "1.2.4"):
            places = [(0, 0, 2.0 * number) for number in range(4)]
            write_series(tmp_path / series, volume, places, SeriesInstanceUID=series)
            for path in (tmp_path / series).iterdir():
                path.rename(tmp_path / f"{series}-{path.name}")
        viewer = make_napari_viewer()
        layers = viewer.open(str(tmp_path), plugin="napari-swipe")
        axes = AxisRoles(("space",) * 3)
        assert [LayerSource.from_layer(layer, axes).path for layer in layers] == [None, None]

    def test_other_files_and_folders_are_left_to_other_readers(self, tmp_path):
        (tmp_path / "a.png").write_bytes(b"x" * 200)
        assert medical_reader(str(tmp_path)) is None
        assert medical_reader(str(tmp_path / "a.png")) is None
        assert medical_reader([str(tmp_path / "a.nrrd"), str(tmp_path / "a.png")]) is None
        assert medical_reader(str(tmp_path / "A.NRRD")) is not None

    @pytest.mark.parametrize("name", ["IM0001", "a.ima", "1.2.840.113619.2.55"])
    def test_a_dicom_file_of_any_name_opens_at_its_place(self, tmp_path, name, make_napari_viewer):
        array = np.arange(30, dtype=np.uint16).reshape(5, 6)
        places = {"ImageOrientationPatient": [1, 0, 0, 0, 1, 0], "ImagePositionPatient": [1, 2, 3]}
        path = write_dicom(tmp_path / name, array, PixelSpacing=[0.5, 0.25], SliceThickness=2, **places)
        (layer,) = make_napari_viewer().open(str(path), plugin="napari-swipe")
        np.testing.assert_array_equal(np.squeeze(layer.data), array)
        np.testing.assert_allclose(layer.data_to_world((0, 4, 4)), (3, -4, -2))

    def test_a_dicom_file_opens_like_the_core_reads_it(self, tmp_path):
        import SimpleITK

        SimpleITK.WriteImage(
            SimpleITK.GetImageFromArray(np.arange(30, dtype=np.int16).reshape(1, 5, 6)),
            str(tmp_path / "a.dcm"),
        )
        ((data, _, kind),) = open_file(str(tmp_path / "a.dcm"))
        assert kind == "image"
        np.testing.assert_array_equal(data, read_image(tmp_path / "a.dcm").array[..., 0])


def label_store(path: Path, shape: tuple[int, int], *, finished: bool = True) -> LabelStore:
    """Labels on disk, of which the lower right quarter is the second class."""
    grid = Grid(shape, Affine.from_spacing((0.5, 0.25), (3.0, 4.0)))
    classes = {"cell": "#ff0000", "debris": "#00ff00"}
    store = LabelStore.create(path, grid, "micrometer", (256, 256), classes=classes, record={})
    labels = np.zeros(shape, np.uint8)
    labels[shape[0] // 2 :, shape[1] // 2 :] = 2
    for block in cut(shape, (256, 256)):
        store.write(block, labels[block.slices])
    return finish(store.iter_finish()) if finished else store


@pytest.mark.parametrize("shape", [(300, 400), (1500, 1100)], ids=["one level", "several levels"])
def test_labels_on_disk_open_as_labels_in_their_place_and_colours(tmp_path, shape, make_napari_viewer):
    label_store(tmp_path / "slide.ome.zarr", shape)
    viewer = make_napari_viewer()
    (layer,) = viewer.open(str(tmp_path / "slide.ome.zarr"), plugin="napari-swipe")

    assert layer._type_string == "labels" and layer.multiscale is (max(shape) > 512)
    finest = layer.data[0] if layer.multiscale else layer.data
    assert finest.shape == shape and int(finest[-1, -1]) == 2
    np.testing.assert_allclose(layer.scale, (0.5, 0.25))
    np.testing.assert_allclose(layer.data_to_world((0, 0)), (3.0, 4.0))
    np.testing.assert_allclose(layer.get_color(2), (0, 1, 0, 1))
    last = layer.data_to_world((shape[0] - 2, shape[1] - 2))
    assert layer.get_value(last, world=True) is not None
    assert "debris" in str(layer.get_status(last, world=True))


def test_other_zarr_folders_are_left_to_other_readers(tmp_path):
    (tmp_path / "other.zarr").mkdir()
    (tmp_path / "other.zarr" / "zarr.json").write_text("{}", "utf-8")
    assert label_store_reader(str(tmp_path / "other.zarr")) is None
    assert label_store_reader(str(tmp_path / "none.zarr")) is None


def test_labels_that_are_not_complete_are_refused_in_a_sentence(tmp_path):
    store = label_store(tmp_path / "slide.zarr", (300, 400), finished=False)
    read = label_store_reader(str(store.path))
    with pytest.raises(ImageError, match="is not complete"):
        read(str(store.path))
