"""All networks that can be trained, each by its `KIND`: configurations are told apart by `network`."""

from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Any, Union

from pydantic import Discriminator, Tag

from swipe_core.errors import NETWORK_TAG
from swipe_core.networks.catalogue import CATALOGUE, SWIPE
from swipe_core.networks.config import Kind, NetworkConfig
from swipe_core.networks.segmenter import Segmenter

KINDS: dict[str, Kind] = {
    name: import_module(f"swipe_core.networks.{entry.module or name}").KIND
    for name, entry in CATALOGUE.items()
}


def network_name(section: Any) -> str:
    """Return which network a section `model` is about."""
    if isinstance(section, Mapping):
        return str(section.get("network", SWIPE))
    return str(getattr(section, "network", SWIPE))


def _tag(section: Any) -> str:
    return NETWORK_TAG + network_name(section)


if TYPE_CHECKING:
    AnyNetwork = NetworkConfig
else:
    _TAGGED = tuple(Annotated[kind.config, Tag(NETWORK_TAG + name)] for name, kind in KINDS.items())
    AnyNetwork = Annotated[Union[_TAGGED], Discriminator(_tag)]  # noqa: UP007


def build_network(config: NetworkConfig) -> Segmenter:
    """Return a freshly initialised network. Seed torch before calling for a reproducible start."""
    model = KINDS[config.network].build(config)
    model.config = config
    return model
