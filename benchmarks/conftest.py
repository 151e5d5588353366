"""Fixtures of the micro-benchmarks: one `measure` for each of the three ways in which they are measured.

pytest benchmarks                     time (pytest-benchmark), absolute goals, and the gate of `benchmarks.gate`
pytest benchmarks --update-baselines  the same, and stores what was found as the new baselines of the gate
python -m benchmarks.instructions     counts instructions instead, exactly
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import pytest

from benchmarks.baselines import Baselines
from benchmarks.gate import RATIOS, TOLERANCE, Limits, cost_of
from benchmarks.instructions import INSTRUCTIONS_OPTION, Sections

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_benchmark.fixture import BenchmarkFixture

UPDATE_OPTION = "--update-baselines"


class Measure(Protocol):
    """Measures ``function(*arguments)`` and returns what it returned.

    ``goal`` is the highest CPU time of a call in nanoseconds; ``calls`` is how many count instructions. With
    ``ours=False`` the function is there to compare with: neither goal nor baseline binds it.
    """

    def __call__(
        self,
        function: Callable[..., Any],
        *arguments: Any,
        goal: float | None = None,
        calls: int = 50,
        tolerance: float = TOLERANCE,
        ours: bool = True,
    ) -> Any: ...


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options of this folder."""
    parser.addoption(UPDATE_OPTION, action="store_true", help="store the ratios of this run as baselines")
    parser.addoption(INSTRUCTIONS_OPTION, metavar="FILE", help="only mark the sections for callgrind, named in FILE")


def pytest_report_header() -> str:
    """Whether the gate is shut."""
    ratios = Baselines(RATIOS)
    return f"baselines: {ratios.path.name}" if ratios.exist else f"no {ratios.path.name}: only the goals hold"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Under callgrind only what is measured runs."""
    if config.getoption(INSTRUCTIONS_OPTION):
        items[:] = [item for item in items if "measure" in getattr(item, "fixturenames", ())]


@pytest.fixture(scope="session")
def ratios(request: pytest.FixtureRequest) -> Iterator[Baselines]:
    """The stored ratios, written at the end where the run updates them."""
    baselines = Baselines(RATIOS)
    yield baselines
    if request.config.getoption(UPDATE_OPTION):
        baselines.write()


@pytest.fixture(scope="session")
def sections(request: pytest.FixtureRequest) -> Iterator[Sections | None]:
    """The sections marked for callgrind, where it runs."""
    path = request.config.getoption(INSTRUCTIONS_OPTION)
    found = None if path is None else Sections(path)
    yield found
    if found is not None:
        found.write()


@pytest.fixture
def measure(request: pytest.FixtureRequest, ratios: Baselines, sections: Sections | None) -> Measure:
    """The fastest round decides, because noise of the machine only ever adds."""
    name = request.node.nodeid.partition("/")[2]

    def run(
        function: Callable[..., Any],
        *arguments: Any,
        goal: float | None = None,
        calls: int = 50,
        tolerance: float = TOLERANCE,
        ours: bool = True,
    ) -> Any:
        if sections is not None:
            return sections.measure(name, function, arguments, calls) if ours else function(*arguments)
        benchmark: BenchmarkFixture = request.getfixturevalue("benchmark")
        result: Any = benchmark(function, *arguments)
        if not ours:
            return result
        is_updating = request.config.getoption(UPDATE_OPTION)
        baseline = None if is_updating else ratios.of(name)
        limits = Limits(goal, baseline, tolerance)
        cost = cost_of(lambda: function(*arguments), limits)
        benchmark.extra_info["ratio"] = cost.ratio
        if is_updating:
            ratios.store(name, round(cost.ratio, 6))
        elif ratios.exist:
            assert baseline is not None, f"no baseline of {name}: run pytest benchmarks {UPDATE_OPTION}"
        assert not cost.excesses(limits), "; ".join(cost.excesses(limits))
        return result

    return run
