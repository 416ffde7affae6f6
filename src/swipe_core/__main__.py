"""The command line as ``python -m swipe_core``, which is what ``torchrun -m`` starts."""

from swipe_core.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
