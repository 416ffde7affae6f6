"""All networks that can be trained: their configurations, told apart by `network`, and how each is built."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Discriminator, Tag

from swipe_core.errors import NETWORK_TAG
from swipe_core.model.build import SwipeConfig, build_swipe
from swipe_core.model.network_config import NetworkConfig
from swipe_core.model.segmenter import Segmenter

SWIPE = "swipe"  # the network where none is named


def network_name(section: Any) -> str:
    """Which network a section `model` is about."""
    if isinstance(section, Mapping):
        return str(section.get("network", SWIPE))
    return str(getattr(section, "network", SWIPE))


def _tag(section: Any) -> str:
    return NETWORK_TAG + network_name(section)


AnyNetwork = Annotated[Annotated[SwipeConfig, Tag(f"{NETWORK_TAG}swipe")], Discriminator(_tag)]


@dataclass(frozen=True)
class Kind:
    """A kind of network.

    Attributes
    ----------
    title
        For people.
    config
        Its configuration.
    build
        Makes it, freshly initialised.
    """

    title: str
    config: type[NetworkConfig]
    build: Callable[[Any], Segmenter]


KINDS: dict[str, Kind] = {
    SWIPE: Kind("SwIPE", SwipeConfig, build_swipe),
}


def build_network(config: NetworkConfig) -> Segmenter:
    """A freshly initialised network. Seed torch before calling for a reproducible start."""
    return KINDS[config.network].build(config)
