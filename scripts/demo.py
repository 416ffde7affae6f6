"""See SwIPE work: train on the sample that comes with the package, then segment two images it never saw."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from swipe_core.samples import sample_folder


def step(title: str, *words: str) -> None:
    """Print what happens, and run a command as a user would."""
    print(f"\n== {title}\n$ swipe {' '.join(words)}", flush=True)
    subprocess.run([sys.executable, "-m", "swipe_core", *words], check=True)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=3.0, help="training time (default: 3)")
    parser.add_argument("--output", default="demo-output", metavar="DIR", help="default: demo-output")
    parser.add_argument(
        "--device", default="auto", metavar="D", help="auto, cpu, cuda or mps (default: auto)"
    )
    options = parser.parse_args(arguments)
    folder = Path(options.output)
    run = folder / "run"
    checkpoint = str(run / "best.safetensors")
    images = sample_folder("nuclei") / "val" / "images"
    device = ("--device", options.device)
    resume = ("--resume",) if (run / "last.safetensors").exists() else ()
    try:
        step(
            f"Training for {options.minutes:g} minutes on six microscope images",
            "train",
            "nuclei",
            *("--data", "sample", "--output", str(run), "--max-minutes", str(options.minutes)),
            *(*resume, *device),
        )
        step("Scores on two images it never saw", "evaluate", checkpoint, str(images.parents[1]), *device)
        step(
            "Their labels at four times the resolution of the images",
            "predict",
            *(checkpoint, str(images), "--output", str(folder / "labels_4x"), "--factor", "4", *device),
        )
        step(
            "One boundary, ever closer",
            "figures",
            *(
                "zoom",
                checkpoint,
                str(images / "touching.png"),
                "--output",
                str(folder / "zoom.png"),
                *device,
            ),
        )
        step(
            "Image, reference and prediction",
            "figures",
            *("cases", checkpoint, str(images.parents[1]), "--output", str(folder / "cases.png"), *device),
        )
    except subprocess.CalledProcessError as error:
        return error.returncode
    print(f"\nLook at {folder / 'zoom.png'}, {folder / 'cases.png'} and {run / 'curves.png'}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
