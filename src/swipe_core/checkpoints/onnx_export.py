"""A checkpoint as ONNX: one graph from an image to what is kept of it, one from that and points to logits."""

from collections.abc import Sequence
from pathlib import Path

import torch

from swipe_core.checkpoints.file import load_checkpoint
from swipe_core.checkpoints.graphs import Decoder, Encoder, for_graphs, write_graph
from swipe_core.checkpoints.sharing import new_folder, page, settings_text
from swipe_core.data.preprocessing import PreprocessingConfig
from swipe_core.errors import CheckpointError

USE = """\
`encoder.onnx` takes `image`, float32 of shape {image}, and gives {tensors}.
`decoder.onnx` takes `points`, float32 of shape (1, N, {ndim}) for any N, and these; it gives `logits`
(1, N, {outputs}): of the background, of {classes}{interior}. Points are in array-axis order, in
[-1, 1] over the extent of the image: voxel i of n lies at (2 i + 1) / n - 1. Encode once, then ask for any
number of points.

What has to be done to an image before stands in `settings.json` under `preprocessing` (intensity:
{intensity}). A larger image is encoded in overlapping windows of this size, or brought to it; the program
does so by itself, these files do not.

    import numpy as np, onnxruntime as ort

    encoder, decoder = ort.InferenceSession("encoder.onnx"), ort.InferenceSession("decoder.onnx")
    kept = encoder.run(None, {{"image": image}})
    names = [output.name for output in encoder.get_outputs()]
    logits = decoder.run(None, {{"points": points, **dict(zip(names, kept))}})[0]
    is_class = logits[..., :{class_count}].argmax(axis=-1)

Compared with torch when they were written: at most {differences} apart."""


def export_onnx(checkpoint: str | Path, folder: str | Path, shape: Sequence[int] | None = None) -> list[Path]:
    """Write a folder with the network as two graphs, the settings, and a page; return its files.

    Raises `ImageError` when the extra ``onnx`` is not installed, and `CheckpointError` when the network
    cannot be written as ONNX, or the folder holds something.

    `shape`: voxels of the images that the encoder takes; None: those of the training, as `grid_shape` has it.
    """
    loaded = load_checkpoint(checkpoint)
    content = loaded.content
    shape = grid_shape(content.preprocessing, shape)
    model = for_graphs(loaded.build())
    folder = new_folder(folder)
    files = [folder / file for file in ("encoder.onnx", "decoder.onnx", "settings.json", "README.md")]
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(1, model.channels, *shape, generator=generator)
    points = 2.2 * torch.rand(1, 500, model.ndim, generator=generator) - 1.1
    with torch.no_grad():
        kept = model.encode(image).for_decoding()
    names = [f"kept_{number}" for number in range(len(kept.tensors))]
    differences = (
        write_graph(files[0], Encoder(model), [image], (["image"], names)),
        write_graph(
            files[1],
            Decoder(model, kept),
            [points, kept.tensors],
            (["points", *names], ["logits"]),
            any_length="N",
        ),
    )
    files[2].write_text(settings_text(content), encoding="utf-8")
    use = USE.format(
        image=(1, model.channels, *shape),
        tensors=", ".join(f"`{name}` {tuple(t.shape)}" for name, t in zip(names, kept.tensors, strict=True)),
        ndim=model.ndim,
        outputs=model.outputs,
        classes=", ".join(content.labels.class_names),
        interior=", and of how deep inside its object a point lies" if model.has_interior else "",
        intensity=content.preprocessing.intensity,
        class_count=model.classes,
        differences=" and ".join(f"{difference:.1g}" for difference in differences),
    )
    files[3].write_text(page(content, use), encoding="utf-8")
    return files


def grid_shape(config: PreprocessingConfig, shape: Sequence[int] | None = None) -> tuple[int, ...]:
    """Return the voxels that a network of fixed size takes along each axis.

    Raises `CheckpointError` when it has another number of axes, or none is given of a model that has no size
    of its own.
    """
    chosen = shape or config.size or config.crop_size
    if chosen is None or len(chosen) != config.ndim or min(chosen) < 1:
        raise CheckpointError(
            f"Say with --shape how many voxels an image has along each of its {config.ndim} axes"
            + (f"; got {' '.join(map(str, shape))}." if shape else ": this model has no size of its own.")
        )
    return tuple(chosen)
