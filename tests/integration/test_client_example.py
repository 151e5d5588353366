"""The example of the client's documentation does what the documentation says."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from pathlib import Path

from noetl.client import NoetlClient
from noetl.dev.stack import DevStack

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "client.md").read_text()


def test_the_page_shows_the_example() -> None:
    assert re.search(r"```python\n(.*?)```", PAGE, re.DOTALL)[1] == (ROOT / "examples" / "client.py").read_text()  # pyright: ignore[reportOptionalSubscript]


def test_the_page_names_every_call() -> None:
    client = NoetlClient("http://localhost")
    rows = dict(re.findall(r"^\| `([a-z]+)` \| (.*) \|$", PAGE, re.MULTILINE))
    assert set(rows) == {name for name in vars(client) if not name.startswith("_")}
    for attribute, text in rows.items():
        methods = {name for name in vars(type(getattr(client, attribute))) if not name.startswith("_")}
        assert set(re.findall(r"`(\w+)`", text)) == methods


async def test_the_example_prints_what_the_page_shows() -> None:
    async with DevStack() as stack:
        process = await asyncio.create_subprocess_exec(
            sys.executable, str(ROOT / "examples" / "client.py"),
            stdout=asyncio.subprocess.PIPE, env={**os.environ, "NOETL_SERVER_URL": stack.url},
        )  # fmt: skip
        output, _ = await asyncio.wait_for(process.communicate(), 60)
    shown = re.search(r"\$ python examples/client.py\n(.*?)```", PAGE, re.DOTALL)
    assert shown is not None
    assert (process.returncode, output.decode()) == (0, shown[1])
