"""The files of one case: written so that whatever happens in between, no case is half there."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool

from swipe_core.errors import ProjectError
from swipe_core.project.records import PairRecord
from swipe_core.project.store import CaseStore, Frame

if TYPE_CHECKING:
    from swipe_core.images import LabelMap, MedicalImage


def write_case_files(
    store: CaseStore,
    pair: PairRecord,
    frame: Frame,
    image: MedicalImage | None,
    labels: LabelMap,
    corrected: Bool[np.ndarray, "*shape"] | None,
) -> None:
    """Write what `Project.write_case` is given; where that fails, the case is as it was before.

    Raises
    ------
    ProjectError
        When there is no image, or one of another number of axes.
    ImageError
        When a file cannot hold the image, or the disk refuses.
    OSError
        When a folder cannot be made.
    """
    _check_shapes(image, labels, corrected)
    former = store.file(pair, frame, "images")
    if image is None and former is None:
        raise ProjectError(f"The image of {pair.name} is not in {store.data} yet: write it with its labels.")
    if former is not None and former != store.place(pair, frame, "images", labels.ndim):
        raise ProjectError(f"{former} is no {labels.ndim}D image: remove {pair.name}, and add it again.")
    try:
        _write(store, pair, frame, image, labels, corrected)
    except BaseException:  # also one that ends the program: an image alone is no case
        if store.file(pair, frame, "labels") is None:
            with suppress(OSError):
                store.delete(pair, frame)
        raise


def _write(
    store: CaseStore,
    pair: PairRecord,
    frame: Frame,
    image: MedicalImage | None,
    labels: LabelMap,
    corrected: Bool[np.ndarray, "*shape"] | None,
) -> None:
    from swipe_core.images import write_image, write_label_map

    if image is not None:
        write_image(store.prepared(pair, frame, "images", image.ndim), _storable(image))
    # The labels last: with them the case begins to count.
    if corrected is not None and corrected.any():
        place = store.prepared(pair, frame, "corrections", labels.ndim)
        write_label_map(place, replace(labels, array=corrected.astype(np.uint8)))
    write_label_map(store.prepared(pair, frame, "labels", labels.ndim), labels)
    outdated = store.file(pair, frame, "corrections")
    if outdated is not None and (corrected is None or not corrected.any()):
        outdated.unlink()
        store.prune()


def _check_shapes(
    image: MedicalImage | None, labels: LabelMap, corrected: Bool[np.ndarray, "*shape"] | None
) -> None:
    shapes = [part.shape for part in (image, corrected) if part is not None]
    if any(shape != labels.shape for shape in shapes):
        raise ValueError(f"Labels of shape {labels.shape} need an image and corrections of theirs: {shapes}.")


def _storable(image: MedicalImage) -> MedicalImage:
    """The image in numbers that its file can hold."""
    dtype = image.array.dtype
    target = dtype
    if dtype == np.bool_:
        target = np.dtype(np.uint8)
    elif dtype.kind == "f" and dtype.itemsize not in (4, 8):
        target = np.dtype(np.float32 if dtype.itemsize < 4 else np.float64)
    elif dtype.kind in "iu" and dtype.itemsize == 8 and image.ndim == 2:
        target = _of_32_bits(image.array)
    return replace(image, array=image.array.astype(target, copy=False))


def _of_32_bits(array: np.ndarray) -> np.dtype:
    """Whole numbers where these hold all values; else real ones, which come near enough."""
    for candidate in (np.int32, np.uint32):
        limits = np.iinfo(candidate)
        if limits.min <= array.min() and array.max() <= limits.max:
            return np.dtype(candidate)
    return np.dtype(np.float64)
