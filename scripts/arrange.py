"""Lay a data set of the paper, as its archive holds it, out in the folders that all other scripts read."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # studies are not part of the package

from studies.archives import ARCHIVES, iter_arrange
from swipe_core.cli.arguments import text_parser
from swipe_core.cli.shared import exit_code, finish_under_bar, until_unread

EPILOG = """\
examples:
  python scripts/arrange.py kvasir-sessile ~/Downloads/sessile-main-Kvasir-SEG data/kvasir-sessile
  python scripts/arrange.py cvc-clinicdb ~/Downloads/CVC-ClinicDB data/cvc-clinicdb
  python scripts/arrange.py bcv ~/Downloads/RawData data/bcv
  python scripts/arrange.py amos ~/Downloads/amos22 data/amos

docs/COMPARISON.md says where the archives come from.
"""


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = text_parser(str(__doc__), EPILOG)
    parser.add_argument("name", metavar="NAME", choices=tuple(ARCHIVES), help=", ".join(ARCHIVES))
    parser.add_argument("source", metavar="SOURCE", type=Path, help="folder that the archive was unpacked to")
    parser.add_argument(
        "target", metavar="TARGET", type=Path, help="folder to make, with train, val and test"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="which 60:20:20 split (default: 0)")
    parser.add_argument(
        "--copy", action="store_true", help="copy the files; without it they are linked where the disk can"
    )
    return parser.parse_args(arguments)


def run(options: argparse.Namespace) -> int:
    """Arrange, and say how many cases there are."""
    work = iter_arrange(options.name, options.source, options.target, seed=options.seed, copies=options.copy)
    counts = finish_under_bar(work, unit="case")
    print(f"{options.target}: " + ", ".join(f"{count} {split}" for split, count in counts.items()))
    return 0


def main(arguments: list[str] | None = None) -> int:
    options = parse_arguments(arguments)
    return exit_code(lambda: run(options), place=str(options.target), stopped=lambda: "nothing is arranged")


if __name__ == "__main__":
    raise SystemExit(until_unread(main))
