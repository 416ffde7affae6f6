"""Every file of a boundary, read back by another library than the one that wrote it, or by its own rules."""

from __future__ import annotations

import csv
import json
import zipfile
from xml.etree import ElementTree

import numpy as np
import pytest
import torch

from swipe_core.coordinates import Affine, Grid
from swipe_core.errors import ConfigError, ImageError
from swipe_core.export.exporting import iter_export, surface_line
from swipe_core.export.formats import EXPORTS
from swipe_core.images.medical_image import Space
from swipe_core.progress import finish

DISC_AREA, HOLE = np.pi * 10**2, np.pi * 4**2
BALL_VOLUME = 4 / 3 * np.pi * 5**3


def two_discs(points):
    """An annulus about (15, 14) of the first class, and a disc about (15, 36) of the second."""
    first = (points - torch.tensor([15.0, 14.0])).norm(dim=-1)
    second = (points - torch.tensor([15.0, 36.0])).norm(dim=-1)
    return torch.stack([torch.zeros_like(first), torch.minimum(10 - first, first - 4), 8 - second], dim=-1)


def two_balls(points):
    first = (points - torch.tensor([7.0, 8.0, 8.0])).norm(dim=-1)
    second = (points - torch.tensor([7.0, 8.0, 21.0])).norm(dim=-1)
    return torch.stack([torch.zeros_like(first), 5 - first, 5 - second], dim=-1)


@pytest.fixture
def picture(analytic_field):
    return analytic_field(
        two_discs, Grid((30, 50), Affine.from_spacing((0.5, 0.5))), class_names=("a", "b c")
    )


@pytest.fixture
def volume(analytic_field):
    grid = Grid((14, 16, 30), Affine.from_spacing((1.0, 1.0, 1.0), (5.0, 6.0, 7.0)))
    return analytic_field(two_balls, grid, class_names=("a", "b c"))


def export(field, path, **options):
    settings = {"title": "image.png", "colours": ["#ff0000", "#0000ff"], "tolerance": 0.05} | options
    return finish(iter_export(field, path, **settings))


def test_qupath_finds_polygons_with_holes_in_pixels_and_what_was_measured(picture, tmp_path):
    export(picture, tmp_path / "out.geojson")
    collection = json.loads((tmp_path / "out.geojson").read_text(encoding="utf-8"))
    assert collection["type"] == "FeatureCollection"
    first, second = collection["features"]
    assert first["geometry"]["type"] == "Polygon" and first["properties"]["objectType"] == "annotation"
    assert first["properties"]["classification"] == {"name": "a", "color": [255, 0, 0]}
    shapely = pytest.importorskip("shapely.geometry")
    shapes = [shapely.shape(each["geometry"]) for each in (first, second)]
    assert all(shape.is_valid for shape in shapes)
    assert shapes[0].area == pytest.approx(DISC_AREA - HOLE, rel=0.02)
    # A pixel's centre is half a pixel from the corner at which counting begins.
    assert (shapes[1].centroid.x, shapes[1].centroid.y) == pytest.approx((36.5, 15.5), abs=0.02)
    measured = first["properties"]["measurements"]
    assert measured["area [mm^2]"] == pytest.approx((DISC_AREA - HOLE) / 4, rel=0.005)
    assert 0 < measured["area [mm^2] error"] < 1 and 0 < measured["score"] <= 1


def test_coco_and_imagej_join_holes_to_the_outer_ring(picture, tmp_path):
    export(picture, tmp_path / "out.json")
    content = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    assert content["images"] == [{"id": 1, "file_name": "image.png", "height": 30, "width": 50}]
    assert [each["name"] for each in content["categories"]] == ["a", "b c"]
    first = content["annotations"][0]
    x, y = np.reshape(first["segmentation"][0], (-1, 2)).T
    assert abs(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2 == pytest.approx(first["area"], rel=1e-3)
    assert first["bbox"] == pytest.approx([4.5, 5.5, 20, 20], abs=0.1)
    roifile = pytest.importorskip("roifile")
    export(picture, tmp_path / "out.zip")
    assert len(zipfile.ZipFile(tmp_path / "out.zip").namelist()) == 2
    rois = roifile.roiread(tmp_path / "out.zip")
    assert [roi.name for roi in rois] == ["a_0001", "b c_0002"]
    x, y = rois[1].coordinates().T
    assert abs(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2 == pytest.approx(np.pi * 8**2, rel=0.02)


def test_a_drawing_is_as_large_as_the_image_and_has_a_group_for_each_class(picture, tmp_path):
    export(picture, tmp_path / "out.svg")
    root = ElementTree.parse(tmp_path / "out.svg").getroot()
    assert root.get("viewBox") == "0 0 50 30"
    assert [(group.get("id"), len(group)) for group in root] == [("a", 1), ("b c", 1)]


@pytest.mark.parametrize("suffix", [".stl", ".ply", ".obj", ".glb"])
def test_meshes_are_read_back_closed_and_outward_in_xyz(volume, tmp_path, suffix):
    trimesh = pytest.importorskip("trimesh")
    exported = export(volume, tmp_path / f"out{suffix}", tolerance=0.1)
    one_each = suffix in (".stl", ".ply")
    names = ["out_a", "out_b_c"] if one_each else ["out"]
    assert [path.name for path in exported.paths] == [f"{name}{suffix}" for name in names]
    meshes = []
    for path in exported.paths:
        read = trimesh.load(path, force="mesh")
        read.merge_vertices()
        meshes += list(read.split())
    meshes.sort(key=lambda mesh: mesh.center_mass[0])
    assert len(meshes) == 2
    for mesh, centre in zip(meshes, ((15, 14, 12), (28, 14, 12)), strict=True):
        assert mesh.is_watertight and mesh.is_winding_consistent
        assert mesh.volume == pytest.approx(BALL_VOLUME, rel=0.06)
        assert mesh.center_mass == pytest.approx(centre, abs=0.05)
    if suffix == ".obj":
        named = [
            line
            for line in exported.paths[0].read_text(encoding="utf-8").splitlines()
            if line.startswith("o ")
        ]
        assert named == ["o a", "o b c"]
    assert "watertight" in exported.lines[0] and "largest deviation" in exported.lines[0]


def test_files_of_meshes_say_in_which_space_they_are(volume, tmp_path):
    from dataclasses import replace

    field = replace(volume, space=Space(is_anatomical=True))
    export(field, tmp_path / "out.stl", tolerance=0.5)
    assert b"SPACE=RAS" in (tmp_path / "out_a.stl").read_bytes()[:80]


def test_contours_of_a_volume_say_their_slice(volume, tmp_path):
    export(volume, tmp_path / "out.geojson", slices=[7, 9])
    features = json.loads((tmp_path / "out.geojson").read_text(encoding="utf-8"))["features"]
    assert [each["geometry"]["plane"]["z"] for each in features] == [7, 7, 9, 9]
    assert features[0]["properties"]["measurements"]["area [mm^2]"] == pytest.approx(np.pi * 25, rel=0.01)
    with pytest.raises(ConfigError, match="--slice"):
        export(volume, tmp_path / "out.svg", slices=[7, 9])
    assert not (tmp_path / "out.svg").exists()


def test_a_table_has_each_number_with_its_error(volume, picture, tmp_path):
    export(volume, tmp_path / "volume.csv")
    rows = list(csv.DictReader((tmp_path / "volume.csv").read_text(encoding="utf-8").splitlines()))
    assert [row["class"] for row in rows] == ["a", "b c"]
    error = float(rows[0]["volume [mm^3] error"])
    assert float(rows[0]["volume [mm^3]"]) == pytest.approx(BALL_VOLUME, abs=error)
    export(picture, tmp_path / "picture.csv")
    assert (
        float(
            list(csv.DictReader((tmp_path / "picture.csv").read_text(encoding="utf-8").splitlines()))[1][
                "area [mm^2]"
            ]
        )
        > 0
    )


def test_what_a_file_cannot_hold_is_said_before_the_work(picture, tmp_path):
    with pytest.raises(ConfigError, match="holds volumes, and this image is 2D"):
        export(picture, tmp_path / "out.stl")
    with pytest.raises(ConfigError, match=r"give one of \.stl"):
        export(picture, tmp_path / "out.bmp")
    assert len({(kind.suffix, kind.word) for kind in EXPORTS}) == len(EXPORTS)


def test_where_nothing_is_found_nothing_is_written(analytic_field, ball, tmp_path):
    field = analytic_field(ball((10.0, 10.0), -1.0), Grid((20, 20), Affine.identity(2)))
    with pytest.raises(ImageError, match="no boundary"):
        export(field, tmp_path / "out.geojson", colours=["#ff0000"])
    assert not list(tmp_path.iterdir())


def test_of_a_calibrated_model_the_volume_lies_in_a_band(volume, tmp_path):
    from dataclasses import replace

    calibrated = replace(volume, temperature=0.5)
    exported = export(calibrated, tmp_path / "volume.csv", tolerance=0.2)
    row = next(csv.DictReader((tmp_path / "volume.csv").read_text(encoding="utf-8").splitlines()))
    # Logits are distances: 19 : 1 is half of log(19) away, in which the radius grows or shrinks.
    for end, sign in (("low", -1), ("high", 1)):
        radius = 5 + sign * 0.5 * np.log(19)
        assert float(row[f"volume {end} [mm^3]"]) == pytest.approx(4 / 3 * np.pi * radius**3, rel=0.03)
    assert export(volume, tmp_path / "again.csv", tolerance=0.2).scene.bands == {}
    assert " to " in surface_line(exported.scene.surfaces[0], exported.scene.bands[1])
