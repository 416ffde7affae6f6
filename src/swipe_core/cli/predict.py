"""Segment images with a trained model, at their own or any other resolution."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

from tqdm import tqdm

from swipe_core.checkpoints.file import load_checkpoint
from swipe_core.checkpoints.library import find_checkpoint
from swipe_core.cli.options import changed_config
from swipe_core.cli.shared import FAILED, INCOMPLETE, exit_code, finish_under_bar
from swipe_core.compute.cluster import Cluster, local_cluster, remote_cluster
from swipe_core.compute.devices import choose_device
from swipe_core.prediction.batch import Batch
from swipe_core.prediction.jobs import Job, JobResult, Order, iter_in_blocks, iter_job, iter_on_cluster
from swipe_core.prediction.large_plan import check_large
from swipe_core.prediction.predictor import Predictor
from swipe_core.prediction.request import Request
from swipe_core.progress import EachNoticeOnce, map_reports

MOST_LISTED = 50  # images of which each has its line; of more, the bar tells and what failed


def requested(options: argparse.Namespace) -> Request:
    """Return what the options request."""
    return Request(
        factor=options.factor,
        spacing=None if options.spacing is None else tuple(options.spacing),
        region=None if options.region is None else tuple(options.region),
        frames=options.frames,
        objects=options.objects,
        instances=options.instances,
        probability=tuple(dict.fromkeys(options.probability)),
        uncertainty=options.uncertainty,
        channels=tuple(options.channels),
    )


def iter_here(jobs: Sequence[Job], predictor: Predictor | None) -> Iterator[JobResult]:
    """Yield the results of jobs, one after the other in this process, each under a bar of its own."""
    each_once = EachNoticeOnce()
    for job in jobs:
        yield finish_under_bar(map_reports(iter_job(job, predictor), each_once), unit="block", inner=True)


def iter_there(
    cluster: Cluster, jobs: Sequence[Job], predictor: Predictor
) -> Generator[JobResult, None, None]:
    """Yield the results of jobs on a cluster: image by image, then those whose blocks all workers share."""
    yield from iter_on_cluster(cluster, [job for job in jobs if not job.blocks])
    for job in jobs:
        if job.blocks:
            yield finish_under_bar(iter_in_blocks(cluster, job, predictor), unit="block", inner=True)


@contextmanager
def at_work(
    options: argparse.Namespace, jobs: Sequence[Job], predictor: Predictor
) -> Iterator[Iterator[JobResult]]:
    """Enter the place of work that the options name, and yield the results of jobs from there."""
    parts = options.workers if any(job.blocks for job in jobs) else len(jobs)
    with ExitStack() as stack:
        if options.scheduler is not None:
            cluster = stack.enter_context(remote_cluster(options.scheduler))
        elif min(options.workers, parts) > 1:
            cluster = stack.enter_context(local_cluster(min(options.workers, parts)))
        else:
            yield iter_here(jobs, predictor if options.workers == 1 else None)
            return
        yield stack.enter_context(closing(iter_there(cluster, jobs, predictor)))


def show(result: JobResult, bar: tqdm, shown: set[str], *, is_listed: bool) -> None:
    """Print what became of an image above the bar; its labels only where `is_listed`."""
    for notice in result.notices:
        if notice not in shown:
            shown.add(notice)
            bar.write(notice, file=sys.stderr)
    if result.state == "failed":
        bar.write(f"error: {result.message}", file=sys.stderr)
    elif is_listed:
        objects = "" if result.objects is None else f"  {result.objects} objects"
        bar.write(f"{result.labels}  {' x '.join(map(str, result.shape))}{objects}")
    bar.update()


def segment_all(options: argparse.Namespace, batch: Batch, predictor: Predictor) -> int:
    """Segment what is not finished; one image that fails does not keep the others. Returns an exit code."""
    left = batch.left
    if batch.kept:
        print(
            f"kept: {batch.kept} of {len(batch.jobs)} images, finished before (--overwrite: anew)",
            file=sys.stderr,
        )
    shown = set[str]()
    try:
        if left:
            with (
                at_work(options, left, predictor) as work,
                tqdm(total=len(left), unit="image", dynamic_ncols=True) as bar,
            ):
                for result in work:
                    show(batch.add(result), bar, shown, is_listed=len(left) <= MOST_LISTED)
    finally:
        report = batch.finish()
        if batch.has_report:
            print("\n".join(report.lines), file=sys.stderr)
    if report.failures:
        return FAILED
    return 0 if report.is_complete else INCOMPLETE


def run(options: argparse.Namespace) -> int:
    """Check everything that can be checked before the work, then segment."""
    request, folder = requested(options), Path(options.output)
    checkpoint = load_checkpoint(find_checkpoint(options.checkpoint))
    request.check(checkpoint.content)
    config = changed_config(checkpoint.content.inference, options)
    if options.blocks:
        check_large(checkpoint.content, config, request)
    predictor = Predictor.load(checkpoint, device=planning_device(options), config=config)
    order = Order.of(options.checkpoint, predictor, request, device=options.device, folder=folder)
    batch = Batch(order, checkpoint.content, options.images, blocks=options.blocks, anew=options.overwrite)
    if batch.found.several:
        print(batch.found.several, file=sys.stderr)
    return segment_all(options, batch, predictor)


def planning_device(options: argparse.Namespace) -> str:
    """Return the device of this process, which only plans where others do the work.

    Raises `DeviceError` when this machine has no such device, and is to do the work.
    """
    if options.scheduler is None:
        choose_device(options.device)
    return options.device if options.scheduler is None and options.workers == 1 else "cpu"


def main(options: argparse.Namespace) -> int:
    return exit_code(
        lambda: run(options),
        place=options.output,
        stopped=lambda: (
            f"what is finished stays in {options.output}, and the same command goes on from there"
        ),
    )
