"""Segment images with a trained model, at their own or any other resolution."""

from __future__ import annotations

import argparse
import sys
import textwrap
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from swipe_core.checkpoints.card import ModelCard
from swipe_core.checkpoints.file import CheckpointContent, load_checkpoint
from swipe_core.checkpoints.header import ModelDescription, describe_checkpoint
from swipe_core.checkpoints.library import bundled_checkpoints, find_checkpoint
from swipe_core.cli.options import add_inference_options, changed_config
from swipe_core.cli.shared import FAILED, INCOMPLETE, columns, exit_code, finish_under_bar
from swipe_core.compute.cluster import Cluster, local_cluster, remote_cluster
from swipe_core.compute.devices import choose_device
from swipe_core.images.finding import FoundImages, find_images
from swipe_core.prediction.cluster import iter_in_blocks, iter_on_cluster
from swipe_core.prediction.jobs import Job, JobResult, Order, iter_job, predictor_of
from swipe_core.prediction.journal import Journal
from swipe_core.prediction.large_plan import check_large
from swipe_core.prediction.outputs import check_outputs
from swipe_core.prediction.report import REPORT_NAME, BatchReport, check_report
from swipe_core.prediction.request import Request, Span
from swipe_core.prediction.route import job_of
from swipe_core.progress import EachNoticeOnce, map_reports

MOST_LISTED = 50  # images of which each has its line; of more, the bar tells and what failed

EPILOG = """\
examples:
  python scripts/predict.py --list
  python scripts/predict.py nuclei cells/ --output labels --objects
  python scripts/predict.py runs/nuclei/best.safetensors cell.png --output labels --factor 4
  python scripts/predict.py runs/liver/best.safetensors ct.nii.gz --output labels --spacing 0.5 0.5 0.5
  python scripts/predict.py hippocampus mri.nii.gz --output labels --region 10:30 : 5:45
  python scripts/predict.py nuclei movie.tif --output labels --frames --probability nucleus
  python scripts/predict.py nuclei dyes.ome.tif --output labels --channel DAPI
  python scripts/predict.py nuclei thousands/ --output labels --workers 8

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


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("checkpoint", metavar="MODEL", help="a .safetensors file that train.py wrote, or a name of --list")
    add(
        "images",
        metavar="IMAGE_OR_DIR",
        nargs="+",
        help="image files, or folders of them, with the folders inside",
    )
    add("--output", required=True, metavar="DIR", help="folder for the label files")
    add("--list", action=_List, help="print the models that come with the program, and end")
    add("--device", default="auto", metavar="D", help="auto, cpu, cuda or mps (default: auto)")
    what = parser.add_argument_group("what is segmented")
    what.add_argument(
        "--region",
        type=_span,
        nargs="+",
        metavar="START:STOP",
        help="a part of the image alone: its first voxel and the one behind its last, for each axis of the "
        "image; an end that is left out is that of the image",
    )
    what.add_argument("--frames", action="store_true", help="3D images with a 2D model, frame by frame")
    what.add_argument(
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
    how.add_argument(
        "--method",
        choices=("mise", "dense"),
        help="mise: refine at boundaries only (default); dense: ask at every voxel",
    )
    add_inference_options(how)
    more = parser.add_argument_group("what is written besides the labels")
    more.add_argument(
        "--objects", action="store_true", help="NAME_objects: each object by a number of its own, and a .csv"
    )
    more.add_argument(
        "--probability",
        action="append",
        default=[],
        metavar="CLASS",
        help="NAME_probability_CLASS, in [0, 1]",
    )
    more.add_argument(
        "--uncertainty",
        action="store_true",
        help="NAME_uncertainty: 1 where two classes are equally probable",
    )
    many = parser.add_argument_group("many images, and large ones")
    many.add_argument("--overwrite", action="store_true", help="segment anew what is finished already, too")
    many.add_argument(
        "--blocks",
        action="store_true",
        help="segment every TIFF block by block, as is done with zarr and with TIFF of more than 16 million "
        "voxels: memory need not hold the image",
    )
    where = many.add_mutually_exclusive_group()
    where.add_argument(
        "--workers",
        type=_count,
        default=1,
        metavar="N",
        help="processes that share the images, and the cores of this machine (default: 1)",
    )
    where.add_argument(
        "--scheduler",
        metavar="ADDRESS",
        help="the Dask scheduler of a cluster, tcp://HOST:PORT, whose workers have this program and see the "
        "same files; use it in a trusted network only",
    )
    return parser.parse_args(arguments)


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number above 0")
    return int(text)


class _List(argparse.Action):
    """Like --help: prints, and ends before anything else is looked at."""

    def __init__(self, option_strings: list[str], dest: str, help: str | None = None) -> None:
        super().__init__(option_strings, dest, nargs=0, help=help)

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        print(models_table([describe_checkpoint(path) for path in bundled_checkpoints().values()]))
        parser.exit()


def models_table(models: list[ModelDescription]) -> str:
    """The models and their cards, as text."""
    rows = [("name", "finds", "images", "classes", "validation Dice", "MB", "licence")]
    for model in models:
        dice = model.card.dice if model.card else {}
        rows.append(
            (
                model.name,
                model.card.title if model.card else "",
                f"{model.ndim}D, {model.channels} channel{'s' * (model.channels > 1)}",
                ", ".join(model.class_names),
                ", ".join(f"{name} {value:.3f}" for name, value in dice.items()),
                f"{model.bytes / 1e6:.1f}",
                model.card.licence.split(",")[0] if model.card else "",
            )
        )
    cards = [_card_text(model.name, model.card) for model in models if model.card]
    return "\n\n".join([columns(rows), *cards])


def _card_text(name: str, card: ModelCard) -> str:
    told = {
        "trained on": card.data,
        "validated on": card.validation,
        "intended use": card.intended_use,
        "limits": card.limits,
        "to be named": card.attribution,
    }
    wrap = partial(textwrap.fill, width=100, initial_indent="  ", subsequent_indent="    ")
    return "\n".join([name, *(wrap(f"{title}: {text}") for title, text in told.items())])


def _span(text: str) -> Span:
    first, colon, last = text.partition(":")
    if not colon or not all(end.isdecimal() or not end for end in (first, last)):
        raise argparse.ArgumentTypeError(
            f"{text!r} is no START:STOP of whole numbers, such as 10:60 or 10: or :"
        )
    return int(first) if first else None, int(last) if last else None


def requested(options: argparse.Namespace) -> Request:
    """What the options ask for."""
    return Request(
        factor=options.factor,
        spacing=None if options.spacing is None else tuple(options.spacing),
        method=options.method,
        region=None if options.region is None else tuple(options.region),
        frames=options.frames,
        objects=options.objects,
        probability=tuple(dict.fromkeys(options.probability)),
        uncertainty=options.uncertainty,
        channels=tuple(options.channels),
    )


def iter_here(jobs: Sequence[Job]) -> Iterator[JobResult]:
    """One job after the other in this process, each under a bar of its own."""
    each_once = EachNoticeOnce()
    for job in jobs:
        yield finish_under_bar(map_reports(iter_job(job), each_once), unit="block", inner=True)


def iter_there(cluster: Cluster, jobs: Sequence[Job]) -> Generator[JobResult, None, None]:
    """Jobs on a cluster: image by image, and then those whose blocks all workers share."""
    yield from iter_on_cluster(cluster, [job for job in jobs if not job.blocks])
    for job in jobs:
        if job.blocks:
            yield finish_under_bar(iter_in_blocks(cluster, job), unit="block", inner=True)


@contextmanager
def at_work(options: argparse.Namespace, jobs: Sequence[Job]) -> Iterator[Iterator[JobResult]]:
    """The results of jobs, from where the options want the work to be done."""
    parts = options.workers if any(job.blocks for job in jobs) else len(jobs)
    with ExitStack() as stack:
        if options.scheduler is not None:
            cluster = stack.enter_context(remote_cluster(options.scheduler))
        elif min(options.workers, parts) > 1:
            cluster = stack.enter_context(local_cluster(min(options.workers, parts)))
        else:
            yield iter_here(jobs)
            return
        yield stack.enter_context(closing(iter_there(cluster, jobs)))


def show(result: JobResult, bar: tqdm[Any], told: set[str], *, is_listed: bool) -> None:
    """Tell of one image above the bar; its labels only where not thousands come."""
    for notice in result.notices:
        if notice not in told:
            told.add(notice)
            bar.write(notice, file=sys.stderr)
    if result.state == "failed":
        bar.write(f"error: {result.message}", file=sys.stderr)
    elif is_listed:
        objects = "" if result.objects is None else f"  {result.objects} objects"
        bar.write(f"{result.labels}  {' x '.join(map(str, result.shape))}{objects}")
    bar.update()


def segment_all(options: argparse.Namespace, jobs: list[Job], found: FoundImages, journal: Journal) -> int:
    """Segment what is not finished; one image that fails does not keep the others. An exit code."""
    results, left = journal.sorted_out(jobs, anew=options.overwrite)
    if results:
        print(
            f"kept: {len(results)} of {len(jobs)} images, finished before (--overwrite: anew)",
            file=sys.stderr,
        )
    start, told = time.monotonic(), set[str]()
    try:
        if left:
            with (
                at_work(options, left) as work,
                tqdm(total=len(left), unit="image", dynamic_ncols=True) as bar,
            ):
                for result in work:
                    results.append(journal.recorded(result))
                    show(results[-1], bar, told, is_listed=len(left) <= MOST_LISTED)
    finally:
        report = BatchReport.of(jobs, results, time.monotonic() - start, found)
        if len(jobs) > 1 or found.left_out:
            print("\n".join(report.lines), file=sys.stderr)
            report.write(Path(options.output) / REPORT_NAME)
    if report.failures:
        return FAILED
    return 0 if report.is_complete else INCOMPLETE


def run(options: argparse.Namespace) -> int:
    """Check everything that can be checked before the work, then segment."""
    request, folder = requested(options), Path(options.output)
    checkpoint = load_checkpoint(find_checkpoint(options.checkpoint))
    request.check(checkpoint.content)
    config = changed_config(checkpoint.content.inference, options)
    order = Order.of(options.checkpoint, checkpoint, config, request, device=options.device, folder=folder)
    check_order(order, checkpoint.content, options)
    journal = Journal(folder)
    own = journal.own_outputs()
    found = find_images(options.images, ndim=order.ndim, stores=True, own=own, output=folder)
    images = found.images
    check_outputs(images, folder, request, order.ndim, own)
    if found.several:
        print(found.several, file=sys.stderr)
    if len(images) > 1 or found.left_out:
        check_report(folder / REPORT_NAME)
    folder.mkdir(parents=True, exist_ok=True)
    jobs = [job_of(order, checkpoint.content, image, blocks=options.blocks) for image in images]
    return segment_all(options, jobs, found, journal)


def check_order(order: Order, content: CheckpointContent, options: argparse.Namespace) -> None:
    """See that the model can be used, here where the work is done here; other machines see for themselves."""
    if options.blocks:
        check_large(content, order.config, order.request)
    if options.scheduler is None:
        choose_device(order.device)
    is_here = options.scheduler is None and options.workers == 1
    predictor_of(order if is_here else replace(order, device="cpu"))


def main(arguments: list[str] | None = None) -> int:
    options = parse_arguments(arguments)
    return exit_code(
        lambda: run(options),
        place=options.output,
        stopped=lambda: (
            f"what is finished stays in {options.output}, and the same command goes on from there"
        ),
    )
