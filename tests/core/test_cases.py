"""Laws of finding cases: every pair once, in one order, and one clear sentence when it cannot be."""

from __future__ import annotations

from pathlib import Path

import pytest

from swipe_core.data.cases import Case, find_cases, has_split, share_of_cases, split_cases
from swipe_core.errors import DataError

SPLITS = ("train", "val", "test")


def fill(folder: Path, names, image_suffix=".png", label_suffix=".png") -> Path:
    """Empty files are enough: finding cases opens none of them."""
    for kind, suffix in (("images", image_suffix), ("labels", label_suffix)):
        (folder / kind).mkdir(parents=True, exist_ok=True)
        for name in names:
            (folder / kind / f"{name}{suffix}").touch()
    return folder


def names(cases: list[Case]) -> list[str]:
    return [case.name for case in cases]


def add_corrections(folder: Path, names, suffix=".png") -> Path:
    (folder / "corrections").mkdir(exist_ok=True)
    for name in names:
        (folder / "corrections" / f"{name}{suffix}").touch()
    return folder


def corrected(cases: list[Case]) -> list[str]:
    return [case.name for case in cases if case.corrections_path is not None]


def error_of(folder: Path | list[Path], split=None) -> str:
    with pytest.raises(DataError) as caught:
        find_cases(folder, split)
    message = str(caught.value)
    assert "\n" not in message
    assert not any(mark in message for mark in (". ", "? ")), "one sentence"
    return message


# --- Pairs --------------------------------------------------------------------------------------


def test_an_image_is_paired_with_the_label_of_its_stem_whatever_the_formats(tmp_path):
    fill(tmp_path, ["b", "a"], ".nii.gz", ".tif")
    assert find_cases(tmp_path) == [
        Case(name, tmp_path / "images" / f"{name}.nii.gz", tmp_path / "labels" / f"{name}.tif")
        for name in "ab"
    ]


def test_hidden_files_foreign_files_and_folders_are_passed_over(tmp_path):
    fill(tmp_path, ["a"])
    (tmp_path / "images" / ".DS_Store").touch()
    (tmp_path / "images" / "._a.png").touch()
    (tmp_path / "labels" / "README.txt").touch()
    (tmp_path / "labels" / "old.png").mkdir()
    assert names(find_cases(str(tmp_path))) == ["a"]


@pytest.mark.parametrize("name", ["b.czi", "b.npy", "b.gif", "b.hdr"])
def test_images_of_formats_that_cannot_be_read_are_named_and_not_passed_over(tmp_path, name):
    fill(tmp_path, ["a"])
    for kind in ("images", "labels"):
        (tmp_path / kind / name).touch()
    message = error_of(tmp_path)
    assert f"holds what cannot be read there ({name})" in message


def test_folders_of_images_inside_are_named(tmp_path):
    fill(tmp_path, ["a"])
    (tmp_path / "images" / "more").mkdir()
    (tmp_path / "images" / "more" / "b.png").touch()
    assert "(more)" in error_of(tmp_path)


def test_the_voxels_of_a_header_are_no_image_of_their_own(tmp_path):
    fill(tmp_path, ["a"], ".mhd")
    (tmp_path / "images" / "a.raw").touch()
    assert names(find_cases(tmp_path)) == ["a"]


def test_dicom_without_an_ending_is_an_image(tmp_path):
    fill(tmp_path, ["IM1"], "", ".nii.gz")
    (tmp_path / "images" / "IM1").write_bytes(bytes(128) + b"DICM")
    assert names(find_cases(tmp_path)) == ["IM1"]


@pytest.mark.parametrize("beside", ["valid", "."])
def test_labelled_images_beside_the_splits_are_named(tmp_path, beside):
    fill(tmp_path / "train", ["a"])
    fill(tmp_path / beside, ["b"])
    assert ("valid/" if beside == "valid" else "images/") in error_of(tmp_path)
    assert "only train, val, test are used" in error_of(tmp_path, "train")


def test_suffixes_may_be_in_capitals(tmp_path):
    assert names(find_cases(fill(tmp_path, ["a"], ".PNG", ".Tif"))) == ["a"]


# --- Corrections --------------------------------------------------------------------------------


def test_corrections_belong_to_the_image_of_their_stem_and_need_not_be_there(tmp_path):
    add_corrections(fill(tmp_path, ["a", "b"], ".nii.gz", ".tif"), ["b"], ".nrrd")
    without, with_corrections = find_cases(tmp_path)
    assert without.corrections_path is None
    assert with_corrections == Case(
        "b",
        tmp_path / "images" / "b.nii.gz",
        tmp_path / "labels" / "b.tif",
        tmp_path / "corrections" / "b.nrrd",
    )


def test_every_split_has_corrections_of_its_own(tmp_path):
    for split, name in (("train", "a"), ("val", "b")):
        add_corrections(fill(tmp_path / split, [name, "c"]), [name])
        assert corrected(find_cases(tmp_path, split)) == [name]
    assert corrected(find_cases(tmp_path)) == ["a", "b"]


def test_corrections_go_with_their_case_when_a_folder_is_divided(tmp_path):
    stems = [f"{n:02}" for n in range(10)]
    add_corrections(fill(tmp_path, stems), stems[::2])
    found = [name for split in SPLITS for name in corrected(find_cases(tmp_path, split))]
    assert sorted(found) == stems[::2]


def test_corrections_do_not_change_which_split_a_case_is_in(tmp_path):
    fill(tmp_path, "abcdefghij")
    before = [names(find_cases(tmp_path, split)) for split in SPLITS]
    add_corrections(tmp_path, "bdf")
    assert [names(find_cases(tmp_path, split)) for split in SPLITS] == before


def test_what_is_no_image_among_the_corrections_is_passed_over(tmp_path):
    add_corrections(fill(tmp_path, ["a"]), ["notes"], ".txt")
    add_corrections(tmp_path, ["._a"])
    assert corrected(find_cases(tmp_path)) == []


def test_corrections_without_an_image_are_named(tmp_path):
    message = error_of(add_corrections(fill(tmp_path, ["a"]), ["a", "stray"]))
    assert str(tmp_path / "corrections") in message and "(stray)" in message and "images/" in message


# --- Splits -------------------------------------------------------------------------------------


def test_split_folders_are_used_where_there_are_any(tmp_path):
    fill(tmp_path / "train", ["c", "a"])
    fill(tmp_path / "val", ["b"])
    assert names(find_cases(tmp_path, "train")) == ["a", "c"]
    assert names(find_cases(tmp_path, "val")) == ["b"]
    assert names(find_cases(tmp_path)) == ["a", "c", "b"]


@pytest.mark.parametrize("count", [5, 10, 30, 196, 197])
def test_a_flat_folder_is_split_60_20_20_disjoint_and_complete(tmp_path, count):
    fill(tmp_path, [f"{n:03}" for n in range(count)])
    parts = [names(find_cases(tmp_path, split)) for split in SPLITS]
    assert [len(part) for part in parts] == pytest.approx([0.6 * count, 0.2 * count, 0.2 * count], abs=1)
    assert sorted(sum(parts, [])) == names(find_cases(tmp_path))
    assert all(part == sorted(part) for part in parts)


def test_the_split_of_the_papers_196_images_is_118_39_39(tmp_path):
    cases = [Case(str(n), tmp_path, tmp_path) for n in range(196)]
    assert [len(split_cases(cases)[split]) for split in SPLITS] == [118, 39, 39]


def test_the_split_depends_on_the_seed_and_on_nothing_else(tmp_path):
    cases = [Case(f"case{n}", tmp_path, tmp_path) for n in range(50)]
    first = split_cases(cases, seed=3)
    backwards = split_cases(cases[::-1], seed=3)
    elsewhere = split_cases([Case(c.name, tmp_path / "x", tmp_path / "y") for c in cases], seed=3)
    for split in SPLITS:
        assert names(first[split]) == names(backwards[split])[::-1] == names(elsewhere[split])
    assert names(split_cases(cases, seed=4)["train"]) != names(first["train"])


def test_the_split_is_the_same_on_every_machine(tmp_path):
    cases = [Case(letter, tmp_path, tmp_path) for letter in "abcdefghij"]
    assert [names(split_cases(cases)[split]) for split in ("val", "test")] == [["c", "i"], ["b", "e"]]


def test_one_more_case_moves_few_others(tmp_path):
    cases = [Case(f"case{n:03}", tmp_path, tmp_path) for n in range(100)]
    before, after = split_cases(cases), split_cases([*cases, Case("newcomer", tmp_path, tmp_path)])
    moved = [set(names(before[split])) - set(names(after[split])) for split in SPLITS]
    assert sum(map(len, moved)) <= 2


@pytest.mark.parametrize(("split", "there"), [("train", True), ("val", True), ("test", False)])
def test_a_data_set_has_the_splits_that_it_has_folders_for(tmp_path, split, there):
    fill(tmp_path / "train", ["a"])
    fill(tmp_path / "val", ["b"])
    assert has_split(tmp_path, split) == there


def test_a_flat_folder_has_the_splits_that_it_is_large_enough_for(tmp_path):
    fill(tmp_path, ["a"])
    assert [has_split(tmp_path, split) for split in SPLITS] == [True, False, False]
    fill(tmp_path, "bcdef")
    assert all(has_split(str(tmp_path), split) for split in SPLITS)


def test_a_folder_that_is_not_there_has_no_split(tmp_path):
    assert not has_split(tmp_path / "nowhere", "train")


# --- Several data sets --------------------------------------------------------------------------


@pytest.mark.parametrize("split", [None, "train", "val"])
def test_a_list_of_one_data_set_is_that_data_set(tmp_path, split):
    fill(tmp_path / "train", ["c", "a"])
    fill(tmp_path / "val", ["b"])
    assert find_cases([tmp_path], split) == find_cases(tmp_path, split)


def test_the_cases_of_several_data_sets_are_joined_and_sorted_by_name(tmp_path):
    one, other = fill(tmp_path / "one" / "train", ["d", "a"]).parent, fill(tmp_path / "other", ["c", "b"])
    add_corrections(other, ["b"])
    cases = find_cases([str(one), other])
    assert names(cases) == ["a", "b", "c", "d"]
    assert cases == find_cases((other, one))
    assert set(cases) == {*find_cases(one), *find_cases(other)}


def test_a_data_set_without_the_split_is_passed_over_where_another_has_it(tmp_path):
    one = fill(tmp_path / "one" / "train", ["a"]).parent
    other = fill(tmp_path / "other" / "train", ["b"]).parent
    fill(other / "val", ["c"])
    alone = fill(tmp_path / "flat", ["d"])
    assert names(find_cases([one, other, alone], "train")) == ["a", "b", "d"]
    assert names(find_cases([one, other, alone], "val")) == ["c"]
    assert has_split([one, other, alone], "val") and not has_split([one, alone], "val")


def test_flat_data_sets_are_divided_each_by_itself(tmp_path):
    folders = [fill(tmp_path / start, [f"{start}{n}" for n in range(10)]) for start in "ab"]
    for split in SPLITS:
        apart = [name for folder in folders for name in names(find_cases(folder, split, seed=5))]
        assert names(find_cases(folders, split, seed=5)) == sorted(apart)


def test_a_split_that_no_data_set_has_is_an_error_naming_all_of_them(tmp_path):
    folders = [fill(tmp_path / name / "train", [name]).parent for name in ("one", "other")]
    message = error_of(folders, "test")
    assert "'test'" in message and all(str(folder) in message for folder in folders)


def test_a_name_in_two_data_sets_is_an_error_naming_both(tmp_path):
    folders = [fill(tmp_path / name, stems) for name, stems in (("x", "ab"), ("y", "cd"), ("z", ["b", "e"]))]
    message = error_of(folders)
    assert str(folders[0]) in message and str(folders[2]) in message and "(b)" in message
    assert str(folders[1]) not in message


def test_a_data_set_that_is_given_twice_is_an_error(tmp_path):
    folder = fill(tmp_path / "x", "abcde")
    assert "share 5 (a, b, c and 2 more)" in error_of([folder, folder])


def test_a_name_may_stand_in_the_train_of_one_and_the_val_of_another_data_set(tmp_path):
    one, other = fill(tmp_path / "x" / "train", ["a"]).parent, fill(tmp_path / "y" / "val", ["a"]).parent
    assert [len(find_cases([one, other], split)) for split in ("train", "val")] == [1, 1]


def test_a_missing_data_set_among_several_is_named(tmp_path):
    folder = fill(tmp_path / "x", ["a"])
    assert str(tmp_path / "nowhere") in error_of([folder, tmp_path / "nowhere"], "train")


def test_no_data_set_at_all_is_an_error(tmp_path):
    assert "at least one folder" in error_of([])
    assert not has_split([], "train")


# --- Mistakes -----------------------------------------------------------------------------------


def test_a_missing_folder_is_named(tmp_path):
    assert str(tmp_path / "nowhere") in error_of(tmp_path / "nowhere")


@pytest.mark.parametrize("missing", ["images", "labels"])
def test_a_missing_images_or_labels_folder_is_named(tmp_path, missing):
    fill(tmp_path, ["a"])
    for path in (tmp_path / missing).iterdir():
        path.unlink()
    (tmp_path / missing).rmdir()
    assert str(tmp_path / missing) in error_of(tmp_path)


def test_empty_folders_are_an_error(tmp_path):
    assert "no labelled images" in error_of(fill(tmp_path, []))


def test_images_without_labels_are_counted_and_three_are_named(tmp_path):
    fill(tmp_path, ["a"])
    for name in "edcbf":
        (tmp_path / "images" / f"{name}.png").touch()
    message = error_of(tmp_path)
    assert "5 of the files" in message and "(b, c, d and 2 more)" in message


def test_labels_without_images_are_named(tmp_path):
    fill(tmp_path, ["a"])
    (tmp_path / "labels" / "stray.png").touch()
    message = error_of(tmp_path)
    assert "stray" in message and "images/" in message


def test_a_stem_that_stands_twice_is_an_error_naming_both_files(tmp_path):
    fill(tmp_path, ["a"])
    (tmp_path / "images" / "a.tif").touch()
    message = error_of(tmp_path)
    assert "a.png" in message and "a.tif" in message


def test_a_split_that_is_not_there_is_an_error_listing_what_is(tmp_path):
    fill(tmp_path / "train", ["a"])
    fill(tmp_path / "val", ["b"])
    message = error_of(tmp_path, "test")
    assert "'test'" in message and "train, val" in message


def test_a_folder_too_small_to_split_says_so(tmp_path):
    message = error_of(fill(tmp_path, ["a"]), "val")
    assert "too few" in message and "'val'" in message


def test_an_unknown_split_is_an_error_with_a_hint(tmp_path):
    with pytest.raises(DataError, match="Did you mean 'train'"):
        find_cases(fill(tmp_path, ["a"]), "trian")


# --- Real data ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data_set", "split", "count"),
    [
        ("polypgen", "train", 1237),
        ("polypgen", "val", 150),
        ("kvasir196", "train", 118),
        ("kvasir196", None, 157),
        ("hippocampus", "train", 190),
        ("hippocampus", "val", 30),
        ("nuclei", "val", 20),
    ],
)
def test_the_cases_of_the_real_sets_are_found(shared_data, data_set, split, count):
    cases = find_cases(shared_data / data_set, split)
    assert len(cases) == count
    assert all(case.image_path.is_file() and case.label_path.is_file() for case in cases)


class TestShareOfCases:
    CASES = tuple(Case(f"{n:02}", Path(f"{n}.png"), Path(f"{n}.tif")) for n in range(20))

    @pytest.mark.parametrize(("share", "count"), [(1.0, 20), (0.5, 10), (0.25, 5), (0.1, 2), (0.001, 1)])
    def test_it_has_the_asked_size_and_keeps_the_order(self, share, count):
        drawn = share_of_cases(self.CASES, share)
        assert len(drawn) == count
        assert [case.name for case in drawn] == sorted(case.name for case in drawn)

    def test_a_smaller_share_is_part_of_a_larger_one(self):
        drawn = [set(share_of_cases(self.CASES, share, seed=3)) for share in (0.1, 0.25, 0.5, 1.0)]
        assert all(smaller < larger for smaller, larger in zip(drawn, drawn[1:], strict=False))

    def test_one_more_case_moves_few_others(self):
        newcomer = Case("newcomer", Path("new.png"), Path("new.tif"))
        for seed in range(10):
            before, after = (share_of_cases(c, 0.5, seed) for c in (self.CASES, (*self.CASES, newcomer)))
            assert len(set(before) - set(after)) <= 1

    def test_it_is_the_same_on_every_machine_and_in_every_order(self):
        cases = [Case(letter, Path(letter), Path(letter)) for letter in "abcdefghij"]
        assert names(share_of_cases(cases, 0.3)) == ["f", "g", "h"]
        assert names(share_of_cases(cases[::-1], 0.3)) == ["h", "g", "f"]

    def test_the_seed_draws(self):
        assert share_of_cases(self.CASES, 0.5, 0) == share_of_cases(self.CASES, 0.5, 0)
        assert share_of_cases(self.CASES, 0.5, 0) != share_of_cases(self.CASES, 0.5, 1)

    def test_nothing_is_drawn_from_nothing(self):
        assert share_of_cases([], 0.5) == []
