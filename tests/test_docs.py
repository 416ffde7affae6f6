"""The pages show commands that are understood, messages that the program says, and packages that it needs."""

from __future__ import annotations

import ast
import json
import re
import shlex
import tomllib
from pathlib import Path

import pytest

from swipe_core.cli.commands import COMMANDS
from swipe_core.training.config import config_names

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
NAMES = "|".join(COMMANDS)
COMMAND = re.compile(rf"^    (?:swipe/bin/)?(swipe (?:{NAMES}) [^`\n#|>]+)", re.MULTILINE)


def test_every_command_of_every_page_is_understood(capsys):
    shown = {command for page in PAGES for command in COMMAND.findall(page.read_text("utf-8"))}
    assert len(shown) > 40
    for command in sorted(shown):
        _, name, *words = shlex.split(command)
        if words in ([], ["--help"]) or "..." in words or "…" in command:
            continue
        try:
            options = COMMANDS[name].parse(words)
        except SystemExit:
            pytest.fail(f"{command}\n{capsys.readouterr().err}")
        if name == "train" and not options.config.endswith(".yaml"):
            assert options.config in config_names(), command


def test_every_message_of_the_questions_is_one_that_the_program_says():
    said = {
        node.value
        for path in (ROOT / "src").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    text = "\n".join(said)
    messages = re.findall(
        r"^### (.*)$", DOCS.joinpath("faq.md").read_text("utf-8").split("## Questions")[0], re.M
    )
    assert len(messages) > 12
    for message in messages:
        for fragment in filter(None, (part.strip(" ()") for part in re.split(r"…|\d+ channels? ", message))):
            assert fragment in text, f"{fragment!r} of {message!r}"


def test_the_page_of_dependencies_names_each_with_its_oldest_version_and_no_other():
    page = DOCS.joinpath("dependencies.md").read_text("utf-8")
    of_page = dict.fromkeys(re.findall(r"^\| ([\w.-]+) \| ([\w.]+) \| [^|]+ \| [^|]+ \|$", page, re.M))
    texts = [
        *PROJECT["dependencies"],
        *(text for some in PROJECT["optional-dependencies"].values() for text in some),
    ]
    parsed = [re.match(r"([\w.-]+)(?:\[\w+\])?(?:>=([\d.]+))?$", text) for text in texts]
    needed = {(match[1], match[2] or "any") for match in parsed if match}
    assert set(of_page) - {("package", "oldest")} == needed


def test_every_page_is_found_in_the_menu():
    menu = (ROOT / "mkdocs.yml").read_text("utf-8").split("nav:")[1]
    named = set(re.findall(r"- ([\w/-]+\.md)", menu))
    assert named == {path.relative_to(DOCS).as_posix() for path in PAGES}


def test_every_name_that_the_core_exports_stands_in_the_reference():
    import swipe_core

    reference = DOCS.joinpath("api.md").read_text("utf-8")
    for name in swipe_core.__all__:
        assert re.search(rf"\b{name}\b", reference), name


def test_every_picture_of_the_pages_exists_and_has_words_for_those_who_do_not_see_it():
    for page in PAGES:
        for words, target in re.findall(r"!\[([^\]]*)\]\(([^)]+)\)", page.read_text("utf-8")):
            assert words and (page.parent / target).is_file(), (page, target)


def test_the_notebook_runs(monkeypatch):
    import matplotlib

    matplotlib.use("agg")
    notebook = json.loads(DOCS.joinpath("swipe.ipynb").read_text("utf-8"))
    names: dict[str, object] = {}
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), cell["id"], "exec"), names)
    plain, fine = names["plain"], names["fine"]
    assert fine.shape == tuple(4 * n for n in plain.shape)
    assert 10 < len(names["objects"]) < 60
    assert (names["runs"] / "nuclei" / "last.safetensors").is_file()
