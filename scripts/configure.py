"""The command ``swipe configure``, for those who work in a clone."""

from __future__ import annotations

from swipe_core.cli.configure import main
from swipe_core.cli.shared import until_unread

if __name__ == "__main__":
    raise SystemExit(until_unread(main))
