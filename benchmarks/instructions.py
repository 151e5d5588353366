"""Counts the instructions of every micro-benchmark exactly, with callgrind, and compares them with stored counts.

    python -m benchmarks.instructions [--update] [-k EXPRESSION]

Needs `valgrind` (Debian's package of that name). A count does not depend on what else the machine does, so 5 % more
than the baseline fail; most counts are the same to the digit. They hold for one version of Python, of the compiler and
of the packages that do the work (orjson, msgspec, asyncpg ...): after a change of these, look at what changed, then
`--update`. Without valgrind the exit code is 2.

The benchmarks mark the section that counts by a call of `os.getppid`, which nothing else there calls: callgrind writes
what it has counted when a process enters that function of the C library, and begins again at nought.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from benchmarks.baselines import Baselines

if TYPE_CHECKING:
    from collections.abc import Callable

TOLERANCE: Final = 0.05
INSTRUCTIONS_OPTION: Final = "--instructions"
MARK: Final = "getppid"
WARM_UP_CALLS: Final = 20
"""The interpreter specialises code that has run a few times, and caches fill."""

_TOTALS: Final = re.compile(rb"^totals: (\d+)", re.MULTILINE)


class Sections:
    """In the process that callgrind watches: marks where the counted calls begin and end, and whose they are."""

    def __init__(self, path: str) -> None:
        self._path = Path(path)
        self._sections: list[tuple[str, int]] = []

    def measure(self, name: str, function: Callable[..., Any], arguments: tuple[Any, ...], calls: int) -> Any:
        """Call the function as often as said, between two marks."""
        result = None
        for _ in range(min(WARM_UP_CALLS, calls)):
            result = function(*arguments)
        gc.collect()
        gc.disable()
        try:
            os.getppid()
            for _ in range(calls):
                function(*arguments)
            os.getppid()
        finally:
            gc.enable()
        self._sections.append((name, calls))
        return result

    def write(self) -> None:
        """Leave the names for the process that reads the counts."""
        self._path.write_text(json.dumps(self._sections))


def count(arguments: list[str]) -> dict[str, float]:
    """Run the benchmarks under callgrind; instructions per call by the name of the benchmark."""
    with tempfile.TemporaryDirectory(prefix="noetl-callgrind-") as folder:
        names = Path(folder) / "sections.json"
        command = [
            *("valgrind", "--quiet", "--tool=callgrind", f"--dump-before={MARK}"),
            f"--callgrind-out-file={folder}/counts",
            *(sys.executable, "-m", "pytest", "benchmarks", "-q", "-p", "pytest_benchmark.plugin"),
            *("-p", "pytest_asyncio.plugin", "-p", "no:cacheprovider", f"{INSTRUCTIONS_OPTION}={names}", *arguments),
        ]
        environment = {
            **{name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR") if name in os.environ},
            "PYTHONHASHSEED": "0",
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            "UV_USE_IO_URING": "0",  # valgrind knows too little of it
        }
        if subprocess.run(command, env=environment, check=False).returncode or not names.exists():
            raise SystemExit("the benchmarks failed under callgrind")
        sections: list[tuple[str, int]] = json.loads(names.read_text())
        dumps = sorted(Path(folder).glob("counts.*"), key=lambda path: int(path.suffix[1:]))
        if len(dumps) != 2 * len(sections):
            raise SystemExit(f"{len(dumps)} marks for {len(sections)} benchmarks: something else calls {MARK}")
        # Before each odd dump is what lies between two benchmarks, before each even one what is to be counted.
        return {name: _total(dump) / calls for (name, calls), dump in zip(sections, dumps[1::2], strict=True)}


def _total(dump: Path) -> int:
    found = _TOTALS.search(dump.read_bytes())
    assert found is not None, f"{dump.name} has no totals"
    return int(found[1])


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--update", action="store_true", help="store the counts as the new baselines")
    parser.add_argument("-k", metavar="EXPRESSION", help="only these benchmarks (as pytest's option)")
    options = parser.parse_args()
    if shutil.which("valgrind") is None:
        print("valgrind is not installed", file=sys.stderr)
        sys.exit(2)
    counts = count([] if options.k is None else ["-k", options.k])
    baselines = Baselines("instructions")
    failed: list[str] = []
    for name, counted in counts.items():
        baseline = baselines.of(name)
        baselines.store(name, round(counted, 1))
        change = None if baseline is None else counted / baseline - 1
        print(f"{counted:16,.0f}  {'new' if change is None else f'{change * 100:+.2f} %':>9}  {name}")
        if change is None or change > TOLERANCE:
            failed.append(name)
    if options.update:
        baselines.write()
        print(f"stored in {baselines.path}")
    elif failed:
        print(f"{TOLERANCE * 100:.0f} % more instructions than the baseline, or none stored:", *failed, sep="\n  ")
        sys.exit(1)


if __name__ == "__main__":
    main()
