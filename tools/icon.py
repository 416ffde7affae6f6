"""Draw the icon: one shape, in pixels on the left and as a continuous function on the right.

python tools/icon.py src/napari_swipe/icon.png
"""

from __future__ import annotations

import argparse

import numpy as np
from PIL import Image

SIZE = 256  # pixels along an edge
SAMPLES = 8  # along each axis of a pixel
CELLS = 14  # of the coarse half, along an edge
GAP = 0.1  # between two cells, of a cell
PAPER, SHAPE, RIM = (24, 28, 38), (255, 140, 66), (255, 226, 188)
CORNER = 0.18  # radius, of the edge


def occupancy(y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Return the shape's function in [-1, 1] x [-1, 1]: above 0 inside."""
    angle, radius = np.arctan2(y, x), np.hypot(y, x)
    return 0.58 + 0.09 * np.cos(3 * angle + 2.4) + 0.05 * np.cos(2 * angle + 0.9) - radius


def coarse(position: np.ndarray) -> np.ndarray:
    """Return the centres of the cells that positions lie in."""
    return (np.floor((position + 1) / 2 * CELLS) + 0.5) / CELLS * 2 - 1


def between_cells(position: np.ndarray) -> np.ndarray:
    """Return where the gaps between cells are."""
    return np.abs((position + 1) / 2 * CELLS % 1 - 0.5) > 0.5 - GAP / 2


def draw() -> Image.Image:
    """Return the icon, whose corners are transparent."""
    count = SIZE * SAMPLES
    line = (np.arange(count) + 0.5) / count * 2 - 1
    y, x = np.meshgrid(line, line, indexing="ij")
    left = x < 0
    value = np.where(left, occupancy(coarse(y), coarse(x)), occupancy(y, x))
    colours = np.empty((count, count, 4), np.float32)
    colours[...] = (*PAPER, 255)
    colours[(value > 0) & ~(left & (between_cells(y) | between_cells(x)))] = (*SHAPE, 255)
    colours[~left & (np.abs(value) < 0.025)] = (*RIM, 255)
    beyond = np.maximum(np.abs(np.stack([y, x])) - (1 - 2 * CORNER), 0)
    colours[np.hypot(*beyond) > 2 * CORNER, 3] = 0
    pixels = colours.reshape(SIZE, SAMPLES, SIZE, SAMPLES, 4).mean((1, 3))
    return Image.fromarray(pixels.round().astype(np.uint8), "RGBA")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("outputs", nargs="+", metavar="FILE", help="PNG files to write")
    for path in parser.parse_args().outputs:
        draw().save(path, optimize=True)


if __name__ == "__main__":
    main()
