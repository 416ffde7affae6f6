"""The benchmark script checks what it is asked before it measures; the measuring is replaced here."""

from __future__ import annotations

import json

import pytest

from swipe_core.evaluation.benchmark import RenderBenchmark, RenderCost
from swipe_core.progress import Progress


@pytest.fixture
def module(load_script, monkeypatch):
    """The script, with measurements that take no time."""
    loaded = load_script("benchmark")

    def measured(checkpoint, image, *, factors, repeats, device):
        yield Progress("Timing", 1, 2)
        yield Progress("Measuring memory", 2, 2)
        costs = [
            RenderCost(factor, method, seconds, points, 10.0)
            for factor in factors
            for method, seconds, points in (("dense", 4.0, 800), ("mise", 1.0, 100))
        ]
        agreement = dict.fromkeys(factors, 1.0)
        return RenderBenchmark((8, 8), 0.5, 1, "cpu", tuple(costs), agreement)

    monkeypatch.setattr(loaded, "benchmark_rendering", measured)
    return loaded


def test_it_prints_a_table_and_writes_the_figures(module, tmp_path, capsys):
    target = tmp_path / "new" / "costs.json"
    command = ["model.safetensors", "image.png", "--factors", "2", "4", "--json", str(target)]
    assert module.main(command) == 0
    rows = capsys.readouterr().out.splitlines()[-2:]
    assert [row.split(" | ")[:4] for row in rows] == [
        ["| 2x", "4.00", "1.00", "4.0"],
        ["| 4x", "4.00", "1.00", "4.0"],
    ]
    assert [cost["factor"] for cost in json.loads(target.read_text())["costs"]] == [2, 2, 4, 4]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--factors", "1", "0"], "--factors must be numbers above 0; got 0"),
        (["--factors", "-1"], "--factors must be numbers above 0; got -1"),
        (["--factors", "nan"], "--factors must be numbers above 0; got nan"),
        (["--factors", "inf"], "--factors must be numbers above 0; got inf"),
        (["--repeats", "0"], "--repeats must be 1 or more; got 0"),
        (["--json", "FOLDER"], "--json needs a file"),
        (["--json", "FILE/costs.json"], "file cannot be written"),
    ],
)
def test_a_mistake_is_named_before_the_work(module, tmp_path, error_line, monkeypatch, arguments, said):
    monkeypatch.setattr(module, "benchmark_rendering", lambda *_, **__: pytest.fail("the work began"))
    (tmp_path / "file").write_text("")
    places = {"FOLDER": str(tmp_path), "FILE/costs.json": str(tmp_path / "file" / "costs.json")}
    arguments = [places.get(argument, argument) for argument in arguments]
    assert module.main(["model.safetensors", "image.png", *arguments]) == 2
    assert said in error_line()


def test_a_checkpoint_that_does_not_exist_is_named(load_script, tmp_path, error_line):
    assert load_script("benchmark").main(["none.safetensors", "image.png"]) == 2
    assert "There is no checkpoint none.safetensors" in error_line()


def test_ctrl_c_ends_with_one_line(module, capsys, interrupt):
    interrupt(module, "benchmark_rendering")
    assert module.main(["model.safetensors", "image.png"]) == 130
    assert capsys.readouterr().err == "stopped; nothing was measured to the end\n"
