"""Label maps over their images, the colours of classes, and how a picture becomes a file."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from jaxtyping import Bool, Float, Integer, Shaped, UInt8

from swipe_core.errors import ImageError
from swipe_core.files.atomic import atomic_write

if TYPE_CHECKING:
    from matplotlib.figure import Figure


# Chosen by greatest least distance (CIEDE2000). The first eight keep apart for readers with red- or
# green-blindness too, and the first six from the colours of mucosa and from grey.
CLASS_COLOURS = (
    *("#00ddff", "#ffbb00", "#5577ff", "#449966", "#aaffaa", "#ee00bb", "#ff1111", "#ff8899"),
    *("#997722", "#ff9966", "#bb99ee", "#eeee55", "#99aa33", "#dd2255", "#00ddbb", "#9966aa"),
)


def default_colours(count: int) -> list[str]:
    """Return colours "#rrggbb" for classes 1 to `count`; beyond `CLASS_COLOURS` they come round again."""
    return [CLASS_COLOURS[index % len(CLASS_COLOURS)] for index in range(count)]


RGB = UInt8[np.ndarray, "_ _ 3"]  # (height, width, channel)
_DPI = 100


def new_figure(width: int, height: int, layout: Literal["constrained"] | None = None) -> Figure:
    """A figure of the given size in pixels."""
    from matplotlib.figure import Figure

    # A hundredth of a pixel more, because the size in pixels is cut down to a whole number.
    return Figure(figsize=((width + 0.01) / _DPI, (height + 0.01) / _DPI), dpi=_DPI, layout=layout)


def rendered(figure: Figure) -> RGB:
    """What a figure looks like."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.array(canvas.buffer_rgba())[..., :3].copy()


def write_png(path: Path | str, rgb: RGB) -> None:
    """Write a picture, at once or not at all, making its folder where there is none.

    Raises `ImageError` when the folder or the file cannot be written.
    """
    from PIL import Image

    path = Path(path)
    encoded = io.BytesIO()
    # Half the time of the default, for files that are 6 % larger.
    Image.fromarray(rgb).save(encoded, format="PNG", compress_level=3)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as draft:
            draft.write_bytes(encoded.getvalue())
    except OSError as error:
        raise ImageError(f"Cannot write the picture {path}: {error.strerror}.") from error


def fitted_shape(shape: Sequence[float], size: int) -> tuple[int, int]:
    """(height, width) of the given proportions with the longer side `size` pixels long."""
    height, width = shape
    scale = size / max(height, width)
    return max(1, round(height * scale)), max(1, round(width * scale))


def to_rgb(
    image: Shaped[np.ndarray, "height width channels"], window: tuple[float, float] | None = None
) -> RGB:
    """An image as it can be shown.

    `image` (height, width, channels), any number type: one channel is shown as grey, three as red, green and
    blue, two as red and green; of more the first three are shown.
    `window` (low, high), optional: values shown as black and as full brightness. By default 8-bit RGB stays
    as it is, and anything else is stretched from its 0.5th to its 99.5th percentile.
    """
    channels = image[..., :3]
    if channels.shape[-1] == 2:
        channels = np.concatenate([channels, np.full_like(channels[..., :1], channels.min())], axis=-1)
    if channels.dtype != np.uint8 or channels.shape[-1] == 1 or window is not None:
        channels = _stretched(channels.astype(np.float64), window)
    return np.ascontiguousarray(np.broadcast_to(channels, (*channels.shape[:2], 3)))


def _stretched(values: np.ndarray, window: tuple[float, float] | None) -> UInt8[np.ndarray, "*shape"]:
    finite = np.isfinite(values)
    low, high = window or _window(values[finite])
    unit = np.clip((np.where(finite, values, low) - low) / (high - low), 0, 1)
    return np.rint(255 * unit).astype(np.uint8)


def _window(values: Shaped[np.ndarray, " values"]) -> tuple[float, float]:
    if not values.size:
        return 0.0, 1.0
    low, high = np.percentile(values, (0.5, 99.5))
    if high <= low:  # almost all of it is background
        low, high = values.min(), values.max()
    if high <= low:  # all of it is: mid-grey
        low, high = low - 0.5, low + 0.5
    return float(low), float(high)


def overlay(
    image: Shaped[np.ndarray, "height width channels"],
    labels: Integer[np.ndarray, "rows columns"],
    colours: Sequence[str] | None = None,
    outline: int = 2,
    alpha: float = 0.25,
    *,
    shape: tuple[int, int] | None = None,
    window: tuple[float, float] | None = None,
) -> RGB:
    """A label map over its image.

    Both cover the same extent, at resolutions of their own: the image is resized smoothly, the
    labels never are (where `shape` asks for it each pixel shows the nearest label), so that an
    outline is as sharp as the resolution of `labels`.

    `image` (height, width, channels): as in `to_rgb`. An overlay is an image too: draw the reference, then
    the prediction on it.
    `labels` (rows, columns): 0 is background and stays clear; instance maps are welcome.
    `colours`: of classes 1, 2, ...; beyond its end it comes round again.
    `outline`: width of the lines in pixels of the result, drawn inside each class; 0 draws none.
    `alpha`: opacity of the areas inside the outlines, 0 to 1.
    `shape` (height, width), optional: of the result; by default the labels' own.
    `window` (low, high), optional: as in `to_rgb`.

    Returns
    -------
    uint8 (*shape, 3)
    """
    shape = shape or (labels.shape[0], labels.shape[1])
    labels = _nearest(labels, shape)
    base = _resized(to_rgb(image, window), shape)
    palette = _as_rgb(colours or CLASS_COLOURS)
    paint = palette[(labels.astype(np.int64) - 1) % len(palette)]
    opacity = np.where(_edges(labels, outline), np.float32(1), np.float32(alpha)) * (labels > 0)
    mixed = base + opacity[..., None] * (paint - base.astype(np.float32))
    return np.rint(mixed).astype(np.uint8)


def heat(values: Float[np.ndarray, "rows columns"], shape: tuple[int, int], high: float) -> RGB:
    """Numbers as colours, from black at 0 over red to a light yellow at `high`, enlarged smoothly.

    `shape` (height, width): of the result.
    """
    from matplotlib import colormaps

    unit = np.clip(values / high if high > 0 else values, 0, 1)
    grey = np.rint(255 * unit).astype(np.uint8)
    enlarged = _resized(np.repeat(grey[..., None], 3, axis=-1), shape)[..., 0]
    return np.rint(255 * colormaps["inferno"](enlarged)[..., :3]).astype(np.uint8)


def _edges(labels: Integer[np.ndarray, "*shape"], width: int) -> Bool[np.ndarray, "*shape"]:
    """Pixels with another label within `width` pixels; the border of the picture is no edge."""
    edges = np.zeros(labels.shape, bool)
    steps = [(down, right) for down in range(width + 1) for right in range(-width, width + 1)]
    for down, right in steps:
        if (down, right) > (0, 0) and down**2 + right**2 <= width**2:
            here, there = _overlap(down, right), _overlap(-down, -right)
            differs = labels[here] != labels[there]
            edges[here] |= differs
            edges[there] |= differs
    return edges


def _overlap(down: int, right: int) -> tuple[slice, slice]:
    """The part of a picture that its copy moved down and right still covers."""
    return slice(max(down, 0), min(down, 0) or None), slice(max(right, 0), min(right, 0) or None)


def _nearest(labels: Integer[np.ndarray, "_ _"], shape: Sequence[int]) -> Integer[np.ndarray, "_ _"]:
    if labels.shape == tuple(shape):
        return labels
    sizes = zip(labels.shape, shape, strict=True)
    rows, columns = ((2 * np.arange(new) + 1) * old // (2 * new) for old, new in sizes)
    return labels[rows[:, None], columns]


def _resized(rgb: RGB, shape: tuple[int, int]) -> RGB:
    if rgb.shape[:2] == shape:
        return rgb
    from PIL import Image

    return np.array(Image.fromarray(rgb).resize(shape[::-1], Image.Resampling.BICUBIC))


def _as_rgb(colours: Sequence[str]) -> UInt8[np.ndarray, "colours 3"]:
    return np.array([list(bytes.fromhex(colour.removeprefix("#"))) for colour in colours], np.uint8)
