"""The manifest is sound, and the plugin costs napari's start nothing."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import entry_points

from npe2 import PluginManifest


def manifest() -> PluginManifest:
    return PluginManifest.from_distribution("napari-swipe")


def test_napari_finds_the_manifest_under_the_name_of_the_distribution():
    declared = {entry.name: entry.value for entry in entry_points(group="napari.manifest")}
    assert declared["napari-swipe"] == "napari_swipe:napari.yaml"
    assert manifest().display_name == "SwIPE Segment"


def test_every_command_of_the_manifest_can_be_imported():
    manifest().validate_imports()


def test_the_reader_takes_both_spellings_of_nifti():
    readers = manifest().contributions.readers
    assert {pattern for reader in readers for pattern in reader.filename_patterns} == {"*.nii", "*.nii.gz"}


def test_loading_the_plugin_imports_nothing_slow():
    code = (
        "import sys, napari_swipe, napari_swipe._reader; "
        "print(*sorted({'torch', 'nibabel', 'skimage', 'monai', 'matplotlib'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
