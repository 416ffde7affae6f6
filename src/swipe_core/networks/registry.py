"""All networks that can be trained: their configurations, told apart by `network`, and how each is built."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Discriminator, Tag

from swipe_core.errors import NETWORK_TAG
from swipe_core.networks.config import NetworkConfig
from swipe_core.networks.iosnet import IOSNetConfig, build_iosnet
from swipe_core.networks.ossnet import OSSNetConfig, build_ossnet
from swipe_core.networks.pranet import PraNetConfig, build_pranet
from swipe_core.networks.res2unet import Res2UNetConfig, build_res2unet
from swipe_core.networks.segmenter import Segmenter
from swipe_core.networks.swipe.build import SwipeConfig, build_swipe
from swipe_core.networks.unet import UNetConfig, build_unet
from swipe_core.networks.unetr import UNETRConfig, build_unetr

SWIPE = "swipe"  # the network where none is named


def network_name(section: Any) -> str:
    """Which network a section `model` is about."""
    if isinstance(section, Mapping):
        return str(section.get("network", SWIPE))
    return str(getattr(section, "network", SWIPE))


def _tag(section: Any) -> str:
    return NETWORK_TAG + network_name(section)


AnyNetwork = Annotated[
    Annotated[SwipeConfig, Tag(f"{NETWORK_TAG}swipe")]
    | Annotated[UNetConfig, Tag(f"{NETWORK_TAG}unet")]
    | Annotated[Res2UNetConfig, Tag(f"{NETWORK_TAG}res2unet")]
    | Annotated[PraNetConfig, Tag(f"{NETWORK_TAG}pranet")]
    | Annotated[UNETRConfig, Tag(f"{NETWORK_TAG}unetr")]
    | Annotated[OSSNetConfig, Tag(f"{NETWORK_TAG}ossnet")]
    | Annotated[IOSNetConfig, Tag(f"{NETWORK_TAG}iosnet")],
    Discriminator(_tag),
]


@dataclass(frozen=True)
class Kind:
    """A kind of network; `swipe_core.networks.catalogue` has it in words.

    Attributes
    ----------
    config
        Its configuration.
    build
        Makes it, freshly initialised.
    """

    config: type[NetworkConfig]
    build: Callable[[Any], Segmenter]


KINDS: dict[str, Kind] = {
    SWIPE: Kind(SwipeConfig, build_swipe),
    "unet": Kind(UNetConfig, build_unet),
    "res2unet": Kind(Res2UNetConfig, build_res2unet),
    "pranet": Kind(PraNetConfig, build_pranet),
    "unetr": Kind(UNETRConfig, build_unetr),
    "ossnet": Kind(OSSNetConfig, build_ossnet),
    "iosnet": Kind(IOSNetConfig, build_iosnet),
}


def build_network(config: NetworkConfig) -> Segmenter:
    """A freshly initialised network. Seed torch before calling for a reproducible start."""
    return KINDS[config.network].build(config)
