"""The command ``swipe figures``, for those who work in a clone."""

from __future__ import annotations

import sys

from swipe_core.cli import main

if __name__ == "__main__":
    raise SystemExit(main(["figures", *sys.argv[1:]]))
