"""File > Open Sample > SwIPE Segment: images with reference labels, from `swipe_core.samples`."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari_swipe.layers.data import LayerData


def polyp() -> list[LayerData]:
    """A colonoscopy frame with one clear polyp."""
    return sample_layers("polyp")


def flat_polyp() -> list[LayerData]:
    """A colonoscopy frame with a flat polyp beside reflections, which is hard to see."""
    return sample_layers("flat_polyp")


def hippocampus() -> list[LayerData]:
    """A brain MRI, cropped around one hippocampus."""
    return sample_layers("hippocampus")


def nuclei() -> list[LayerData]:
    """Cell nuclei under a fluorescence microscope."""
    return sample_layers("nuclei")


def sample_layers(name: str) -> list[LayerData]:
    """The image of a sample, and its reference labels, hidden at first.

    The image's `metadata` holds its file's ``path``, its ``attribution``, and under ``swipe_model``
    the name of the model that segments such images.
    """
    # Imported when a sample is opened: they bring torch, and napari's start is the user's time.
    from napari_swipe.layers.data import image_layer_data, label_layer_data
    from napari_swipe.layers.metadata import LayerMetadata
    from swipe_core.images import read_image, read_label_map
    from swipe_core.pictures import default_colours
    from swipe_core.samples import SAMPLES

    sample = SAMPLES[name]
    array, arguments, kind = image_layer_data(read_image(sample.image_path))
    arguments["name"] = sample.title
    arguments["metadata"] |= LayerMetadata(model=sample.model).entries | {"attribution": sample.attribution}
    labels, label_arguments, label_kind = label_layer_data(
        read_label_map(sample.label_path),
        f"{sample.title} reference",
        sample.class_names,
        default_colours(len(sample.class_names)),
    )
    label_arguments["visible"] = False
    label_arguments["metadata"]["attribution"] = sample.attribution
    return [(array, arguments, kind), (labels, label_arguments, label_kind)]
