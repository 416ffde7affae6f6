"""Laws of finding cases: every pair once, in one order, and one clear sentence when it cannot be."""

from __future__ import annotations

from pathlib import Path

import pytest

from swipe_core.data.cases import Case, find_cases, share_of_cases, split_cases
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


def error_of(folder: Path, split=None) -> str:
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


def test_suffixes_may_be_in_capitals(tmp_path):
    assert names(find_cases(fill(tmp_path, ["a"], ".PNG", ".Tif"))) == ["a"]


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
