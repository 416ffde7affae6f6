"""napari's way to save labels with their place in the world: as NIfTI, or as TIFF."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_swipe.layers.axes import FRAME_NAMES
from napari_swipe.layers.geometry import in_one_unit, layer_matrix, spatial_affine
from napari_swipe.layers.metadata import LayerMetadata
from swipe_core.errors import ImageError
from swipe_core.images.formats import named_format

if TYPE_CHECKING:
    from swipe_core.coordinates import Affine

LARGEST_LEVEL = 2**26  # voxels of a level that is written unasked
TRANSFORM = ("scale", "translate", "rotate", "shear", "affine", "units", "axis_labels", "name")


def write_labels(path: str, data: Any, attributes: Mapping[str, Any]) -> list[str]:
    """Write a labels layer as .nii.gz, .nii, .tif or .tiff.

    NIfTI keeps the whole of the layer's transform, TIFF the spacing; a warning says what it
    drops. Axes called time, frame or channel are frames, and so is all before three axes: one of
    them beside two axes of space makes a TIFF stack, and those of a single voxel are left out.

    Of several resolutions the one is written that the layer's metadata names (`LayerMetadata.base_level`);
    else the finest of at most `LARGEST_LEVEL` voxels.

    An `ImageError` is raised when the axes do not fit into the format, or the file cannot be written.

    `data`: the layer's array, or its levels, finest first. A level that is decoded in the background may have
    a method `decoded` that waits for the whole of it.
    `attributes`: of the layer, as napari gives them to a writer.

    Returns
    -------
    list of str
        The one path.
    """
    from swipe_core.images import LabelMap, Space, write_label_map

    levels = list(data) if attributes.get("multiscale") else [data]
    metadata = LayerMetadata.of(attributes.get("metadata") or {})
    level = _chosen(levels, metadata.base_level)
    layer = _empty_layer(attributes, len(level.shape))
    frames, spatial = _axes(layer.axis_labels, level.shape, layer.name)
    matrix = layer_matrix(layer) @ _level_to_finest(level.shape, levels[0].shape)
    affine, unit = in_one_unit(
        spatial_affine(matrix, spatial, layer.name), [str(layer.units[axis]) for axis in spatial]
    )
    placed = _with_frames(affine) if frames else affine
    label_map = LabelMap(_array(level, frames + spatial), placed, unit, space=metadata.space or Space())
    write_label_map(path, label_map, is_stack=bool(frames))
    is_finest = level is levels[0] or metadata.base_level is not None
    _warn(path, affine, has_frames=bool(frames), is_finest=is_finest)
    return [path]


def _chosen(levels: Sequence[Any], base_level: int | None) -> Any:
    if len(levels) > 1 and base_level is not None:
        return levels[base_level]
    fitting = (level for level in levels if np.prod(level.shape, dtype=float) <= LARGEST_LEVEL)
    return levels[0] if len(levels) == 1 else next(fitting, levels[-1])


def _empty_layer(attributes: Mapping[str, Any], ndim: int) -> Any:
    """Return a layer of one voxel with the same transform: napari itself composes it then."""
    from napari.layers import Labels

    known = {name: attributes[name] for name in TRANSFORM if name in attributes}
    return Labels(np.zeros((1,) * ndim, np.uint8), **known)


def _axes(labels: Sequence[str], shape: Sequence[int], name: str) -> tuple[list[int], list[int]]:
    """Return the axes of frames, without those of a single voxel, and the axes of space."""
    first = len(shape) - 3
    outside = [axis for axis, label in enumerate(labels) if axis < first or label.lower() in FRAME_NAMES]
    spatial = [axis for axis in range(len(shape)) if axis not in outside]
    frames = [axis for axis in outside if shape[axis] > 1]
    if (len(frames), len(spatial)) not in ((0, 2), (0, 3), (1, 2)):
        axes = ", ".join(f"{label} ({size})" for label, size in zip(labels, shape, strict=True))
        raise ImageError(
            f"The layer {name} has the axes {axes}, and a file of labels holds two or three axes of space, "
            "or one of frames before two of space: save a part of the layer, or rename its axes."
        )
    return frames, spatial


def _level_to_finest(shape: Sequence[int], finest: Sequence[int]) -> np.ndarray:
    """Return the matrix from indices of a level to the finest: both are cut from the same extent."""
    from swipe_core.coordinates import Affine

    to_image = Affine.image_from_voxel(finest).inverse()
    return (to_image @ Affine.image_from_voxel(shape)).matrix


def _with_frames(affine: Affine) -> Affine:
    """Return an affine with a first axis that counts."""
    matrix = np.eye(len(affine.matrix) + 1)
    matrix[1:, 1:] = affine.matrix
    return type(affine)(matrix)


def _array(level: Any, kept: Sequence[int]) -> np.ndarray:
    """Return the numbers of a level over some of its axes; the others have a single voxel."""
    array = level.decoded() if hasattr(level, "decoded") else np.asarray(level)
    left_out = [axis for axis in range(array.ndim) if axis not in kept]
    array = array.transpose(*left_out, *kept).reshape([array.shape[axis] for axis in kept])
    return array.astype(np.uint8) if array.dtype == bool else array


def _warn(path: str, affine: Affine, has_frames: bool, is_finest: bool) -> None:
    """Warn of what the file does not have of the layer; it is saved nevertheless."""
    from napari.utils.notifications import show_warning

    kind = named_format(path)
    lost = [] if kind and kind.world else _lost_without_place(affine)
    if lost:
        way_out = "" if has_frames else "; save them as .nii.gz to keep all"
        show_warning(f"{path} has the spacing of the labels, but not their {' and '.join(lost)}{way_out}.")
    if not is_finest:
        steps = " x ".join(f"{step:g}" for step in affine.spacing)
        show_warning(f"{path} has the labels at a spacing of {steps}: their finest level is too large.")


def _lost_without_place(affine: Affine) -> list[str]:
    spacing = np.asarray(affine.spacing)
    lost = [] if np.allclose(affine.linear, np.diag(spacing), atol=1e-6 * spacing.max()) else ["orientation"]
    return lost + (["origin"] if (np.abs(affine.origin) > spacing).any() else [])
