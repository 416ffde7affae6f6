"""No connection is opened on the road from an image to labels: any attempt ends the program."""

from __future__ import annotations

import subprocess
import sys

import pytest

from swipe_core.samples import SAMPLES

WATCHED = """
import os, sys
def refuse(event, arguments):  # Python tells of every socket, whichever library opens it
    if event.startswith("socket."):
        print(event, file=sys.stderr)
        os._exit(99)
sys.addaudithook(refuse)
"""


def run(code: str, folder: object) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-c", WATCHED + code]
    return subprocess.run(words, capture_output=True, encoding="utf-8", timeout=300, cwd=folder)


def test_an_image_is_segmented_without_a_socket(tmp_path):
    words = ["predict", "nuclei", str(SAMPLES["nuclei"].image_path), "--output", "out", "--device", "cpu"]
    ended = run(f"from swipe_core.cli import main; sys.exit(main({[*words, '--objects']}))", tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert (tmp_path / "out" / "nuclei.png").is_file()


@pytest.mark.parametrize("attempt", ["create_connection(('127.0.0.1', 9))", "getaddrinfo('localhost', 80)"])
def test_an_attempt_is_noticed(attempt, tmp_path):
    assert run(f"import socket; socket.{attempt}", tmp_path).returncode == 99
