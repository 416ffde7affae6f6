"""All sections in one run, so that their figures belong together."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.decode import measure_decoding
from benchmarks.inference import measure_inference
from benchmarks.live import measure_live
from benchmarks.machine import Machine, this_machine
from benchmarks.memory import measure_memory
from benchmarks.plan import Plan
from benchmarks.render import measure_rendering
from benchmarks.table import Section, markdown, ratio_table
from benchmarks.training import measure_training
from swipe_core.progress import Notice, Progress

Measure = Callable[[Plan], Generator[Progress | Notice, None, Section]]

SECTIONS: dict[str, Measure] = {
    "decode": measure_decoding,
    "render": measure_rendering,
    "inference": measure_inference,
    "live": measure_live,
    "training": measure_training,
    "memory": measure_memory,
}
OF_AN_IMAGE = ("render", "live", "memory")  # sections that measure what a plan names in place of the samples


@dataclass(frozen=True)
class Benchmark:
    """What was measured, and where.

    Attributes
    ----------
    repeats
        Turns of which the figures are medians.
    quick
        Whether sizes were small.
    sections
        By name, in the order of `SECTIONS`.
    """

    machine: Machine
    repeats: int
    quick: bool
    sections: Mapping[str, Section]

    def markdown(self) -> str:
        """All tables."""
        return "\n\n".join([self._heading(), *(markdown(each.table()) for each in self.sections.values())])

    def ratios(self) -> str:
        """What is worth keeping: no seconds, which are another machine's tomorrow."""
        return "\n\n".join([self._heading(), markdown(ratio_table(list(self.sections.items())))])

    def values(self) -> dict[str, Any]:
        """All figures in JSON's types."""
        sections = {name: asdict(each) for name, each in self.sections.items()}  # type: ignore[call-overload]
        return {"machine": asdict(self.machine), "repeats": self.repeats, "quick": self.quick} | sections

    def _heading(self) -> str:
        small = ", small sizes" * self.quick
        return f"{self.machine}. Medians over {self.repeats} turns{small}."


def measure(plan: Plan, names: Sequence[str]) -> Generator[Progress | Notice, None, Benchmark]:
    """Measure sections, named as in `SECTIONS`, in that order."""
    machine = this_machine(plan.device)
    sections: dict[str, Section] = {}
    for name, measure_section in SECTIONS.items():
        if name in names:
            sections[name] = yield from measure_section(plan)
    return Benchmark(machine, plan.repeats, plan.quick, sections)
