"""What surrounds the code agrees with it: workflows, templates, citation, recipe and addresses."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
PROJECT = PYPROJECT["project"]
HOME = PROJECT["urls"]["Homepage"]
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
CONDA_NAMES = {"pytorch": "torch", "matplotlib-base": "matplotlib"}
ADDRESS = re.compile(r"https://(?:github\.com|raw\.githubusercontent\.com)/([\w-]+/napari-swipe)")


def read(name: str) -> str:
    return (ROOT / name).read_text("utf-8")


def workflow(name: str) -> dict[str, Any]:
    return yaml.safe_load(read(f".github/workflows/{name}.yml"))


def tracked_files() -> list[Path]:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("this is no clone")
    return [ROOT / line for line in listed.stdout.splitlines()]


def test_the_tests_run_on_every_python_that_the_package_names():
    said = {line.split(" :: ")[-1] for line in PROJECT["classifiers"] if line.startswith("Programming")}
    pythons = workflow("tests")["jobs"]["tests"]["strategy"]["matrix"]["python"]
    assert said - {"3", "Python"} == set(pythons)
    assert PROJECT["requires-python"] == f">={pythons[0]}"
    assert {f"py{version.replace('.', '')}" for version in pythons} <= set(
        re.findall(r"py3\d+", read("tox.ini"))
    )


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_has_no_more_rights_than_it_needs(path):
    steps = yaml.safe_load(path.read_text("utf-8"))
    assert steps["permissions"]["contents"] == "read"
    writes = {name for name, right in steps["permissions"].items() if right == "write"}
    assert writes <= ({"pages", "id-token"} if path.stem == "docs" else set())


def test_workflows_run_environments_that_tox_has():
    known = set(re.findall(r"\b(tests|lint|types|imports|docs)\b", read("tox.ini")))
    for path in WORKFLOWS:
        for names in re.findall(r"tox -e ([\w,]+)", path.read_text("utf-8")):
            assert set(names.split(",")) <= known


def test_a_release_needs_no_password():
    publish = workflow("release")["jobs"]["publish"]
    assert publish["permissions"] == {"id-token": "write"}
    assert "secrets" not in read(".github/workflows/release.yml")


def test_templates_ask_for_what_the_doctor_says():
    forms = [path for path in (ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml") if path.stem != "config"]
    assert len(forms) == 2
    for form in [*forms, ROOT / ".github/pull_request_template.md"]:
        assert "swipe doctor" in form.read_text("utf-8")


def test_the_paper_is_what_is_cited():
    citation = yaml.safe_load(read("CITATION.cff"))
    paper = citation["preferred-citation"]
    assert citation["cff-version"] == "1.2.0" and citation["license"] == PROJECT["license"]
    assert [author["family-names"] for author in paper["authors"]] == ["Zhang", "Gu", "Sapkota", "Chen"]
    assert paper["title"] in " ".join(read("README.md").split()) and paper["year"] == 2023


def test_the_recipe_for_conda_requires_what_the_wheel_requires():
    recipe = yaml.safe_load(read("tools/conda/recipe.yaml"))
    python, *run = recipe["requirements"]["run"]
    named = [line.split(" ") for line in run]
    assert {CONDA_NAMES.get(name, name) + least for name, least in named} == set(PROJECT["dependencies"])
    assert python == f"python {PROJECT['requires-python']}"
    build = {name + least for name, least in (line.split(" ") for line in recipe["requirements"]["host"][2:])}
    assert build == set(PYPROJECT["build-system"]["requires"])


def test_the_repository_has_one_address():
    owner = ADDRESS.fullmatch(HOME)[1]
    for path in tracked_files():
        if path.suffix in {".md", ".toml", ".cff", ".yml", ".yaml"} and path.is_file():
            assert set(ADDRESS.findall(path.read_text("utf-8"))) <= {owner}, path


def test_the_readme_of_the_wheel_leads_to_the_repository():
    text = read("README.md")
    for rule in PYPROJECT["tool"]["hatch"]["metadata"]["hooks"]["fancy-pypi-readme"]["substitutions"]:
        text = re.sub(rule["pattern"], rule["replacement"], text)
    pictures = re.findall(r"!\[[^\]]*\]\(([^)]+)\)", text)
    links = re.findall(r"(?<!!)\[[^\]]+\]\(([^)]+)\)", text)
    assert pictures and all(link.startswith("https://raw.githubusercontent.com/") for link in pictures)
    assert len(links) > 10 and all(link.startswith(("https://", "#")) for link in links)
