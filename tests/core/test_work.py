"""Work is counted, never timed: multiply-adds and asked points must not grow beyond what they were.

`WORK` is what was counted when it was last renewed. After a change that is meant to cost more, or that
costs less and is to stay so, renew it with what this prints:

    python tests/core/test_work.py
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache, partial

import numpy as np
import pytest
import torch

from benchmarks.floor import counted, decoder_multiply_adds
from benchmarks.live import SCREEN, ZOOM, boundary_places, decode_screen, screen_at
from benchmarks.plan import sample, untrained
from benchmarks.training import forward_multiply_adds
from swipe_core.coordinates import Affine, Grid
from swipe_core.data.preprocessing import preprocess
from swipe_core.inference.field import OccupancyField, Segmentation
from swipe_core.inference.regions import FoundRegions
from swipe_core.networks.swipe.build import build_swipe
from swipe_core.training.config import load_config

CPU = torch.device("cpu")
POINTS = 1000  # that a decoder is asked
PRESETS = {"sessile": (128, 96), "hippocampus": (16, 24, 20)}
RENDERINGS = (("nuclei", 1), ("nuclei", 4), ("hippocampus", 1), ("polyp", 1))
SCREENS = ("nuclei", "hippocampus")

# Where weights decide, another machine rounds otherwise, and asks a few points more or less.
SLACK = 1.01

# By work: multiply-adds of the network alone.
NETWORKS = {
    "sessile encode": 501_189_792,
    "sessile decode plain": 409_088_000,
    "sessile decode nearest": 146_944_000,
    "sessile decode linear": 273_315_840,
    "hippocampus encode": 321_535_108,
    "hippocampus decode plain": 117_888_000,
    "hippocampus decode nearest": 52_352_000,
    "hippocampus decode linear": 107_571_840,
    "sessile training image": 7_370_663_808,
}

# By work: asked points, and multiply-adds of all that it takes, blending and windows included.
WORK = {
    "nuclei render 1x": (27_645, 11_167_897_344),
    "nuclei render 4x": (55_483, 22_430_976_000),
    "hippocampus render 1x": (18_492, 8_777_461_504),
    "polyp render 1x": (36_563, 36_497_899_520),
    "nuclei screen": (6_322, 2_282_808_832),
    "hippocampus screen": (6_650, 4_754_234_624),
}


@cache
def network_works() -> dict[str, Callable[[], int]]:
    """Works whose multiply-adds follow from shapes and positions alone."""
    found = {}
    for preset, shape in PRESETS.items():
        random = untrained(preset, shape)
        model = random.predictor(CPU).model
        images = preprocess(random.image, random.config.preprocessing).tensor[None]
        generator = torch.Generator().manual_seed(0)
        points = 2 * torch.rand(1, POINTS, len(shape), generator=generator) - 1
        embeddings = model.encode(images)
        works = {
            "encode": partial(model.encode, images),
            "decode plain": partial(model.decode_plain, embeddings, points),
            "decode nearest": partial(model.decode, embeddings, points, blending="nearest"),
            "decode linear": partial(model.decode, embeddings, points, blending="linear"),
        }
        for name, work in works.items():
            found[f"{preset} {name}"] = partial(counted, work)
    found["sessile training image"] = partial(forward_multiply_adds, load_config("sessile"))
    return found


@cache
def field_of(name: str) -> OccupancyField:
    """A sample, encoded by its model."""
    subject = sample(name)
    predictor = subject.predictor(CPU)
    return predictor.field(subject.image(predictor.content.model.ndim))


def field_works() -> Iterator[tuple[str, Callable[[], Segmentation]]]:
    """Works on the samples in the package, which are encoded already."""
    for name, factor in RENDERINGS:
        yield f"{name} render {factor}x", partial(rendered_anew, field_of(name), factor)
    for name in SCREENS:
        yield f"{name} screen", partial(decode_screen, field_of(name), first_screen(name))


def rendered_anew(field: OccupancyField, factor: int) -> Segmentation:
    """With the search for confident regions, where the model wants one."""
    return replace(field, regions=FoundRegions()).render(factor=factor)


@cache
def first_screen(name: str) -> Grid:
    """A screen about a place of the boundary."""
    field = field_of(name)
    (place,) = boundary_places(field.render().array, 1)
    return screen_at(place, field.image_grid, ZOOM, SCREEN)


def count_field_work(work: Callable[[], Segmentation]) -> tuple[int, int]:
    """Points that a field was asked for, and the multiply-adds that it took."""
    results = []
    multiply_adds = counted(lambda: results.append(work()))
    return results[0].evaluated_points, multiply_adds


def least_per_point(name: str) -> int:
    """What one patch of one window takes to answer, for the model of a sample."""
    config = sample(name).predictor(CPU).content.model
    return decoder_multiply_adds(build_swipe(config).patch_decoder)[1]


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_does_no_more_than_it_did(name):
    assert network_works()[name]() <= NETWORKS[name]


@pytest.mark.parametrize("preset", PRESETS)
def test_shared_products_are_made_once_and_blending_asks_only_patches_that_weigh(preset):
    works = network_works()
    plain, cached = decoder_multiply_adds(untrained(preset, PRESETS[preset]).model.patch_decoder)
    assert works[f"{preset} decode plain"]() == POINTS * plain
    assert works[f"{preset} decode nearest"]() == POINTS * cached
    most = 1.5 ** len(PRESETS[preset])  # half of a patch's width, along every axis, is shared by two
    assert POINTS * cached < works[f"{preset} decode linear"]() < 1.05 * most * POINTS * cached


@pytest.mark.parametrize("name", WORK)
def test_a_field_asks_and_computes_no_more_than_it_did(name):
    most_points, most_multiply_adds = WORK[name]
    points, multiply_adds = count_field_work(dict(field_works())[name])
    assert points <= SLACK * most_points
    # A counter that misses some kind of product would be pleased with anything.
    assert points * least_per_point(name.split()[0]) <= multiply_adds <= SLACK * most_multiply_adds


@pytest.mark.parametrize("coarse_voxels", [1.0, 2.0])
def test_points_about_double_with_the_resolution(analytic_field, ball, coarse_voxels):
    size = 64
    field = analytic_field(
        ball((30.3, 33.1), 20.0), Grid((size, size), Affine.identity(2)), coarse_voxels=coarse_voxels
    )
    asked = []
    for factor in (1, 2, 4, 8, 16, 32):
        rendered = field.render(factor=factor)
        assert field.model.asked == rendered.evaluated_points
        field.model.asked = 0
        asked.append(rendered.evaluated_points)
    lattice = asked[0] if coarse_voxels == 1 else (size / coarse_voxels + 1) ** 2
    # The first lattice is asked whatever the resolution; what comes on top is the boundary's.
    growth = np.array(asked[2:]) - lattice
    ratios = growth[1:] / growth[:-1]
    assert (ratios < 2.2).all() and ratios[-1] == pytest.approx(2, rel=0.05)
    assert asked[-1] < 0.02 * (32 * size) ** 2


def print_counts() -> None:
    """What to renew `NETWORKS` and `WORK` with."""
    print(
        "NETWORKS = {",
        *(f'    "{name}": {work():_},' for name, work in network_works().items()),
        "}",
        sep="\n",
    )
    print("\nWORK = {")
    for name, work in field_works():
        points, multiply_adds = count_field_work(work)
        print(f'    "{name}": ({points:_}, {multiply_adds:_}),')
    print("}")


if __name__ == "__main__":
    print_counts()
