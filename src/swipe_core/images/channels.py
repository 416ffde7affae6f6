"""Channels: what the last axis of an image counts, which are chosen, and what a model can be given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from swipe_core.errors import ImageError, nearest_name

ChannelAxis = Literal["colour", "channel", "time", "page", "layer"]
"""Colours of a picture, contrasts or dyes, points in time, pages of a file, layers of a segmentation."""

COUNTED: dict[ChannelAxis, str] = {
    "colour": "colours",
    "channel": "channels",
    "time": "time points",
    "page": "pages",
    "layer": "layers of segments",
}
COLOURS = ("red", "green", "blue")
LONGEST_NAME = 40


@dataclass(frozen=True)
class Channels:
    """The last axis of an image, or that of the images that a model takes."""

    count: int
    """Its length."""
    axis: ChannelAxis = "channel"
    """What it counts. Only what a file declares as colour is colour."""
    names: tuple[str, ...] = ()
    """One for each, where the file names them."""

    def __str__(self) -> str:
        if self.count == 1:
            return "1 channel"
        names = ", ".join(name[:LONGEST_NAME] for name in self.names)
        return f"{self.count} {self.counted}" + (f" ({names})" if names else "")

    @property
    def counted(self) -> str:
        """What the axis counts, as a plural."""
        return COUNTED[self.axis]

    def positions(self, chosen: Sequence[str], name: str) -> list[int]:
        """Return where channels lie that are called by their numbers, from 1 on, or by their names."""
        return [self._position(each, name) for each in chosen]

    def _position(self, channel: str, image: str) -> int:
        names = self.names or (COLOURS if self.is_colour else ())
        called = [position for position, name in enumerate(names) if name.lower() == channel.lower()]
        if len(called) == 1:
            return called[0]
        if channel.isdecimal() and 1 <= int(channel) <= self.count:
            return int(channel) - 1
        raise ImageError(
            f"{image} has {self}, and no channel {channel!r}: choose a number from 1 to {self.count}"
            f"{', or a name of these' * bool(names)}.{nearest_name(channel, names)}"
        )

    def chosen(self, positions: Sequence[int]) -> Channels:
        """Return some of them; three that someone chose may serve as red, green and blue."""
        names = tuple(self.names[position] for position in positions if self.names)
        return Channels(len(positions), "colour" if len(positions) == len(COLOURS) else "channel", names)

    @property
    def is_colour(self) -> bool:
        return self.axis == "colour" and self.count == len(COLOURS)

    def fits(self, taken: Channels) -> bool:
        """Whether images like this can be given to a model.

        Colours serve a model of grey by their luminance, and grey is repeated for a model of colour.
        Nothing else is mixed or repeated, and what is not declared as colour serves no model of colour.
        """
        if self.count == taken.count:
            return self.count == 1 or self.is_colour or not taken.is_colour
        return (self.is_colour and taken.count == 1) or (self.count == 1 and taken.is_colour)

    def remedy(self, taken: Channels) -> str:
        """Say what to do at the command line where they do not fit."""
        some = self.names[: taken.count] or [str(n + 1) for n in range(taken.count)]
        if self.axis == "layer":
            return "export them as one label map"
        if self.count < taken.count:
            return "give an image of as many"
        option = "--time" if self.axis == "time" else "--channel"
        what = "which" if taken.count > 1 else "one"
        chosen = f"choose {what} with {option}, as in {option} {' '.join(map(_quoted, some))}"
        return "segment each page by itself with --frames, or " * (self.axis == "page") + chosen


def channels_taken(ndim: int, count: int, axis: ChannelAxis | None) -> Channels:
    """Return the channels of a model; where it does not name them, three of a 2D model are colours."""
    return Channels(count, axis or ("colour" if (ndim, count) == (2, len(COLOURS)) else "channel"))


def _quoted(name: str) -> str:
    return f'"{name}"' if " " in name else name


def stack_refused(path: Path, what: str) -> ImageError:
    """Return what to raise where a file holds several pictures, and one is needed."""
    return ImageError(
        f"{path} is {what}, and a 2D image is needed here: segment it frame by frame "
        "(swipe predict --frames; in the window, set this axis to frames), or split the file."
    )
