"""Laws of what is kept of windows: one raster says at voxel centres what the windows say there."""

from __future__ import annotations

import pytest
import torch

from swipe_core.checkpoints.file import CheckpointContent
from swipe_core.coordinates import Affine, Grid, voxel_centres
from swipe_core.data.labels import LabelConfig
from swipe_core.data.preprocessing import PreprocessingConfig
from swipe_core.images import MedicalImage
from swipe_core.inference.config import InferenceConfig
from swipe_core.networks.encoding import FeatureMaps, LogitMap
from swipe_core.networks.segmenter import Segmenter
from swipe_core.networks.swipe.build import SwipeConfig
from swipe_core.prediction import predictor as module
from swipe_core.prediction.predictor import Predictor

SHAPES = {2: (19, 23), 3: (9, 11, 7)}
CROPS = {2: (8, 10), 3: (4, 6, 5)}


class Mixing(Segmenter):
    """Says of a point what the image is there, and how far it is from the window's corner."""

    def __init__(self, ndim: int, keeps_windows: bool) -> None:
        super().__init__()
        self.ndim, self.channels, self.classes = ndim, 1, 2
        self.scale = torch.nn.Parameter(torch.tensor(2.0))
        self.keeps_windows = keeps_windows

    def encode(self, images):
        shape = tuple(images.shape[2:])
        return FeatureMaps(image_shape=shape, padded_shape=shape, maps=(images * self.scale,))

    def decode(self, encoding, points_image, points_source=None):
        own = encoding.at(points_image)[0]
        return torch.cat([own, points_image.sum(dim=-1, keepdim=True)], dim=-1)


def field_of(ndim: int, keeps_windows: bool, mirrored_axes: tuple[int, ...] = (), **config):
    """A field of a random image in overlapping windows."""
    content = CheckpointContent(
        name="mixing",
        model=SwipeConfig(ndim=ndim, channels=1, connectivity={2: 8, 3: 6}[ndim]),
        preprocessing=PreprocessingConfig(ndim=ndim, channels=1, crop_size=CROPS[ndim]),
        labels=LabelConfig(),
        inference=InferenceConfig(overlap=0.5, mirrored_axes=mirrored_axes, **config),
    )
    array = torch.randn(*SHAPES[ndim], 1, generator=torch.Generator().manual_seed(3)).numpy()
    image = MedicalImage(array, Affine.from_spacing((1.0,) * ndim), "pixel")
    return Predictor(Mixing(ndim, keeps_windows), content).field(image)


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("mirrored_axes", [(), (1,)])
def test_at_voxel_centres_one_raster_says_what_the_windows_say(ndim, mirrored_axes):
    apart, raster = (field_of(ndim, keeps, mirrored_axes) for keeps in (True, False))
    assert len(apart.windows) > 8 and len(raster.windows) == 1
    centres = voxel_centres(SHAPES[ndim])
    torch.testing.assert_close(
        torch.tensor(raster.logits(centres, "voxel")),
        torch.tensor(apart.logits(centres, "voxel")),
        atol=1e-4,
        rtol=1e-4,
    )


def test_between_voxels_the_raster_is_interpolated():
    raster = field_of(2, False)
    left, right = (raster.logits([[5.0, x]], "voxel") for x in (7.0, 8.0))
    middle = raster.logits([[5.0, 7.25]], "voxel")
    torch.testing.assert_close(torch.tensor(middle), torch.tensor(0.75 * left + 0.25 * right))


def test_an_image_of_one_window_keeps_its_encoding_and_is_asked_anywhere():
    field = field_of(2, False)
    content = CheckpointContent(
        name="whole",
        model=SwipeConfig(channels=1),
        preprocessing=PreprocessingConfig(channels=1, ndim=2),
        labels=LabelConfig(),
        inference=InferenceConfig(),
    )
    image = MedicalImage(torch.zeros(8, 8, 1).numpy(), Affine.from_spacing((1.0, 1.0)), "pixel")
    whole = Predictor(Mixing(2, False), content).field(image)
    assert isinstance(field.windows[0].encoding, LogitMap)
    assert not isinstance(whole.windows[0].encoding, LogitMap)


def test_of_a_region_only_its_windows_are_blended_and_beyond_them_the_background_decides():
    content = CheckpointContent(
        name="region",
        model=SwipeConfig(channels=1),
        preprocessing=PreprocessingConfig(channels=1, ndim=2, crop_size=(8, 8)),
        labels=LabelConfig(),
        inference=InferenceConfig(overlap=0.5),
    )
    grid = Grid((32, 32), Affine.from_spacing((1.0, 1.0)))
    image = MedicalImage(torch.ones(32, 32, 1).numpy(), grid.affine, "pixel")
    predictor = Predictor(Mixing(2, False), content)
    prepared = module.preprocess(image, content.preprocessing)
    region = grid.window((0, 0), (6, 6))
    field = module.finish(predictor.iter_encoded(prepared, grid, region))
    assert field.windows[0].block.shape == (12, 12)
    assert field.classify([[30.0, 30.0]], "voxel")[0] == 0


def test_where_memory_runs_out_windows_go_in_one_by_one(monkeypatch):
    whole, embed, sizes = field_of(2, False), module._embed, []

    def small(model, device, images):
        sizes.append(len(images))
        if len(images) > 1:
            raise MemoryError
        return embed(model, device, images)

    monkeypatch.setattr(module, "_embed", small)
    with pytest.warns(UserWarning, match="holds"):
        one_by_one = field_of(2, False)
    assert max(sizes) > 1 and sizes[-1] == 1
    centres = voxel_centres(SHAPES[2])
    torch.testing.assert_close(
        torch.tensor(one_by_one.logits(centres, "voxel")), torch.tensor(whole.logits(centres, "voxel"))
    )
