"""The command ``swipe figures``, for those who work in a clone."""

from __future__ import annotations

from swipe_core.cli.figures import main
from swipe_core.cli.shared import until_unread

if __name__ == "__main__":
    raise SystemExit(until_unread(main))
