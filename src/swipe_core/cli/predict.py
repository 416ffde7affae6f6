"""Segment images with a trained model, at their own or any other resolution."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from swipe_core.checkpoints.file import CheckpointContent, load_checkpoint
from swipe_core.checkpoints.library import find_checkpoint
from swipe_core.cli.options import changed_config
from swipe_core.cli.shared import FAILED, INCOMPLETE, exit_code, finish_under_bar
from swipe_core.compute.cluster import Cluster, local_cluster, remote_cluster
from swipe_core.compute.devices import choose_device
from swipe_core.images.finding import FoundImages, find_images
from swipe_core.prediction.cluster import iter_in_blocks, iter_on_cluster
from swipe_core.prediction.jobs import Job, JobResult, Order, iter_job, predictor_of
from swipe_core.prediction.journal import Journal
from swipe_core.prediction.large_plan import check_large
from swipe_core.prediction.outputs import check_outputs
from swipe_core.prediction.report import REPORT_NAME, BatchReport, check_report
from swipe_core.prediction.request import Request
from swipe_core.prediction.route import job_of
from swipe_core.progress import EachNoticeOnce, map_reports

MOST_LISTED = 50  # images of which each has its line; of more, the bar tells and what failed


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


def main(options: argparse.Namespace) -> int:
    return exit_code(
        lambda: run(options),
        place=options.output,
        stopped=lambda: (
            f"what is finished stays in {options.output}, and the same command goes on from there"
        ),
    )
