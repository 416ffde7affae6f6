"""Set up and run, on a machine that has only Python 3.11 or newer and git.

    python scripts/bootstrap.py demo     install into .venv, then run scripts/demo.py
    python scripts/bootstrap.py test     install with the test tools, then run the tests

Further arguments go to the demo, or to pytest. Only the standard library is used here.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

OLDEST_PYTHON = (3, 11)
REPOSITORY = Path(__file__).resolve().parent.parent
ENVIRONMENT = REPOSITORY / ".venv"
STAMP = ENVIRONMENT / "bootstrap.json"
CONSTRAINTS = REPOSITORY / "constraints.txt"

# Files of tests at a time: each costs memory as much as cores.
IN_PARALLEL = ["--numprocesses=logical", "--maxprocesses=4", "--dist=loadfile"]

# What Qt 6, OpenGL in software and a screen without a monitor need on Debian and Ubuntu. Without the
# icccm and keysyms libraries Qt aborts with a message about another one, xcb-cursor0.
# fmt: off
WINDOW_PACKAGES = [
    "xvfb", "xauth", "libegl1", "libgl1", "libgl1-mesa-dri", "libglib2.0-0", "libdbus-1-3",
    "libfontconfig1", "libxkbcommon-x11-0", "libxcb-cursor0", "libxcb-icccm4", "libxcb-image0",
    "libxcb-keysyms1", "libxcb-randr0", "libxcb-render-util0", "libxcb-shape0", "libxcb-sync1",
    "libxcb-xfixes0", "libxcb-xkb1", "libx11-xcb1", "fonts-dejavu-core",
]
# fmt: on


def main(arguments: list[str] | None = None) -> int:
    """Run one of the two commands; the exit code is that of the demo or of pytest."""
    if sys.version_info < OLDEST_PYTHON:
        return _fail(
            f"Python 3.11 or newer is needed, and this is {sys.version.split()[0]}: use a newer one."
        )
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", choices=["demo", "test"])
    parser.add_argument("extra", nargs=argparse.REMAINDER, help="passed on to the demo, or to pytest")
    asked = parser.parse_args(arguments)
    extra = asked.extra[1:] if asked.extra[:1] == ["--"] else asked.extra
    if asked.command == "demo":
        target, extras = ["scripts/demo.py"], set()
    else:
        target, extras = ["-m", "pytest", *IN_PARALLEL], {"test"}
        provide_packages(WINDOW_PACKAGES, "The tests that open a window")
    try:
        python = prepare_environment(extras)
    except subprocess.CalledProcessError:
        return _fail(
            "The installation failed; the reason stands above. Mend it, and run the same command again."
        )
    _say(f"Running python {' '.join([*target, *extra])}")
    return subprocess.call([str(python), *target, *extra], cwd=REPOSITORY)


def prepare_environment(extras: set[str]) -> Path:
    """The Python of an up-to-date `.venv` that has the project and these extras."""
    python = environment_python()
    if not _runs(python):
        _create_environment()
        STAMP.unlink(missing_ok=True)
    wanted = fingerprint()
    stamp = read_stamp()
    current = stamp.get("fingerprint") == wanted
    if current and extras <= set(stamp["extras"]):
        _say(f"{ENVIRONMENT.name} is up to date")
        return python
    if current:
        extras = extras | set(stamp["extras"])
    _install(python, extras)
    STAMP.write_text(json.dumps({"fingerprint": wanted, "extras": sorted(extras)}), "utf-8")
    return python


def environment_python() -> Path:
    windows = os.name == "nt"
    return ENVIRONMENT / ("Scripts" if windows else "bin") / ("python.exe" if windows else "python")


def fingerprint() -> str:
    """Of everything that decides what gets installed; another value means that `.venv` is stale."""
    digest = hashlib.sha256(repr((sys.version_info[:2], str(REPOSITORY))).encode())
    for path in (REPOSITORY / "pyproject.toml", CONSTRAINTS):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def read_stamp() -> dict:
    try:
        return dict(json.loads(STAMP.read_text("utf-8")))
    except (OSError, ValueError):
        return {}


def _create_environment() -> None:
    if importlib.util.find_spec("ensurepip") is None:  # Debian and Ubuntu keep it in a package of its own
        provide_packages([f"python3.{sys.version_info[1]}-venv"], "A virtual environment")
    _say(f"Creating {ENVIRONMENT}")
    try:
        venv.create(ENVIRONMENT, clear=True, with_pip=True)
    except subprocess.CalledProcessError:
        shutil.rmtree(ENVIRONMENT, ignore_errors=True)
        raise


def _install(python: Path, extras: set[str]) -> None:
    project = f".[{','.join(sorted(extras))}]" if extras else "."
    wanted = ["-c", str(CONSTRAINTS), "-e", project]
    pip = [str(python), "-m", "pip", "--disable-pip-version-check"]
    _say("Installing torch (the first time this takes some minutes)")
    # By pip, for pip knows from its settings (PIP_*, pip.conf) where this machine gets its torch.
    _run([*pip, "install", "-c", str(CONSTRAINTS), "torch"])
    _say(f"Installing {project} and what it needs")
    has_uv = subprocess.call([*pip, "install", "--quiet", "uv"], cwd=REPOSITORY) == 0
    uv = [str(python), "-m", "uv", "pip", "install", "--python", str(python)]
    if has_uv and subprocess.call([*uv, *wanted], cwd=REPOSITORY, env=_uv_settings(pip)) == 0:
        return
    _say("uv cannot install it here: trying pip, which is slower")
    _run([*pip, "install", *wanted])


def _uv_settings(pip: list[str]) -> dict[str, str]:
    """The surroundings, with the places that pip looks in told to uv, which does not read pip's settings."""
    settings = dict(os.environ)
    for name, option in {"UV_FIND_LINKS": "find-links", "UV_DEFAULT_INDEX": "index-url"}.items():
        asked = subprocess.run([*pip, "config", "get", f"global.{option}"], capture_output=True, text=True)
        value = os.environ.get("PIP_" + option.replace("-", "_").upper()) or asked.stdout.strip()
        if value and name not in settings:
            settings[name] = value
    return settings


def provide_packages(packages: list[str], purpose: str) -> None:
    """Install Debian packages that are missing, where we may; otherwise say which they are."""
    if not shutil.which("dpkg-query"):
        if sys.platform.startswith("linux") and not shutil.which("Xvfb") and not os.environ.get("DISPLAY"):
            _say(f"{purpose}: this system may lack what Debian calls {' '.join(packages)}")
        return
    listing = subprocess.run(
        ["dpkg-query", "-W", "-f", "${db:Status-Status}\t${Package}\t${Provides}\n"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    missing = sorted(set(packages) - installed_packages(listing))
    if missing and not (os.geteuid() == 0 and _apt_install(missing)):
        _say(f"{purpose} needs packages that are missing here: sudo apt-get install {' '.join(missing)}")


def installed_packages(listing: str) -> set[str]:
    """Names that are installed, by themselves or as what another package provides (libglib2.0-0t64 does)."""
    names: set[str] = set()
    for line in listing.splitlines():
        status, package, provides = line.split("\t")
        if status == "installed":
            names |= {package, *(entry.split()[0] for entry in provides.split(",") if entry.strip())}
    return names


def _apt_install(packages: list[str]) -> bool:
    _say(f"Installing system packages: {' '.join(packages)}")
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    subprocess.call(["apt-get", "-qq", "update"], env=quiet)
    install = ["apt-get", "-qq", "-y", "--no-install-recommends", "install", *packages]
    return subprocess.call(install, env=quiet, stdout=subprocess.DEVNULL) == 0


def _runs(python: Path) -> bool:
    """Whether this is a working interpreter of the version that runs now."""
    probe = f"import sys, pip; sys.exit(sys.version_info[:2] != {tuple(sys.version_info[:2])})"
    return python.exists() and subprocess.call([str(python), "-c", probe], stderr=subprocess.DEVNULL) == 0


def _run(command: list[str]) -> None:
    subprocess.run(command, cwd=REPOSITORY, check=True)


def _say(sentence: str) -> None:
    print(f"[bootstrap] {sentence}", flush=True)


def _fail(sentence: str) -> int:
    print(f"[bootstrap] {sentence}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
