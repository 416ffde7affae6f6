"""The command ``swipe train``, for those who work in a clone."""

from __future__ import annotations

from swipe_core.cli.shared import until_unread
from swipe_core.cli.train import main

if __name__ == "__main__":
    raise SystemExit(until_unread(main))
