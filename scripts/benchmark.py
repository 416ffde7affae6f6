"""Measure what rendering costs on this machine: seconds and memory, dense against MISE."""

from __future__ import annotations

import argparse
import json
import math
import sys
from dataclasses import asdict
from pathlib import Path

from swipe_core.errors import ConfigError, SwipeError
from swipe_core.evaluation.benchmark import RenderBenchmark, benchmark_rendering
from swipe_core.progress import finish_under_bar


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="a .safetensors file that train.py wrote")
    parser.add_argument("image", metavar="IMAGE", help="an image file")
    parser.add_argument(
        "--factors", type=float, nargs="+", default=[1, 4, 16], metavar="F", help="default: 1 4 16"
    )
    parser.add_argument("--repeats", type=int, default=3, metavar="N", help="default: 3, the median counts")
    parser.add_argument("--json", metavar="FILE", help="write the figures to this file too")
    parser.add_argument(
        "--device", default="auto", metavar="D", help="auto, cpu, cuda or mps (default: auto)"
    )
    return parser.parse_args(arguments)


def table(result: RenderBenchmark) -> str:
    """A Markdown table with the ratios of dense to MISE."""
    lines = [
        f"Image {' x '.join(map(str, result.shape))}, {result.device}, {result.threads} threads, "
        f"encode {result.encode_seconds:.2f} s",
        "",
        "| factor | dense s | MISE s | ratio | dense points | MISE points | ratio "
        "| dense MB | MISE MB | Dice |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for factor, agreement in result.agreement.items():
        costs = {cost.method: cost for cost in result.costs if cost.factor == factor}
        dense, mise = costs["dense"], costs["mise"]
        lines.append(
            f"| {factor:g}x | {dense.seconds:.2f} | {mise.seconds:.2f} | {dense.seconds / mise.seconds:.1f} "
            f"| {dense.points} | {mise.points} | {dense.points / mise.points:.1f} "
            f"| {_megabytes(dense.megabytes)} | {_megabytes(mise.megabytes)} | {agreement:.5f} |"
        )
    return "\n".join(lines)


def _megabytes(value: float) -> str:
    return "?" if math.isnan(value) else f"{value:.0f}"


def check(options: argparse.Namespace) -> None:
    """What can be said before the work.

    Raises
    ------
    ConfigError
        When a number is unusable, or the file of --json cannot be written.
    """
    for factor in options.factors:
        if not 0 < factor < math.inf:
            raise ConfigError(f"--factors must be numbers above 0; got {factor:g}.")
    if options.repeats < 1:
        raise ConfigError(f"--repeats must be 1 or more; got {options.repeats}.")
    if options.json:
        prepare_file(Path(options.json))


def prepare_file(path: Path) -> None:
    """See before the work that its result can be written.

    Raises
    ------
    ConfigError
        When the path is a folder, or its own folder cannot be made.
    """
    if path.is_dir():
        raise ConfigError(f"--json needs a file, and {path} is a folder.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"The folder {path.parent} cannot be written ({error.strerror}).") from error


def main(arguments: list[str] | None = None) -> int:
    options = parse_arguments(arguments)
    try:
        check(options)
        work = benchmark_rendering(
            Path(options.checkpoint),
            Path(options.image),
            factors=options.factors,
            repeats=options.repeats,
            device=options.device,
        )
        result = finish_under_bar(work, unit="rendering")
        print(table(result))
        if options.json:
            Path(options.json).write_text(json.dumps(asdict(result), indent=1) + "\n", encoding="utf-8")
    except SwipeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        place = error.filename or options.json or options.image
        print(f"error: {place} cannot be read or written ({error.strerror or error}).", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; nothing was measured to the end", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
