"""Annotations: what is painted becomes classes and comes back, is counted, and tells what was meant."""

from __future__ import annotations

import re
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from swipe_core.data.annotations import FEWEST, MOST_CLASSES, AnnotationScheme, Unpainted, shortage
from swipe_core.data.guess import guess_scheme
from swipe_core.data.labelled import parted
from swipe_core.data.labels import IGNORED
from swipe_core.errors import DataError

RED_BLUE = ("#ff0000", "#0000ff")
SCRIBBLED = AnnotationScheme(("polyp", "tool"), RED_BLUE, "ignored")
FILLED = AnnotationScheme(("polyp", "tool"), RED_BLUE, "background")
MASK = AnnotationScheme(("cell",), ("#00ff00",), "background")
NUMBERED = AnnotationScheme(("cell",), ("#00ff00",), "background", instances=True)

Painting = tuple[int, Unpainted, np.ndarray]


def scheme_of(classes: int, unpainted: Unpainted) -> AnnotationScheme:
    return AnnotationScheme(tuple(f"class {i}" for i in range(classes)), ("#123abc",) * classes, unpainted)


# Made into schemes by the tests: the checks of their types draw numbers of their own.
class_counts = st.one_of(st.integers(1, 4), st.just(MOST_CLASSES))
policies = st.sampled_from(["background", "ignored"])


@st.composite
def paintings(draw: st.DrawFn) -> Painting:
    """The classes of a scheme, and a layer of two to four axes that is painted by it."""
    classes, unpainted = draw(class_counts), draw(policies)
    shape = draw(array_shapes(min_dims=2, max_dims=4, max_side=5))
    dtype = draw(st.sampled_from([np.uint8, np.int16, np.int32, np.uint64, np.int64]))
    highest = classes + (unpainted == "ignored")
    return classes, unpainted, draw(arrays(dtype, shape, elements=st.integers(0, highest)))


@given(paintings())
def test_what_is_painted_becomes_classes_and_comes_back(
    painting: Painting,
) -> None:
    *arguments, painted = painting
    scheme = scheme_of(*arguments)
    np.testing.assert_array_equal(scheme.to_painted(scheme.to_classes(painted)), painted)


@given(paintings())
def test_each_voxel_becomes_the_class_whose_name_its_number_has(
    painting: Painting,
) -> None:
    *arguments, painted = painting
    scheme = scheme_of(*arguments)
    classes = scheme.to_classes(painted)
    names = {index: name for index, name in enumerate(("background", *scheme.class_names))}
    for number, name in scheme.painted.items():
        assert {names[int(found)] for found in classes[painted == number]} <= {name}
    unpainted = 0 if scheme.unpainted == "background" else IGNORED
    assert (classes[painted == 0] == unpainted).all()


def histogram(painted: np.ndarray) -> dict[int, int]:
    return dict(zip(*(part.tolist() for part in np.unique(painted, return_counts=True)), strict=True))


@given(paintings())
def test_counts_are_those_of_the_classes(painting: Painting) -> None:
    *arguments, painted = painting
    scheme = scheme_of(*arguments)
    classes = scheme.to_classes(painted)
    expected = {
        name: int((classes == index).sum()) for index, name in enumerate(("background", *scheme.class_names))
    }
    assert scheme.counts(histogram(painted)) == expected


def test_numbers_of_objects_are_one_class() -> None:
    painted = np.array([[0, 7, 7], [0, 0, 70000]])
    np.testing.assert_array_equal(NUMBERED.to_classes(painted), [[0, 1, 1], [0, 0, 1]])
    np.testing.assert_array_equal(NUMBERED.to_painted(NUMBERED.to_classes(painted)), [[0, 1, 1], [0, 0, 1]])
    assert NUMBERED.counts(histogram(painted)) == {"background": 3, "cell": 3}
    assert SCRIBBLED.counts({0: 5, 1: 4, 9: 2})["background"] == 4  # a number without a class is left out


def test_the_background_is_painted_where_the_rest_is_ignored() -> None:
    assert SCRIBBLED.painted == {1: "background", 2: "polyp", 3: "tool"}
    assert SCRIBBLED.painted_colours == {1: "#8c8c8c", 2: "#ff0000", 3: "#0000ff"}
    assert FILLED.painted == {1: "polyp", 2: "tool"}
    assert FILLED.painted_colours == {1: "#ff0000", 2: "#0000ff"}


def test_voxels_without_an_annotation_are_unpainted_in_every_scheme() -> None:
    classes = np.array([[0, 1, IGNORED]], np.uint8)
    np.testing.assert_array_equal(FILLED.to_painted(classes), [[0, 1, 0]])
    np.testing.assert_array_equal(SCRIBBLED.to_painted(classes), [[1, 2, 0]])
    np.testing.assert_array_equal(NUMBERED.to_painted(classes), [[0, 1, 0]])


@pytest.mark.parametrize(
    ("scheme", "painted", "message"),
    [
        (SCRIBBLED, [[0, 4]], "label 4 is painted, and only 1 to 3"),
        (FILLED, [[3, 0]], "label 3 is painted, and only 1 to 2"),
        (FILLED, [[300, 0]], "label 300 is painted, and only 1 to 2 have a class: add classes"),
        (MASK, [[255, 0]], "label 255 is painted, .* have labels number single objects, add classes"),
        (FILLED, [[-1, 0]], "label -1 is painted"),
        (NUMBERED, [[-2, 9]], "label -2 is painted"),
    ],
)
def test_a_number_without_a_class_is_refused(
    scheme: AnnotationScheme, painted: list[list[int]], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        scheme.to_classes(np.array(painted))


@pytest.mark.parametrize("foreign", [3, 256, -1])
def test_a_class_without_a_name_is_not_painted(foreign: int) -> None:
    for scheme in (SCRIBBLED, FILLED):
        with pytest.raises(DataError, match=f"class {foreign}, and classes 1 to 2 are named"):
            scheme.to_painted(np.array([[0, foreign]]))


@pytest.mark.parametrize(
    ("names", "colours", "unpainted", "instances", "message"),
    [
        ((), (), "ignored", False, "1 to 254 classes, and 0 came"),
        (tuple("abc" + str(i) for i in range(255)), ("#000000",) * 255, "ignored", False, "and 255 came"),
        (("a", " "), RED_BLUE, "ignored", False, "needs a name"),
        (("a", "a"), RED_BLUE, "ignored", False, "rename one of those called a"),
        (("a", "background"), RED_BLUE, "ignored", False, "'background' is what belongs to no class"),
        (("a",), RED_BLUE, "ignored", False, "1 classes need as many colours, and 2 came"),
        (("a",), ("red",), "ignored", False, "#rrggbb, and 'red' came"),
        (("a", "b"), RED_BLUE, "background", True, "of one class only"),
    ],
)
def test_a_scheme_that_cannot_be_painted_with_is_refused(
    names: tuple[str, ...], colours: tuple[str, ...], unpainted: str, instances: bool, message: str
) -> None:
    with pytest.raises(DataError, match=re.escape(message)):
        AnnotationScheme(names, colours, unpainted, instances)  # type: ignore[arg-type]


@given(class_counts, policies)
def test_every_scheme_makes_a_configuration_of_the_same_classes(classes: int, unpainted: Unpainted) -> None:
    scheme = scheme_of(classes, unpainted)
    config = scheme.label_config()
    assert config.class_names == scheme.class_names
    assert config.class_colours == scheme.class_colours
    assert config.ignore_label == (IGNORED if scheme.unpainted == "ignored" else None)


def test_numbered_objects_are_configured_as_such() -> None:
    config = NUMBERED.label_config()
    assert config.instances and config.ignore_label is None


def test_annotations_are_there_without_torch() -> None:
    program = "import sys, swipe_core.data.annotations; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0


# What was meant


def disc(shape: tuple[int, int], centre: tuple[int, int], radius: float) -> np.ndarray:
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    return np.hypot(rows - centre[0], columns - centre[1]) <= radius


def stroke(painted: np.ndarray, label: int, row: int, column: int, length: int = 60, width: int = 5) -> None:
    """A wavy line of a brush."""
    for step in range(length):
        at = row + round(6 * np.sin(step / 9))
        painted[..., at : at + width, column + step : column + step + width] = label


def scribbles(shape: tuple[int, ...] = (128, 128)) -> np.ndarray:
    painted = np.zeros(shape, np.uint8)
    stroke(painted, 1, 20, 10)
    stroke(painted, 2, 60, 30)
    stroke(painted, 1, 100, 20, length=80)
    return painted


def test_nothing_painted_means_that_nothing_is_annotated_yet() -> None:
    for painted in ([], [np.zeros((5, 6), int)], [np.zeros((0, 6), int)]):
        scheme = guess_scheme(painted)
        assert (scheme.unpainted, scheme.class_names, scheme.instances) == ("ignored", ("foreground",), False)


def test_strokes_of_a_brush_leave_the_rest_without_annotation() -> None:
    scheme = guess_scheme([scribbles()])
    assert scheme.unpainted == "ignored"
    assert scheme.painted == {1: "background", 2: "foreground"}


def test_filled_objects_lie_in_background() -> None:
    painted = 1 * disc((128, 128), (40, 40), 25) + 2 * disc((128, 128), (90, 90), 20)
    scheme = guess_scheme([painted])
    assert scheme.unpainted == "background"
    assert scheme.painted == {1: "class 1", 2: "class 2"}


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ({0: "", 1: "nucleus", 2: "nucleus"}, (True, ("nucleus",))),
        ({1: "nucleus", 2: "debris", 3: "nucleus"}, (True, ("object",))),
        ({1: "nucleus", 2: "debris"}, (False, ("nucleus", "debris"))),
        ({1: "", 2: ""}, (False, ("class 1", "class 2"))),
    ],
)
def test_numbers_that_share_a_name_are_those_of_objects(names, expected) -> None:
    painted = 1 * disc((128, 128), (40, 40), 25) + 2 * disc((128, 128), (90, 90), 20)
    scheme = guess_scheme([painted], names)
    assert (scheme.instances, scheme.class_names) == expected


def test_an_object_that_fills_the_image_is_no_stroke() -> None:
    assert guess_scheme([np.ones((200, 150), np.uint8)]).unpainted == "background"


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_strokes_in_few_planes_of_a_volume_are_strokes_along_whichever_axis(axis: int) -> None:
    volume = np.zeros((128, 128, 128), np.uint8)
    for index in (20, 21, 90):
        np.moveaxis(volume, axis, 0)[index] = scribbles()
    assert guess_scheme([volume]).unpainted == "ignored"


def test_filled_objects_of_a_volume_lie_in_background() -> None:
    z, y, x = np.mgrid[:40, :128, :128]
    ball = ((z - 20) * 3) ** 2 + (y - 64) ** 2 + (x - 50) ** 2 < 45**2
    assert guess_scheme([ball.astype(np.uint8)]).unpainted == "background"


def test_frames_of_volumes_are_looked_at_as_well() -> None:
    movie = np.zeros((3, 6, 128, 128), np.uint8)
    movie[1, 4] = scribbles()
    assert guess_scheme([movie]).unpainted == "ignored"


def test_large_images_are_looked_at_in_windows() -> None:
    scribbled = np.zeros((4000, 4000), np.uint8)
    for row in range(100, 3900, 400):
        stroke(scribbled, 1 + row % 2, row, 500, length=1500, width=30)
    assert guess_scheme([scribbled]).unpainted == "ignored"
    filled = np.zeros((4000, 4000), np.uint8)
    filled[500:3500, 800:3000] = 1
    assert guess_scheme([filled]).unpainted == "background"


def test_only_samples_of_large_volumes_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    from scipy import ndimage

    measured: list[int] = []
    distance = ndimage.distance_transform_edt
    monkeypatch.setattr(
        ndimage, "distance_transform_edt", lambda mask: measured.append(mask.size) or distance(mask)
    )
    volume = np.zeros((300, 600, 700), np.uint8)
    volume[10:290, 20:580, 20:680] = 1
    guess_scheme([volume] * 10)
    assert sum(measured) < volume.size / 20


def test_many_numbers_count_objects() -> None:
    painted = np.zeros((200, 200), np.int32)
    for number in range(12):
        painted[disc((200, 200), (25 + 50 * (number // 4), 25 + 50 * (number % 4)), 15)] = number + 1
    scheme = guess_scheme([painted])
    assert scheme.instances and scheme.unpainted == "background" and len(scheme.class_names) == 1


def test_several_numbers_of_a_single_compact_object_each_count_objects() -> None:
    painted = np.zeros((200, 200), np.int32)
    for number in range(4):
        painted[disc((200, 200), (50, 25 + 45 * number), 15)] = number + 1
    assert guess_scheme([painted]).instances
    painted[disc((200, 200), (120, 100), 15)] = 2  # and now one of them is in two places
    scheme = guess_scheme([painted])
    assert not scheme.instances and len(scheme.class_names) == 4


def test_a_mask_of_0_and_255_is_one_class_in_background() -> None:
    scheme = guess_scheme([255 * disc((60, 60), (30, 30), 20)])
    assert scheme.unpainted == "background" and len(scheme.class_names) == 1
    scheme.to_classes(255 * disc((60, 60), (30, 30), 20))


def test_numbers_with_names_are_classes_of_these_names() -> None:
    painted = np.zeros((200, 200), np.int32)
    names = {number: f"organ {number}" for number in range(1, 13)}
    for number in names:
        painted[disc((200, 200), (25 + 50 * (number // 4), 25 + 50 * (number % 4)), 15)] = number
    scheme = guess_scheme([painted], names)
    assert not scheme.instances
    assert scheme.painted == names


def test_a_named_background_says_that_the_rest_is_ignored() -> None:
    filled = 1 + disc((60, 60), (30, 30), 20)
    scheme = guess_scheme([filled], {1: "background", 2: "polyp"})
    assert scheme.unpainted == "ignored" and scheme.painted == {1: "background", 2: "polyp"}


def test_strokes_whose_first_number_has_the_name_of_a_class_lie_in_background() -> None:
    scheme = guess_scheme([scribbles()], {1: "vessel"})
    assert scheme.unpainted == "background"
    assert scheme.painted == {1: "vessel", 2: "class 2"}


def test_names_that_no_class_can_have_are_replaced() -> None:
    filled = 1 * disc((60, 60), (15, 15), 9) + 2 * disc((60, 60), (40, 40), 9)
    for names in ({1: "a", 2: " "}, {1: "a", 2: "background"}, {1: "a", 2: "class 1"}):
        assert guess_scheme([filled], names).class_names == ("a", "class 2")


@given(arrays(np.int32, array_shapes(min_dims=2, max_dims=4, max_side=6), elements=st.integers(0, 300)))
def test_every_guess_can_read_what_it_was_made_from(painted: np.ndarray) -> None:
    guess_scheme([painted]).to_classes(painted)


# What is too little


def test_nothing_at_all_is_one_sentence() -> None:
    assert shortage({}, SCRIBBLED) == [
        "Nothing is painted yet: paint 50 voxels or more of background, polyp and tool."
    ]
    assert shortage({"background": 9999}, FILLED) == [
        "Nothing is painted yet: paint 50 voxels or more of polyp and tool."
    ]
    assert shortage({}, NUMBERED) == ["Nothing is painted yet: paint 50 voxels or more of cell."]


def test_each_class_with_too_little_has_a_sentence() -> None:
    assert shortage({"background": 1, "polyp": FEWEST - 1, "tool": 0}, SCRIBBLED) == [
        "Only 1 voxel is painted as background: paint 50 or more.",
        "Only 49 voxels are painted as polyp: paint 50 or more.",
        "Nothing is painted as tool yet: paint 50 voxels or more.",
    ]


def test_enough_of_each_is_no_shortage_and_an_unpainted_background_is_none() -> None:
    assert shortage({"background": FEWEST, "polyp": FEWEST, "tool": FEWEST}, SCRIBBLED) == []
    assert shortage({"polyp": FEWEST, "tool": FEWEST}, FILLED) == []


def test_strokes_that_number_single_objects_are_one_class_and_the_background_is_painted_as_1():
    scheme = AnnotationScheme(("cell",), ("#ff0000",), "ignored", instances=True)
    painted = np.array([[0, 1, 2], [3, 3, 40]], np.uint16)
    classes = scheme.to_classes(painted)
    np.testing.assert_array_equal(classes, [[IGNORED, 0, 1], [1, 1, 1]])
    np.testing.assert_array_equal(scheme.to_painted(classes), [[0, 1, 2], [2, 2, 2]])
    assert scheme.counts({0: 5, 1: 7, 2: 1, 3: 2, 40: 1}) == {"background": 7, "cell": 4}
    config = scheme.label_config()
    assert config.instances and config.ignore_label == IGNORED
    whole = AnnotationScheme(("cell",), ("#ff0000",), "background", instances=True)
    np.testing.assert_array_equal(
        scheme.translated(whole.to_classes(painted), whole), [[IGNORED, 1, 1], [1, 1, 1]]
    )
    np.testing.assert_array_equal(whole.translated(classes, scheme), [[0, 0, 1], [1, 1, 1]])


def test_halfway_between_strokes_of_neighbouring_objects_lies_background_where_nobody_painted():
    strokes = np.zeros((5, 13), int)
    strokes[2, 1:4], strokes[2, 8:12] = 7, 3
    classes = np.where(strokes > 0, 1, IGNORED).astype(np.uint8)
    classes[0] = 1  # painted, so that it stays
    found = parted(classes, strokes)
    assert (found[0] == 1).all() and (found[2, [1, 2, 3, 8, 11]] == 1).all()
    where = np.argwhere(found == 0)
    assert set(where[:, 0]) == {1, 2, 3, 4} and (np.abs(where[:, 1] - 5.5) <= 1).all()
