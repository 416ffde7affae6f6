"""The benchmark script checks what it is asked before it measures; the measuring is replaced here."""

from __future__ import annotations

import json
from dataclasses import dataclass

import pytest
import torch

from benchmarks.machine import this_machine
from benchmarks.suite import SECTIONS, Benchmark
from benchmarks.table import Ratio, Table
from swipe_core.progress import Notice, Progress


@dataclass(frozen=True)
class Measured:
    """A section of one figure."""

    seconds: float

    def table(self) -> Table:
        return Table("Something", ("what", "s"), (("all of it", f"{self.seconds:.2f}"),), ("A note.",))

    def ratios(self) -> tuple[Ratio, ...]:
        return (Ratio("one / another", 12.5),)


@pytest.fixture
def module(load_script, monkeypatch):
    """The script, with measurements that take no time; `asked` holds what it asked for."""
    loaded = load_script("benchmark")
    loaded.asked = []

    def measured(plan, names):
        loaded.asked.append((plan, names))
        yield Notice("something is left out")
        yield Progress("Timing", 1, 1)
        sections = {name: Measured(0.25) for name in names}
        return Benchmark(this_machine(plan.device), plan.repeats, plan.quick, sections)

    monkeypatch.setattr(loaded, "measure", measured)
    return loaded


def test_it_prints_tables_and_writes_the_figures_and_the_ratios(module, tmp_path, capsys):
    figures, ratios = tmp_path / "new" / "costs.json", tmp_path / "ratios.md"
    command = ["--only", "decode", "live", "--device", "cpu", "--json", str(figures), "--ratios", str(ratios)]
    assert module.main(command) == 0
    printed = capsys.readouterr()
    assert printed.out.count("| all of it | 0.25 |") == 2 and "A note." in printed.out
    assert printed.out.count("| one / another | 12.5  |") == 2
    assert f", {torch.get_num_threads()} thread" in printed.out.splitlines()[0]
    assert "something is left out" in printed.err
    told = json.loads(figures.read_text("utf-8"))
    assert told["machine"]["torch"] == torch.__version__ and told["repeats"] == 5
    assert [told[name] for name in ("decode", "live")] == [{"seconds": 0.25}] * 2
    kept = ratios.read_text("utf-8")
    assert "| live    | one / another | 12.5  |" in kept and "0.25" not in kept


def test_by_default_all_is_measured_on_the_samples(module):
    assert module.main(["--device", "cpu"]) == 0
    ((plan, names),) = module.asked
    assert names == list(SECTIONS) and plan.subject is None and not plan.quick


def test_a_checkpoint_and_an_image_take_the_place_of_the_samples(module, tmp_path):
    image = tmp_path / "image.png"
    image.write_bytes(b"")
    command = ["nuclei", str(image), "--factors", "2", "4", "--quick", "--batch", "3", "--device", "cpu"]
    assert module.main(command) == 0
    ((plan, _),) = module.asked
    assert (plan.subject.checkpoint, plan.subject.image_path) == ("nuclei", image)
    assert (plan.factors, plan.repeats, plan.batch, plan.quick) == ((2, 4), 2, 3, True)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--only", "decod"], "got decod. Did you mean"),
        (["--factors", "1", "0"], "--factors must be numbers above 0; got 0"),
        (["--factors", "-1"], "--factors must be numbers above 0; got -1"),
        (["--factors", "nan"], "--factors must be numbers above 0; got nan"),
        (["--factors", "inf"], "--factors must be numbers above 0; got inf"),
        (["--factors", "4", "1"], "--factors must grow"),
        (["--repeats", "0"], "--repeats must be 1 or more; got 0"),
        (["--batch", "0"], "--batch must be 1 or more; got 0"),
        (["--threads", "-2"], "--threads must be 1 or more; got -2"),
        (["--json", "FOLDER"], "--json needs a file"),
        (["--ratios", "FILE/costs.md"], "file cannot be written"),
        (["nuclei"], "needs an IMAGE"),
        (["nuclei", "FOLDER/none.png"], "There is no image"),
        (["none.safetensors", "FILE"], "There is no checkpoint none.safetensors"),
        (["--device", "tpu"], "got 'tpu'"),
    ],
)
def test_a_mistake_is_named_before_the_work(module, tmp_path, error_line, arguments, said):
    (tmp_path / "file").write_text("", "utf-8")
    for name, place in (("FOLDER", tmp_path), ("FILE", tmp_path / "file")):
        arguments = [argument.replace(name, str(place)) for argument in arguments]
    assert module.main(arguments) == 2
    assert said in error_line()
    assert not module.asked


def test_ctrl_c_ends_with_one_line(module, capsys, interrupt):
    interrupt(module, "measure")
    assert module.main(["--device", "cpu"]) == 130
    assert capsys.readouterr().err == "stopped; nothing was measured to the end\n"
