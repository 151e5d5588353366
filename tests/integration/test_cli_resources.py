"""`catalog`, `executions`, `events` and `pools` of the command line, against a real server."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from noetl.client import NoetlClient
from tests.integration.command_line import Finished, begun, noetl_server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.conftest import MakeServer

HELLO = Path(__file__).parents[2] / "examples" / "hello.yaml"
WAITING = """\
apiVersion: noetl.io/v2
kind: Playbook
metadata: {name: waiting, path: cli/a-path-that-is-longer-than-what-is-left-of-eighty-columns/waiting}
workflow:
- {step: start, tool: {kind: noop}}
"""
FAULTY = "apiVersion: noetl.io/v2\nkind: Playbook\nmetadata: {name: x}\nexecutor: {}\nworkflow:\n- step: start\n"
NOBODY = "http://127.0.0.1:1"


class CommandLine:
    """Commands that ask the server of this module."""

    def __init__(self, client: NoetlClient) -> None:
        self.client = client
        self.environment = {"NOETL_SERVER_URL": client.url}

    async def __call__(self, *arguments: object) -> Finished:
        return await noetl_server(*map(str, arguments), environment=self.environment)

    async def json(self, *arguments: object) -> Any:
        done = await self(*arguments, "--json")
        assert (done.exit_code, done.errors) == (0, "")
        return orjson.loads(done.output)

    async def started(self) -> int:
        """An execution that nobody works on."""
        await self.client.catalog.register(WAITING)
        path = "cli/a-path-that-is-longer-than-what-is-left-of-eighty-columns/waiting"
        return (await self.client.executions.start(path)).execution_id


@pytest.fixture(scope="module")
async def run(make_server: MakeServer) -> AsyncIterator[CommandLine]:
    async with NoetlClient((await make_server({"NATS_URL": ""})).url) as client:
        yield CommandLine(client)


async def test_document_is_registered_listed_and_shown(run: CommandLine) -> None:
    for version in (1, 2):
        done = await run("catalog", "register", HELLO)
        assert (done.exit_code, done.output, done.errors) == (0, f"examples/hello version {version}\n", "")
    listed = await run("catalog", "list", "--kind", "playbook")
    assert listed.output.splitlines()[0].split() == ["path", "version", "kind", "registered"]
    assert [line.split()[:3] for line in listed.output.splitlines()[1:]] == [["examples/hello", "2", "Playbook"]]
    assert len(await run.json("catalog", "list", "--all-versions")) == 2
    shown = await run("catalog", "show", "examples/hello", "--version", 1)
    assert shown.output == HELLO.read_text()
    entry = await run.json("catalog", "show", "examples/hello")
    assert (entry["version"], entry["payload"]) == (2, {"name": "world"})


async def test_problems_of_a_registered_document_are_told(run: CommandLine, tmp_path: Path) -> None:
    file = tmp_path / "faulty.yaml"
    file.write_text(FAULTY)
    done = await run("catalog", "register", file)
    assert (done.exit_code, done.output) == (0, "x version 1\n")
    assert done.errors == f"{file}:6:3: warning: step start: missing field `tool`\n"


@pytest.mark.parametrize("environment", [{}, None], ids=["without a server", "by a server"])
async def test_documents_are_validated(run: CommandLine, tmp_path: Path, environment: dict[str, str] | None) -> None:
    judge = run.environment if environment is None else environment
    file = tmp_path / "faulty.yaml"
    file.write_text(FAULTY)
    done = await noetl_server("catalog", "validate", str(HELLO), str(file), environment=judge)
    known = "apiVersion, kind, metadata, workload, vars, keychain, workbook, workflow"
    assert (done.exit_code, done.errors) == (2, "")
    assert done.output.splitlines() == [
        f"{HELLO}: valid",
        f"{file}:6:3: error: step start: missing field `tool`",
        f"{file}:4:1: warning: unknown field `executor` is ignored (known: {known})",
    ]
    done = await noetl_server("catalog", "validate", str(HELLO), "--json", environment=judge)
    assert (done.exit_code, done.errors) == (0, "")
    assert orjson.loads(done.output) == [
        {
            "file": str(HELLO),
            "valid": True,
            "path": "examples/hello",
            "kind": "Playbook",
            "problems": [],
            "warnings": [],
        }
    ]


async def test_executions_are_started_filtered_and_listed(run: CommandLine) -> None:
    await run.client.catalog.register(HELLO.read_text())
    started = await run("executions", "start", "examples/hello", "--set", "name=Ada", "--set", "n=[1]")
    execution_id = int(started.output)
    assert (await run.client.executions.get(execution_id)).workload == {"name": "Ada", "n": [1]}
    waiting = await run.started()

    listed = await run("executions", "list", "--status", "running", "--path", "CLI/A")
    assert listed.output.splitlines()[0].split() == ["execution", "path", "status", "started", "took"]
    (row,) = listed.output.splitlines()[1:]
    assert row.split()[:3] == [
        str(waiting), "cli/a-path-that-is-longer-than-what-is-left-of-eighty-columns/waiting", "RUNNING",
    ]  # fmt: skip

    both = await run.json("executions", "list", "--limit", 2)
    assert [item["execution_id"] for item in both] == [str(waiting), str(execution_id)], "exact for every reader"
    catalog_id = both[1]["catalog_id"]
    (second,) = await run.json("executions", "list", "--limit", 1, "--offset", 1)
    assert second["execution_id"] == str(execution_id)
    assert [one["execution_id"] for one in await run.json("executions", "list", "--catalog-id", catalog_id)] == [
        str(execution_id)
    ]
    assert await run.json("executions", "list", "--status", "FAILED") == []


async def test_execution_is_shown_with_its_steps(run: CommandLine) -> None:
    execution_id = await run.started()
    await run.client.executions.finalize(execution_id, "FAILED", "given [up]")
    shown = await run("executions", "show", execution_id)
    assert shown.exit_code == 0
    facts = dict(line.split(maxsplit=1) for line in shown.output.partition("\n\n")[0].splitlines())
    assert (facts["execution"].strip(), facts["status"].strip()) == (str(execution_id), "FAILED")
    assert facts["error"].strip() == "given [up]"
    assert "start  waiting" in shown.output
    detail = await run.json("executions", "show", execution_id)
    assert [event["event_type"] for event in detail["events"]][::2] == ["playbook_started", "playbook_failed"]


@pytest.mark.parametrize("command", [("executions", "events"), ("events",)])
async def test_events_are_printed_in_order_and_filtered(run: CommandLine, command: tuple[str, ...]) -> None:
    execution_id = await run.started()
    await run.client.executions.cancel(execution_id)
    lines = (await run(*command, execution_id)).output.splitlines()
    assert [line.split()[1] for line in lines] == ["playbook_started", "command.issued", "playbook_cancelled"]
    only = await run(*command, execution_id, "--type", "command.issued", "--json")
    (event,) = (orjson.loads(line) for line in only.output.splitlines())
    assert (event["event_type"], event["node_name"]) == ("command.issued", "start")
    assert len((await run(*command, execution_id, "--step", "start")).output.splitlines()) == 1


async def test_events_are_followed_to_the_end(run: CommandLine) -> None:
    execution_id = await run.started()
    following = await begun("events", str(execution_id), "--follow", "--json", environment=run.environment)
    assert following.stdout is not None
    async with asyncio.timeout(20):
        first = [orjson.loads(await following.stdout.readline())["event_type"] for _ in range(2)]
        assert first == ["playbook_started", "command.issued"]
        await run.client.executions.cancel(execution_id)
        assert orjson.loads(await following.stdout.readline())["event_type"] == "playbook_cancelled"
        assert (await following.communicate(), following.returncode) == ((b"", b""), 0)


@pytest.mark.parametrize(("status", "exit_code"), [("COMPLETED", 0), ("FAILED", 1)])
async def test_following_an_execution_tells_how_it_ended(run: CommandLine, status: Any, exit_code: int) -> None:
    execution_id = await run.started()
    following = await begun("executions", "follow", str(execution_id), "--json", environment=run.environment)
    await run.client.executions.finalize(execution_id, status)
    output, errors = await asyncio.wait_for(following.communicate(), 20)
    assert (following.returncode, errors) == (exit_code, b"")
    assert orjson.loads(output)["status"] == status
    done = await run("executions", "follow", execution_id)
    assert (done.exit_code, done.output.splitlines()[-1]) == (exit_code, status)


async def test_execution_is_cancelled_with_what_it_started(run: CommandLine) -> None:
    parent = await run.started()
    entry = await run.client.executions.get(parent)
    child = await run.client.executions.start(catalog_id=entry.catalog_id, parent_execution_id=parent)
    answer = await run.json("executions", "cancel", parent, "--cascade", "--reason", "enough")
    assert answer == {"cancelled_executions": [str(parent), str(child.execution_id)]}
    again = await run("executions", "cancel", parent)
    assert (again.exit_code, again.errors) == (1, "Error: Cannot cancel execution in CANCELLED state\n")


async def test_workers_are_listed_with_their_pools(run: CommandLine) -> None:
    await run.client.pools.register("w-1", labels={"pool_name": "shared"})
    await run.client.pools.register("w-2", status="offline")
    output = (await run("pools")).output.splitlines()
    assert [line.split()[:3] for line in output[:2]] == [["worker", "status", "pool"], ["w-1", "ready", "shared"]]
    assert [pool["name"] for pool in await run.json("pools", "--status", "offline")] == ["w-2"]


async def test_server_that_does_not_answer_is_named_in_one_line() -> None:
    commands = [
        "catalog list", "catalog show a", f"catalog register {HELLO}", f"catalog validate {HELLO}", "executions list",
        "executions show 5", "executions follow 5", "executions events 5", "executions cancel 5", "executions start a",
        "events 5", "pools",
    ]  # fmt: skip
    ends = await asyncio.gather(*(noetl_server(*command.split(), "--server", NOBODY) for command in commands))
    expected = Finished(1, "", f"Error: no answer from {NOBODY}: connection refused\n")
    assert dict(zip(commands, ends, strict=True)) == dict.fromkeys(commands, expected)


async def test_unknown_execution_is_an_error(run: CommandLine) -> None:
    commands = ["executions show 5", "executions follow 5", "events 5", "events 5 --follow"]
    ends = await asyncio.gather(*(run(*command.split()) for command in commands))
    expected = Finished(1, "", "Error: Execution not found: 5\n")
    assert dict(zip(commands, ends, strict=True)) == dict.fromkeys(commands, expected)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("noetl-server ex", ["executions"]),
        ("noetl-server catalog ", ["list", "show", "register", "validate"]),
        ("noetl-server executions list --status ", ["RUNNING", "COMPLETED", "FAILED", "CANCELLED"]),
    ],
)
async def test_shell_completes_words(words: str, expected: list[str]) -> None:
    asked = {
        "_NOETL_SERVER_COMPLETE": "complete_bash",
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split(" ")) - 1),
    }
    script = Path(sys.executable).with_name("noetl-server")
    process = await asyncio.create_subprocess_exec(script, stdout=asyncio.subprocess.PIPE, env={**os.environ, **asked})
    output, _ = await asyncio.wait_for(process.communicate(), 20)
    assert output.decode().split() == expected
