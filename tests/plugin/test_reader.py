"""A NIfTI file opened in napari lies where its header says, whatever its affine."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest

from napari_swipe._reader import nifti_reader

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
    assert layer.axis_labels == ("channel", "z", "y", "x")
    world = layer.data_to_world((1, 0, 0, 0))
    np.testing.assert_allclose(world, (1, *MIRRORED[2::-1, 3]), rtol=1e-6)


def test_several_files_become_several_layers(tmp_path, volume):
    paths = [save_nifti(tmp_path / f"{name}.nii", volume) for name in ("a", "b")]
    read = nifti_reader(paths)
    assert read is not None
    assert [arguments["name"] for _, arguments, _ in read(paths)] == ["a.nii", "b.nii"]


def test_a_damaged_file_is_refused_by_name(tmp_path):
    from swipe_core.errors import ImageError

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
