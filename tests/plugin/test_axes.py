"""What the axes of a layer are taken for."""

from __future__ import annotations

import pytest

from napari_swipe.layers.axes import AxisRoles, guess_roles
from swipe_core.errors import ImageError
from swipe_core.images.channels import channels_taken

PLAIN = ("-4", "-3", "-2", "-1")


@pytest.mark.parametrize(
    ("shape", "labels", "rgb", "model", "roles"),
    [
        ((64, 64), None, False, (2, 1), "ss"),
        ((64, 64), None, True, (2, 3), "ss"),
        ((9, 64, 64), None, False, (2, 1), "fss"),
        ((9, 64, 64), None, True, (2, 3), "fss"),
        ((3, 64, 64), None, False, (2, 3), "fss"),
        ((3, 64, 64), ("channel", "y", "x"), False, (2, 3), "css"),
        ((2, 64, 64), None, False, (2, 2), "css"),
        ((3, 64, 64), ("colour", "y", "x"), False, (2, 1), "css"),
        ((5, 64, 64), ("channel", "y", "x"), False, (2, 3), "css"),
        ((5, 64, 64), ("channel", "y", "x"), False, (2, 1), "fss"),
        ((9, 64, 64), ("z", "y", "x"), False, (3, 1), "sss"),
        ((4, 9, 64, 64), ("time", "z", "y", "x"), False, (3, 1), "fsss"),
        ((9, 2, 64, 64), ("z", "channel", "y", "x"), False, (3, 2), "scss"),
        ((9, 2, 64, 64), ("z", "channel", "y", "x"), False, (3, 1), "sfss"),
        ((64, 64), None, False, (3, 1), "ss"),
    ],
)
def test_roles_are_guessed_from_shape_labels_and_model(shape, labels, rgb, model, roles):
    labels = labels or PLAIN[-len(shape) :]
    found = guess_roles(shape, labels, rgb, model[0], channels_taken(*model, None))
    assert "".join(role[0] for role in found.roles) == roles
    assert found.rgb == rgb


def test_axes_are_found_by_their_roles():
    axes = AxisRoles(("frame", "space", "channel", "space"))
    assert (axes.space, axes.frames, axes.channel) == ((1, 3), (0,), 2)


def test_roles_that_do_not_suit_the_model_are_refused_with_what_to_do():
    with pytest.raises(ImageError, match="scan has 2 spatial axes .* model is 3D.*set the roles"):
        AxisRoles(("frame", "space", "space")).check(3, "scan")
    with pytest.raises(ImageError, match="one channel axis only"):
        AxisRoles(("channel", "channel", "space", "space")).check(2, "scan")
    with pytest.raises(ImageError, match="one channel axis only"):
        AxisRoles(("channel", "space", "space"), rgb=True).check(2, "scan")
    AxisRoles(("frame", "space", "space"), rgb=True).check(2, "scan")
