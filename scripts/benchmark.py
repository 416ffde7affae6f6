"""Measure what rendering costs on this machine: seconds and memory, dense against MISE."""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import asdict
from pathlib import Path

from swipe_core.command_line import exit_code, finish_under_bar, prepare_file
from swipe_core.errors import ConfigError
from swipe_core.evaluation.benchmark import RenderBenchmark, benchmark_rendering


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
        prepare_file(Path(options.json), "--json")


def run(options: argparse.Namespace) -> int:
    """Measure, print, and write what was asked for."""
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
    return 0


def main(arguments: list[str] | None = None) -> int:
    options = parse_arguments(arguments)
    return exit_code(
        lambda: run(options),
        place=options.json or options.image,
        stopped=lambda: "nothing was measured to the end",
    )


if __name__ == "__main__":
    raise SystemExit(main())
