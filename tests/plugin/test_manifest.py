"""The manifest is sound, and the plugin costs napari's start nothing."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import entry_points
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from npe2 import PluginManifest
from PIL import Image

from tools.icon import draw

SLOW = {"torch", "nibabel", "skimage", "scipy", "monai", "matplotlib", "SimpleITK", "tifffile"}
MODULES = ["layers.axes", "layers.geometry", "layers.data", "_reader", "_sample_data", "_writer"]


def manifest() -> PluginManifest:
    return PluginManifest.from_distribution("napari-swipe")


def slow_imports(code: str) -> str:
    """Which slow libraries a fresh Python has imported after running code."""
    show = f"{code}; import sys; print(*sorted({SLOW!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", show], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_napari_finds_the_manifest_under_the_name_of_the_distribution():
    declared = {entry.name: entry.value for entry in entry_points(group="napari.manifest")}
    assert declared["napari-swipe"] == "napari_swipe:napari.yaml"
    assert manifest().display_name == "SwIPE Segment"


def test_the_hub_shows_where_the_plugin_belongs_and_its_icon():
    found = manifest()
    assert found.visibility == "public" and found.categories[0] == "Segmentation"
    package, name = found.icon.split(":")
    with Image.open(files(package) / name) as icon:
        drawn = draw()
        assert icon.size == drawn.size == (256, 256)
        assert np.array_equal(np.asarray(icon), np.asarray(drawn)), "python tools/icon.py draws it"


def test_every_command_of_the_manifest_can_be_imported():
    manifest().validate_imports()


def test_the_readers_take_every_medical_suffix_folders_of_dicom_and_of_labels():
    from napari_swipe._reader import OPENED_BY_NAPARI
    from swipe_core.images.formats import FORMATS, NIFTI

    without_suffix = "*[!a-z][0-9]"  # DICOM, as in IM0001 or 1.2.840.113619.2.55
    others = [kind for kind in FORMATS if kind not in (NIFTI, *OPENED_BY_NAPARI)]
    suffixes = {suffix for kind in others for suffix in (*kind.suffixes, *kind.other_suffixes)}
    nifti, medical, labels, field = manifest().contributions.readers
    assert set(nifti.filename_patterns) == {f"*{suffix}" for suffix in NIFTI.suffixes}
    assert set(medical.filename_patterns) == {f"*{suffix}" for suffix in suffixes} | {without_suffix}
    assert (nifti.accepts_directories, medical.accepts_directories) == (False, True)
    assert (labels.filename_patterns, labels.accepts_directories) == (["*.zarr"], True)


def test_the_writer_takes_one_labels_layer_in_the_formats_that_the_core_writes():
    from swipe_core.images.formats import suffixes_with

    (writer,) = manifest().contributions.writers
    assert writer.layer_types == ["labels"]
    assert (
        set(writer.filename_extensions)
        == {".nii", ".nii.gz", ".tif", ".tiff"}
        <= set(suffixes_with("label_writer"))
    )


def test_every_sample_of_the_core_is_offered_under_its_name():
    from swipe_core.samples import SAMPLES

    assert {sample.key for sample in manifest().contributions.sample_data} == set(SAMPLES)


@pytest.mark.parametrize("module", MODULES)
def test_loading_a_module_of_the_plugin_imports_nothing_slow(module):
    assert slow_imports(f"import napari_swipe.{module}") == ""


def test_a_zarr_folder_of_others_is_declined_without_importing_anything_slow(tmp_path):
    (tmp_path / "zarr.json").write_text("{}", "utf-8")
    ask = f"assert label_store_reader({str(tmp_path)!r}) is None"
    assert slow_imports(f"from napari_swipe._reader import label_store_reader; {ask}") == ""


def test_a_folder_without_dicom_is_declined_without_importing_anything_slow(tmp_path):
    (tmp_path / "a.png").write_bytes(b"x" * 200)
    ask = f"from napari_swipe._reader import medical_reader; assert medical_reader({str(tmp_path)!r}) is None"
    assert slow_imports(ask) == ""


@pytest.mark.parametrize(
    ("command", "name", "menu"),
    [
        ("napari-swipe.segment", "Segment", "napari/layers/segment"),
        ("napari-swipe.train", "Train", "napari/layers/segment"),
        ("napari-swipe.evaluate", "Evaluate", "napari/layers/measure"),
    ],
)
def test_a_dock_is_in_the_menu_that_users_look_in(command, name, menu):
    contributions = manifest().contributions
    assert {widget.command: widget.display_name for widget in contributions.widgets}[command] == name
    assert command in [item.command for item in contributions.menus[menu]]


def test_preferences_are_those_that_the_dock_reads(plugin_settings, npe2pm):
    from napari.settings import get_plugin_settings

    from napari_swipe._settings import PLUGIN, Preferences, read_preferences

    npe2pm.register(manifest())
    assert read_preferences() == Preferences()
    get_plugin_settings(PLUGIN).models.folder = " ~/models "
    get_plugin_settings(PLUGIN).models.device = "cpu"
    changed = read_preferences()
    assert changed.model_folder == Path("~/models").expanduser()
    assert changed.device == "cpu"


@pytest.mark.parametrize("module", ["segment.widget", "train.widget", "evaluate.widget"])
def test_opening_a_dock_does_not_wait_for_torch(module):
    code = f"import napari_swipe.{module}, sys; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_importing_the_plugin_takes_no_time():
    code = "import time; t = time.perf_counter(); import napari_swipe; print(time.perf_counter() - t)"
    runs = [subprocess.run([sys.executable, "-c", code], capture_output=True, text=True) for _ in range(3)]
    assert min(float(run.stdout) for run in runs) < 0.3
