"""Which pictures are in files and folders, and what in them is none or cannot be read."""

import os
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from swipe_core.errors import ImageError, first_few
from swipe_core.images.dicom import dicom_pictures
from swipe_core.images.files import LABEL_FOLDERS as FOLDERS
from swipe_core.images.formats import (
    DICOM,
    IMAGE_SUFFIXES,
    TIFF,
    image_stem,
    is_dicom,
    named_format,
    unread_image,
)
from swipe_core.images.source import ImageSource, LeftOut
from swipe_core.images.tiff_series import tiff_contents
from swipe_core.images.zarr_folder import ZARR_SUFFIXES, is_store, pictures_in_store, pyramids_in_store

LABEL_FOLDERS = (*FOLDERS, "label", "mask", "masks", "corrections", "segmentations", "predictions", "gt")
SEGMENTATION_SUFFIX = ".seg.nrrd"  # 3D Slicer's
JOURNAL_NAME = ".predict.jsonl"  # in a folder that labels were written to


@dataclass
class FoundImages:
    """The pictures in paths, in their order, and what is left out."""

    images: list[ImageSource] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)
    others: int = 0
    """How many files are no images at all, such as notes and tables."""

    @property
    def several(self) -> str:
        """A sentence on the paths that hold several pictures, if there are any."""
        counts = Counter(image.path for image in self.images if image.part is not None)
        many = [f"{path} ({count})" for path, count in counts.items() if count > 1]
        if not many:
            return ""
        return (
            f"several pictures are in {first_few(many)}: each of them gets labels of its "
            "own, NAME_1, NAME_2 and so on, or NAME_TITLE."
        )


def find_images(
    paths: Sequence[str | Path],
    *,
    ndim: int | None = None,
    stores: bool = False,
    own: Collection[Path] = (),
    output: Path | None = None,
) -> FoundImages:
    """Return the pictures in files as given, and in folders as given with the folders inside, in order.

    A file may hold several pictures, and a series of DICOM slices in a folder is one. What is not segmented
    is listed besides. Folders of labels, and of this program's own outputs, are passed over inside others.
    Raises `ImageError` when a path does not exist, a folder holds no image, or two images would share a label
    file.

    `ndim`: axes that the pictures must have; None where any will do.
    `stores`: whether a folder of zarr is an image, too.
    `own`: files that are no images where they lie in a folder: what was made of its images before.
    `output`: the folder for the outputs.
    """
    search = _Search(ndim, stores, frozenset(own), output)
    search.named = [Path(path) for path in paths]
    for path in search.named:
        search.add(path)
    if not search.found.images:
        raise ImageError(_nothing_in(search.named, search.found.left_out))
    twice = [name for name, count in Counter(map(stem_of, search.found.images)).items() if count > 1]
    if twice:
        raise ImageError(
            f"Labels are named after their image, and several images are called {twice[0]}: "
            "segment them into different folders."
        )
    return search.found


def stem_of(image: ImageSource) -> str:
    """Return the name of an image without its kind."""
    if image.stem is not None:
        return image.stem
    lower = image.path.name.lower()
    store = next((suffix for suffix in ZARR_SUFFIXES if lower.endswith(suffix)), None)
    return image_stem(image.path) if store is None else image.path.name[: -len(store)]


class _Search:
    """Goes through paths, and collects what is in them."""

    def __init__(self, ndim: int | None, stores: bool, own: frozenset[Path], output: Path | None) -> None:
        self.ndim, self.stores = ndim, stores
        self.own_names = {file.name for file in own}
        self.own_folder = next(iter(own)).parent.resolve() if own else None
        self.output = None if output is None else output.resolve()
        self.found = FoundImages()
        self.seen: set[Path] = set()
        self.named: list[Path] = []

    def add(self, path: Path) -> None:
        """Add what the user named."""
        if not path.exists():
            raise ImageError(f"There is no file or folder {path}.")
        path = path if path.name else path.resolve()
        if path.is_file():
            self._file(path)
        elif is_store(path):
            self._store(path, "")
        elif path.resolve() not in self.seen:
            before = len(self.found.images)
            self._folder(path, "")
            if len(self.found.images) == before and len(self.named) > 1:
                self.found.left_out.append(LeftOut(path, "holds no images"))

    def _folder(self, folder: Path, prefix: str) -> None:
        """Add a folder; `prefix` begins the names of what is in it, where it is inside another."""
        place = folder.resolve()
        if place in self.seen:
            return
        self.seen.add(place)
        with os.scandir(folder) as entries:
            inside = sorted(entries, key=lambda entry: entry.name)
        made = self.own_names if place == self.own_folder else set()
        names = {entry.name for entry in inside}
        dicom: list[Path] = []
        folders: list[Path] = []
        before = len(self.found.images)
        for entry in inside:
            path = folder / entry.name
            if entry.name in made or entry.name.startswith("._"):
                continue
            if entry.name.startswith("."):
                self._hidden(path)
            elif entry.is_dir() and is_store(path):
                self._store(path, prefix)
            elif entry.is_dir():
                folders.append(path)
            elif named_format(path) not in (None, DICOM):  # which is known by its content
                self._file(path, prefix, is_there=entry.is_file(), is_beside=True)
            elif entry.is_file() and is_dicom(path):
                dicom.append(path)
            else:
                self._other(path, names)
        is_alone = len(self.found.images) == before
        if dicom:
            self._dicom(folder, dicom, prefix, is_alone)
        for path in folders:
            self._inner(path, prefix)

    def _inner(self, folder: Path, prefix: str) -> None:
        """Add a folder inside another one."""
        if folder.name == "__MACOSX":
            return
        try:
            is_made = (folder / JOURNAL_NAME).is_file()
            if folder.resolve() == self.output:
                if not is_made and any(named_format(each) for each in folder.iterdir()):
                    self.found.left_out.append(LeftOut(folder, "is where the labels go"))
                return
            if is_made or folder.name.lower() in LABEL_FOLDERS:
                reason = "holds outputs of this program" if is_made else "holds labels, by its name"
                self.found.left_out.append(LeftOut(folder, reason, is_image=False))
                return
            self._folder(folder, f"{prefix}{folder.name}_")
        except PermissionError:
            self.found.left_out.append(LeftOut(folder, "is a folder that may not be opened"))

    def _file(self, path: Path, prefix: str = "", *, is_there: bool = True, is_beside: bool = False) -> None:
        """Add a file by its name; with `is_beside`, those beside it are looked at, too."""
        if not is_there:
            self.found.left_out.append(LeftOut(path, "is a link to a file that is not there, or no file"))
            return
        if is_beside and path.name.lower().endswith(SEGMENTATION_SUFFIX):
            self.found.left_out.append(LeftOut(path, "is a segmentation, by its name", is_image=False))
            return
        whole = ImageSource(path, None, prefix + image_stem(path) if prefix else None)
        if named_format(path) is not TIFF:
            self.found.images.append(whole)
            return
        try:
            contents = tiff_contents(path)
        except ImageError:
            self.found.images.append(whole)  # which is read, and fails with a sentence of its own
            return
        if contents.begins_in:
            reason = f"is a part of the picture that begins in {contents.begins_in}"
            is_found = is_beside or path.with_name(contents.begins_in) in self.named
            self.found.left_out.append(LeftOut(path, reason, is_image=not is_found))
        elif len(contents.pictures) < 2:
            self.found.images.append(whole)
        else:
            stem = stem_of(whole)
            parts = enumerate(contents.pictures, 1)
            self.found.images += [ImageSource(path, part, f"{stem}_{number}") for number, part in parts]
        for phrases, is_image in ((contents.copies, False), (contents.doubtful, True)):
            if phrases:
                reason = f"holds besides: {'; '.join(phrases)}"
                self.found.left_out.append(LeftOut(path, reason, is_image))

    def _store(self, path: Path, prefix: str) -> None:
        if not self.stores:
            self.found.left_out.append(LeftOut(path, "is a zarr folder: `swipe predict` segments those"))
            return
        pictures = pictures_in_store(path)
        if pictures == [path]:
            further = pyramids_in_store(path) - 1
            if further > 0:
                self.found.left_out.append(LeftOut(path, f"describes {further} further images (multiscales)"))
            whole = ImageSource(path)
            self.found.images.append(replace(whole, stem=prefix + stem_of(whole)) if prefix else whole)
            return
        stem = prefix + stem_of(ImageSource(path))
        for picture in pictures:
            inner = "_".join(picture.relative_to(path).parts)
            self.found.images.append(ImageSource(picture, None, f"{stem}_{inner}"))

    def _dicom(self, folder: Path, files: Sequence[Path], prefix: str, is_alone: bool) -> None:
        """Add the DICOM files of a folder; with `is_alone`, no other images are in it."""
        stem = prefix.removesuffix("_") or folder.resolve().name
        try:
            pictures, left_out = dicom_pictures(folder, files, stem, self.ndim, is_alone=is_alone)
        except ImageError:  # without pydicom; reading it says so
            pictures, left_out = [ImageSource(folder, None, stem)], []
        for picture in pictures:
            if prefix and picture.stem is None:
                picture = replace(picture, stem=prefix + stem_of(picture))
            self.found.images.append(picture)
        self.found.left_out += left_out

    def _hidden(self, path: Path) -> None:
        if named_format(path) and path.is_file():
            self.found.left_out.append(LeftOut(path, "is hidden", is_image=False))

    def _other(self, path: Path, names: Collection[str]) -> None:
        """Count or list a file that is not called as an image that can be read."""
        if not path.is_file():
            return
        reason = unread_image(path, names)
        if reason is None:
            self.found.others += 1
        elif reason:
            self.found.left_out.append(LeftOut(path, reason))


def _nothing_in(paths: Sequence[Path], left_out: Sequence[LeftOut]) -> str:
    where = str(paths[0]) if len(paths) == 1 else f"None of {len(paths)} paths"
    sentence = f"{where} holds no images ({', '.join(IMAGE_SUFFIXES)})"
    return f"{sentence}; {first_few(left_out, between='; ')}." if left_out else f"{sentence}."
