"""The commands and their options, without torch: help and usage must not wait for what the work needs."""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import resources

from swipe_core.cli.arguments import (
    PrintAndExit,
    add_device,
    add_output,
    add_workers,
    parse_with_fields,
    text_parser,
    typed,
)
from swipe_core.data import SPLITS
from swipe_core.samples import sample_folder


@dataclass(frozen=True)
class Command:
    """A command; the module of `swipe_core.cli` with its name has a ``main`` that takes its options."""

    name: str
    summary: str
    """What it does, in one line."""
    declare: Callable[[argparse.ArgumentParser], None]
    """Adds its options, and its examples as the epilog, to a parser."""
    takes_fields: bool = False
    """Whether ``--section.field value`` replaces fields of a configuration: they are parsed into
    ``overrides``, as pairs.
    """

    def parser(self) -> argparse.ArgumentParser:
        """Return the parser of its options."""
        parser = text_parser(self.summary, prog=" ".join(typed(self.name)))
        self.declare(parser)
        return parser

    def parse(self, words: Sequence[str]) -> argparse.Namespace:
        """Return the options, and ``words`` as they were typed; ends the program with the usage."""
        parser = self.parser()
        options = parse_with_fields(parser, words) if self.takes_fields else parser.parse_args(words)
        options.words = list(words)
        return options


MODEL = "a .safetensors file that `swipe train` wrote, or a name of `swipe models list`"
DATA = "folder with images/ and labels/, or with splits; 'sample' is the small nuclei set of the package"


def data_folder(text: str) -> str:
    """Return the folder of a data set; ``sample`` is the one that comes with the package."""
    return str(sample_folder("nuclei")) if text == "sample" else text


def _train(parser: argparse.ArgumentParser) -> None:
    from swipe_core.files.shipped import shipped_names
    from swipe_core.networks.catalogue import CATALOGUE

    configs = shipped_names(resources.files("swipe_core") / "configs")
    parser.epilog = f"""\
examples:
  swipe train nuclei --data sample --output runs/nuclei --max-minutes 5
  swipe train my.yaml --data /data/liver --output runs/liver --device cuda
  swipe train my.yaml --data /data/liver --output runs/liver --resume
  swipe train nuclei --data cells --output runs/fast --training.steps 2000 --batch.size 4
  swipe train nuclei --data sample --output runs/u --model.network unet --max-minutes 5
  swipe train my.yaml --data /data/liver --output runs/mine --from runs/liver/best.safetensors
  torchrun --nproc-per-node 2 -m swipe_core train my.yaml --data /data/liver --output runs/liver

any field of the configuration can be replaced with --section.field value; --model.network NAME takes another
network at its own size, of {", ".join(CATALOGUE)}.
press Ctrl-C to stop after the step in progress; the state is saved, and --resume goes on from there.
"""
    parser.add_argument(
        "config", metavar="CONFIG", help=f"a shipped name ({', '.join(configs)}) or a YAML file"
    ).words = configs  # type: ignore[attr-defined]
    parser.add_argument(
        "--data",
        required=True,
        type=data_folder,
        nargs="+",
        metavar="DIR",
        help="folders with images/ and labels/, or with train/ and val/ that hold them; "
        "'sample' is the small nuclei set that comes with the package",
    )
    add_output(parser, "RUN_DIR", "folder for checkpoints, log and curves")
    parser.add_argument(
        "--max-minutes", type=float, metavar="M", help="end after M minutes; the learning rate follows"
    )
    parser.add_argument(
        "--from",
        dest="start",
        metavar="MODEL",
        help="start from the weights of a trained model (a file, or the name of one that comes with the "
        "program), as far as they fit; the network has to be the same, but one of `swipe quick` teaches any, "
        "where loss.retention_weight is set",
    )
    parser.add_argument(
        "--resume", action="store_true", help="continue the run in RUN_DIR; without a saved state, begin it"
    )
    add_device(parser)


def _quick(parser: argparse.ArgumentParser) -> None:
    from swipe_core.data.labels import IGNORED

    parser.epilog = f"""\
examples:
  swipe quick scribbled --output mine.safetensors
  swipe predict mine.safetensors more/ --output labels
  swipe quick scribbled --classes liver spleen --output organs.safetensors

Images are encoded once, by an encoder that is not trained, and only a small decoder learns, in seconds.
A few strokes of each class will do; voxels of {IGNORED} are not annotated. From more, use `swipe train`.
"""
    parser.add_argument("data", type=data_folder, metavar="DATA_DIR", help=DATA)
    parser.add_argument(
        "--classes", nargs="+", default=[], metavar="NAME", help="names of the classes 1, 2, ..."
    )
    parser.add_argument(
        "--instances",
        action="store_true",
        help="labels number single objects of one class, as one stroke in each: touching ones are told apart",
    )
    parser.add_argument("--minutes", type=float, metavar="M", help="learn for M minutes at most")
    add_output(parser, "FILE", "model to write, .safetensors")


PREDICT_EPILOG = """\
examples:
  swipe models list
  swipe predict nuclei cells/ --output labels --objects
  swipe predict runs/nuclei/best.safetensors cell.png --output labels --factor 4
  swipe predict runs/liver/best.safetensors ct.nii.gz --output labels --spacing 0.5 0.5 0.5
  swipe predict hippocampus mri.nii.gz --output labels --region 10:30 : 5:45
  swipe predict nuclei movie.tif --output labels --frames --probability nucleus
  swipe predict nuclei dyes.ome.tif --output labels --channel DAPI
  swipe predict nuclei thousands/ --output labels --workers 8

labels have the kind of file that the image had where that can hold labels, with its position and
spacing where it has them (TIFF: the spacing, PNG: neither); 2D images get a picture NAME_overlay.png
besides. Numbers for axes are in the order z y x.

A call that was broken off, by Ctrl-C or by being killed, goes on where it ended when it is given again:
images whose labels are there, and of which the same was asked, are kept. Of several images there is a
table in the end, report.csv, of what became of each. An image that fails does not keep the others.

Folders are searched with the folders inside; a series of DICOM slices is one image. Of a file with several
pictures, such as the positions of an OME-TIFF, each is segmented: NAME_1, NAME_2 and so on. What is left
out is named in the end and in report.csv.

exit codes: 0 all is segmented; 2 something failed; 3 all is segmented that can be read, but images were
left out, such as those of other formats (files that are no images, and reduced copies, do not count).
"""


def _predict(parser: argparse.ArgumentParser) -> None:
    parser.epilog = PREDICT_EPILOG
    _add_model(parser)
    parser.add_argument(
        "images",
        metavar="IMAGE_OR_DIR",
        nargs="+",
        help="image files, or folders of them, with the folders inside",
    )
    add_output(parser, "DIR", "folder for the label files")
    parser.add_argument(
        "--list",
        action=PrintAndExit,
        text=_models,
        help="print the models that come with the program, and end",
    )
    add_device(parser)
    _add_part(parser.add_argument_group("what is segmented"))
    how = parser.add_argument_group("how")
    size = how.add_mutually_exclusive_group()
    size.add_argument("--factor", type=float, metavar="F", help="F times as many voxels along each axis")
    size.add_argument(
        "--spacing",
        type=float,
        nargs="+",
        metavar="S",
        help="voxel spacing of the labels, in the image's unit",
    )
    _add_settings(how)
    _add_maps(parser.add_argument_group("what is written besides the labels"))
    many = parser.add_argument_group("many images, and large ones")
    many.add_argument("--overwrite", action="store_true", help="segment anew what is finished already, too")
    many.add_argument(
        "--blocks",
        action="store_true",
        help="segment every TIFF block by block, as is done with zarr and with TIFF of more than 16 million "
        "voxels: memory need not hold the image",
    )
    add_workers(many, "the images, and the cores")


EXPORT_EPILOG = """\
examples:
  swipe export hippocampus mri.nii.gz --output mri.stl --tolerance 0.05
  swipe export hippocampus mri.nii.gz --output mri.glb
  swipe export nuclei cells.png --output cells.geojson
  swipe export hippocampus mri.nii.gz --output mri.svg --slice 12
  swipe export nuclei cells.png --output cells.csv --tolerance 0.01
  swipe export hippocampus SERIES --output mri.dcm --as rtstruct
  swipe export hippocampus mri.nii.gz --output mri.swipe
  swipe export mri.swipe --output mri.stl --tolerance 0.05

the ending of the file decides what it holds:
{formats}

meshes are closed, in (x, y, z) order and in the unit of the image. Contours are in pixels of the image, and
(0, 0) is the outer corner of the first one. The tolerance is how far they may be from the boundary of the
continuous segmentation, and on it alone depends how many triangles or vertices they have.
"""


def _export(parser: argparse.ArgumentParser) -> None:
    from swipe_core.export.formats import EXPORTS

    formats = "\n".join(f"  {kind.suffix:9} {kind.name}" for kind in EXPORTS)
    parser.epilog = EXPORT_EPILOG.format(formats=formats)
    _add_model(parser)
    parser.add_argument(
        "image",
        nargs="?",
        metavar="IMAGE",
        help="an image file, or a folder with a DICOM series; none where MODEL is a .swipe file",
    )
    add_output(parser, "FILE", "file to write; its ending decides what it holds")
    words = [kind.word for kind in EXPORTS if kind.word]
    parser.add_argument("--as", dest="kind", choices=words, default="", help="what a .dcm file holds")
    parser.add_argument(
        "--tolerance",
        type=float,
        metavar="T",
        help="largest distance from the boundary, in the image's unit (default: a tenth of its spacing)",
    )
    parser.add_argument(
        "--slice",
        dest="slices",
        type=int,
        nargs="+",
        metavar="N",
        help="contours of a volume in these slices alone, counted from 0 on along its first axis",
    )
    parser.add_argument(
        "--factor",
        type=float,
        default=1.0,
        metavar="F",
        help="labels F times as fine as the image along each axis (default: 1)",
    )
    add_device(parser)
    _add_part(parser.add_argument_group("what is segmented"), frames=False)
    _add_settings(parser.add_argument_group("how"))


def _models() -> str:
    from swipe_core.cli.models import models_text

    return models_text()


def _add_model(parser: argparse.ArgumentParser) -> None:
    from swipe_core.checkpoints.library import named_checkpoints

    action = parser.add_argument("checkpoint", metavar="MODEL", help=MODEL)
    action.words = list(named_checkpoints())  # type: ignore[attr-defined]


def _add_settings(group: argparse._ActionsContainer) -> None:
    from swipe_core.cli.options import add_inference_options

    add_inference_options(group)


def _add_part(group: argparse._ActionsContainer, *, frames: bool = True) -> None:
    group.add_argument(
        "--region",
        type=_span,
        nargs="+",
        metavar="START:STOP",
        help="a part of the image alone: its first voxel and the one behind its last, for each axis of the "
        "image; an end that is left out is that of the image",
    )
    if frames:
        group.add_argument("--frames", action="store_true", help="3D images with a 2D model, frame by frame")
    group.add_argument(
        "--channel",
        "--time",
        dest="channels",
        action="extend",
        nargs="+",
        default=[],
        metavar="C",
        help="the channels of the image, or the point in time, that are given to the model, in its order: "
        "their numbers, from 1 on, or their names where the file has some",
    )


def _add_maps(group: argparse._ActionsContainer) -> None:
    group.add_argument(
        "--objects", action="store_true", help="NAME_objects: each object by a number of its own, and a .csv"
    )
    group.add_argument(
        "--instances",
        action="store_true",
        help="NAME_objects without the .csv; as with --objects, touching ones are told apart where the model "
        "was trained for that (model.interior); of other models objects are the connected parts, or, with "
        "--touching distance, parted at necks",
    )
    group.add_argument(
        "--probability",
        action="append",
        default=[],
        metavar="CLASS",
        help="NAME_probability_CLASS, in [0, 1]",
    )
    group.add_argument(
        "--uncertainty",
        action="store_true",
        help="NAME_uncertainty: 1 where two classes are equally probable",
    )


def _span(text: str) -> tuple[int | None, int | None]:
    first, colon, last = text.partition(":")
    if not colon or not all(end.isdecimal() or not end for end in (first, last)):
        raise argparse.ArgumentTypeError(
            f"{text!r} is no START:STOP of whole numbers, such as 10:60 or 10: or :"
        )
    return int(first) if first else None, int(last) if last else None


def _evaluate(parser: argparse.ArgumentParser) -> None:
    parser.epilog = """\
examples:
  swipe evaluate runs/nuclei/best.safetensors data/nuclei
  swipe evaluate runs/nuclei/best.safetensors data/nuclei --split test --json scores.json
  swipe evaluate hippocampus data/hippocampus --image-factor 0.5 1 1
  swipe evaluate polyp data/polyps --threshold 0.6 --mirrored-axes 1
"""
    _add_model(parser)
    parser.add_argument("data", type=data_folder, metavar="DATA_DIR", help=DATA)
    parser.add_argument(
        "--split",
        choices=(*SPLITS, "all"),
        help="part of the data to use; a folder without parts is split 60:20:20 (default: val where there "
        "are parts, and where the model was trained on the folder; else all)",
    )
    parser.add_argument(
        "--seed", type=int, metavar="N", help="of that 60:20:20 split (default: the one trained with)"
    )
    parser.add_argument(
        "--tolerance",
        type=float,
        default=1.0,
        metavar="T",
        help="surfaces closer than this agree, in the image's unit (default: 1)",
    )
    parser.add_argument(
        "--image-factor",
        type=float,
        nargs="+",
        metavar="F",
        help="resample the images by F before they are segmented, and compare on the labels' own grid: "
        "one number, or one for each axis in the order z y x; 0.5 1 1 makes slices twice as thick",
    )
    parser.add_argument(
        "--instances",
        action="store_true",
        help="compare single objects, too: average precision, panoptic quality and count; connected parts "
        "where the model does not tell touching objects apart, or the labels do not",
    )
    parser.add_argument(
        "--reliability",
        metavar="FILE",
        help="say how far the probabilities can be trusted, and draw it as a PNG",
    )
    _add_settings(parser.add_argument_group("settings that are changed for the comparison"))
    parser.add_argument("--json", metavar="FILE", help="write all scores to this file")
    add_device(parser)


def _configure(parser: argparse.ArgumentParser) -> None:
    from swipe_core.data.labels import IGNORED
    from swipe_core.networks.catalogue import CATALOGUE, PRESETS, SWIPE

    presets = "\n".join(f"  {name:9} {words}" for name, words in PRESETS.items())
    networks = "\n".join(f"  {name:9} {entry.title}, {entry.year}" for name, entry in CATALOGUE.items())
    parser.epilog = f"""\
presets, for a new network (in 2D, SwIPE's first two start from weights learned on ImageNet):
{presets}

networks:
{networks}

examples:
  swipe configure quick --data scribbled --classes nucleus --sparse --output mine.yaml
  swipe train mine.yaml --data scribbled --output runs/mine --max-minutes 5

  swipe configure quick --network unet --data scribbled --classes nucleus --sparse --output u.yaml

  swipe configure --from polyp --data scribbled --classes polyp --sparse --output tune.yaml
  swipe train tune.yaml --data scribbled --output runs/tune --from polyp --max-minutes 5
"""
    parser.add_argument("preset", nargs="?", choices=list(PRESETS), help="size of a new network")
    parser.add_argument(
        "--network",
        choices=list(CATALOGUE),
        metavar="NAME",
        help=f"the new network: {', '.join(CATALOGUE)} (default: {SWIPE})",
    )
    parser.add_argument(
        "--from",
        dest="start",
        metavar="MODEL",
        help="fine-tune this model instead: a file, or a shipped name; one of `swipe quick` teaches a new "
        "network",
    )
    parser.add_argument(
        "--data", required=True, type=data_folder, metavar="DIR", help="folder as `swipe train` takes it"
    )
    parser.add_argument("--classes", required=True, nargs="+", metavar="NAME", help="classes 1, 2, ...")
    parser.add_argument("--ndim", type=int, choices=(2, 3), default=2, help="axes of the images (default: 2)")
    meaning = parser.add_mutually_exclusive_group()
    meaning.add_argument(
        "--sparse", action="store_true", help=f"voxels of {IGNORED} are unpainted, and teach nothing"
    )
    meaning.add_argument("--instances", action="store_true", help="labels number objects of one class")
    parser.add_argument("--minutes", type=float, default=10.0, metavar="M", help="time budget (default: 10)")
    add_device(parser)
    add_output(parser, "FILE", "YAML file to write")


def _figures(parser: argparse.ArgumentParser) -> None:
    parser.epilog = """\
examples:
  swipe figures zoom runs/nuclei/best.safetensors cell.png --output zoom.png
  swipe figures cases runs/nuclei/best.safetensors data/nuclei --count 4 --output cases.png
  swipe figures attention runs/polyp/best.safetensors frame.jpg --output attention.png
  swipe figures shares runs/share_*/best.safetensors --output shares.png
  swipe figures runs runs/sparse runs/full --output runs.png
"""
    kinds = parser.add_subparsers(dest="kind", required=True, metavar="KIND")
    zoom = kinds.add_parser("zoom", help="one boundary at 1x, 4x and 16x, from one encoding")
    attention = kinds.add_parser("attention", help="which scale decided where")
    cases = kinds.add_parser("cases", help="images, references and predictions side by side")
    shares = kinds.add_parser("shares", help="validation Dice against the number of training cases")
    shares.add_argument(
        "checkpoints",
        metavar="CHECKPOINT",
        nargs="+",
        help="one from each run, with its --training.case_share",
    )
    runs = kinds.add_parser("runs", help="validation Dice against minutes of training")
    runs.add_argument("folders", metavar="RUN_DIR", nargs="+", help="folders that `swipe train` wrote")
    for kind in (zoom, attention, cases):
        _add_model(kind)
    for kind in (zoom, attention):
        kind.add_argument("image", metavar="IMAGE", help="an image file")
    zoom.add_argument("--width", type=int, default=32, metavar="N", help="voxels shown (default: 32)")
    cases.add_argument("data", type=data_folder, metavar="DATA_DIR", help=DATA)
    cases.add_argument("--split", default="val", choices=SPLITS, help="part of the data (default: val)")
    cases.add_argument(
        "--count", type=int, default=4, metavar="N", help="cases, evenly spread over the split (default: 4)"
    )
    for kind in (zoom, attention, cases, shares, runs):
        add_output(kind, "FILE", "PNG file to write")
    for kind in (zoom, attention, cases):
        add_device(kind)


def _models_command(parser: argparse.ArgumentParser) -> None:
    parser.epilog = """\
examples:
  swipe models list
  swipe models show polyp
  swipe models show runs/nuclei/best.safetensors
  swipe models add runs/nuclei --name my-nuclei
  swipe models remove my-nuclei
  swipe models export nuclei --to huggingface --output nuclei-hf
  swipe models export nuclei --to onnx --shape 256 256 --output nuclei-onnx
  swipe models export nuclei --to bioimageio --factor 2 --output nuclei-package
"""
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    verbs.add_parser("list", help="print the models that have a name, with their cards")
    _add_model(verbs.add_parser("show", help="print what a model takes, finds and was made of"))
    add = verbs.add_parser("add", help="copy a model to swipe-models in your home folder, to be used by name")
    add.add_argument("source", metavar="FILE_OR_DIR", help="a .safetensors file, or the folder of a run")
    add.add_argument("--name", metavar="NAME", help="(default: that of the file, or of the run's folder)")
    export = verbs.add_parser("export", help="write a model as others share them")
    _add_model(export)
    export.add_argument(
        "--to",
        required=True,
        choices=("huggingface", "onnx", "bioimageio"),
        help="a folder for Hugging Face, encoder and decoder in ONNX, or a package of bioimage.io",
    )
    add_output(export, "DIR", "folder to write, new or empty")
    fixed = export.add_argument_group("of fixed size (onnx, bioimageio)")
    fixed.add_argument(
        "--shape",
        type=int,
        nargs="+",
        metavar="N",
        help="voxels of the image along each axis (default: as the model was trained)",
    )
    package = export.add_argument_group("of a package (bioimageio)")
    package.add_argument(
        "--factor",
        type=float,
        default=1.0,
        metavar="F",
        help="F times as many voxels come out along each axis",
    )
    package.add_argument(
        "--image", metavar="IMAGE", help="for its test and cover (default: the sample of the model)"
    )
    remove = verbs.add_parser("remove", help="delete a model that was added")
    remove.add_argument("name", metavar="NAME", help="its name in `swipe models list`")


def _doctor(parser: argparse.ArgumentParser) -> None:
    parser.epilog = """\
examples:
  swipe doctor
  swipe doctor --json > doctor.json

what is "missing" not everybody needs. The exit code is 2 where something is not as all commands need it.
"""
    parser.add_argument("--json", action="store_true", help="print it in JSON, as for a report of a fault")


def _completion(parser: argparse.ArgumentParser) -> None:
    parser.epilog = """\
examples:
  echo 'eval "$(swipe completion bash)"' >> ~/.bashrc
  echo 'eval "$(swipe completion zsh)"' >> ~/.zshrc
  swipe completion fish > ~/.config/fish/completions/swipe.fish
"""
    parser.add_argument("shell", choices=("bash", "zsh", "fish"), help="the shell that reads the script")


COMMANDS = {
    command.name: command
    for command in (
        Command("predict", "Segment images with a trained model, at any resolution.", _predict),
        Command("export", "Write the boundary itself: meshes, contours, measurements.", _export),
        Command("train", "Train SwIPE, or another network, on images and labels.", _train, takes_fields=True),
        Command("quick", "Learn from a few strokes, in seconds.", _quick),
        Command("evaluate", "Compare a trained model's segmentations with reference labels.", _evaluate),
        Command("configure", "Write a configuration that suits a data set, as the dock would.", _configure),
        Command("figures", "Make pictures of what a trained model does.", _figures),
        Command(
            "models",
            "List the models that have a name, describe, add, export or remove one.",
            _models_command,
        ),
        Command("doctor", "Say what is there that the program can use, and what is missing.", _doctor),
        Command("completion", "Print a script that completes these commands at the Tab key.", _completion),
    )
}
