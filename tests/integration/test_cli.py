"""The command line as a newcomer uses it: real processes, real services."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from noetl.dev.stack import DevStack
from tests.integration.command_line import begun, is_listening, noetl_server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

EXAMPLES = Path(__file__).parents[2] / "examples"

RESULTS: dict[str, tuple[list[str], Any]] = {
    "hello.yaml": (["name=Ada"], {"shout": "HELLO, ADA!", "length": 11}),
    "branch.yaml": (["amount=2500"], {"decision": "2500 needs a second pair of eyes"}),
    "loop.yaml": (
        ['cities=["Oslo","Lima"]'],
        {"iterations": 2, "rows": [{"city": "Oslo", "letters": 4}, {"city": "Lima", "letters": 4}]},
    ),
    "pipeline.yaml": (["text=one two three"], {"said": "3 words, the longest is three", "count": 3}),
    "errors.yaml": ([], {"quotient": 0, "note": "recovered: Python script exited with code 1"}),
}


@pytest.fixture(scope="module")
async def stack() -> AsyncIterator[DevStack]:
    async with DevStack() as running:
        yield running


@pytest.mark.parametrize("name", sorted(RESULTS))
async def test_example_gives_the_result_it_promises(stack: DevStack, name: str) -> None:
    settings, result = RESULTS[name]
    options = [part for setting in settings for part in ("--set", setting)]
    done = await noetl_server("run", str(EXAMPLES / name), *options, "--json", "--server", stack.url)
    assert done.exit_code == 0, done.errors
    document = orjson.loads(done.output)
    assert document["status"] == "COMPLETED"
    assert document["result"] == result


def test_every_example_is_tested() -> None:
    assert {path.name for path in EXAMPLES.glob("*.yaml")} == set(RESULTS)


async def test_run_shows_the_steps_and_the_result(stack: DevStack) -> None:
    done = await noetl_server("run", str(EXAMPLES / "hello.yaml"), "--server", stack.url)
    assert done.exit_code == 0
    for text in ("start", "end", "done", "COMPLETED", "HELLO, WORLD!"):
        assert text in done.output


async def test_run_of_an_invalid_playbook_names_the_line(stack: DevStack, tmp_path: Path) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text("apiVersion: noetl.io/v2\nkind: Playbook\nmetadata: {name: x}\nworkflow:\n- step: start\n")
    done = await noetl_server("run", str(file), "--server", stack.url)
    assert done.exit_code == 2
    assert f"{file}:5:3: " in done.errors
    assert "missing field `tool`" in done.errors


async def test_run_of_a_failing_playbook_exits_with_one(stack: DevStack, tmp_path: Path) -> None:
    file = tmp_path / "failing.yaml"
    file.write_text(
        "apiVersion: noetl.io/v2\nkind: Playbook\nmetadata: {name: x, path: cli/failing}\nworkflow:\n"
        "- {step: start, tool: {kind: duckdb, query: select 1}}\n"
    )
    done = await noetl_server("run", str(file), "--server", stack.url)
    assert done.exit_code == 1
    assert "FAILED" in done.output


async def test_run_that_takes_too_long_cancels_the_execution(stack: DevStack, tmp_path: Path) -> None:
    file = tmp_path / "slow.yaml"
    file.write_text(
        "apiVersion: noetl.io/v2\nkind: Playbook\nmetadata: {name: x, path: cli/too-slow}\nworkflow:\n"
        "- {step: start, tool: {kind: shell, command: sleep 3}}\n"
    )
    done = await noetl_server("run", str(file), "--timeout", "0.5", "--server", stack.url)
    assert (done.exit_code, done.errors) == (1, "Error: no end after 0.5 s; the execution was cancelled\n")
    listed = await noetl_server("executions", "list", "--path", "too-slow", "--json", "--server", stack.url)
    assert [item["status"] for item in orjson.loads(listed.output)] == ["CANCELLED"]


async def test_unreachable_server_is_named_in_one_line() -> None:
    done = await noetl_server("executions", "list", "--server", "http://127.0.0.1:1")
    assert (done.exit_code, done.output) == (1, "")
    assert done.errors == "Error: no answer from http://127.0.0.1:1: connection refused\n"


async def test_unreadable_document_is_named_in_one_line(tmp_path: Path) -> None:
    file = tmp_path / "latin.yaml"
    file.write_bytes(b"name: caf\xe9\n")
    for command in (("run",), ("catalog", "register")):
        done = await noetl_server(*command, str(file))
        assert (done.exit_code, done.errors) == (2, f"Error: {file} is not UTF-8 (byte 9)\n")


@pytest.mark.skipif(is_listening(8082), reason="a server on port 8082 would be used instead of one for the run")
async def test_interrupted_run_stops_everything_and_exits_with_130(tmp_path: Path) -> None:
    file = tmp_path / "slow.yaml"
    marker = f"sleep 61.{os.getpid()}"
    file.write_text(
        "apiVersion: noetl.io/v2\nkind: Playbook\nmetadata: {name: x, path: cli/slow}\nworkflow:\n"
        f"- {{step: start, tool: {{kind: shell, command: '{marker}'}}}}\n"
    )
    process = await begun("run", str(file))
    async with asyncio.timeout(60):
        while not _runs(marker):  # noqa: ASYNC110 (another process's process: there is nothing to wait on)
            await asyncio.sleep(0.05)
        process.send_signal(signal.SIGINT)
        assert await process.wait() == 130
    assert not _runs(marker)


async def test_resources_are_listed_as_json(stack: DevStack) -> None:
    await noetl_server("catalog", "register", str(EXAMPLES / "hello.yaml"), "--server", stack.url)
    listed = await noetl_server("catalog", "list", "--json", "--server", stack.url)
    assert "examples/hello" in {entry["path"] for entry in orjson.loads(listed.output)}
    pools = await noetl_server("pools", "--json", "--server", stack.url)
    assert orjson.loads(pools.output)[0]["status"] == "ready"
    executions = await noetl_server("executions", "list", "--json", "--server", stack.url)
    assert executions.exit_code == 0


async def test_bad_settings_stop_the_start_with_all_problems() -> None:
    done = await noetl_server("serve", environment={"NOETL_PORT": "abc", "NOETL_SERVER_MACHINE_ID": "5000"})
    assert done.exit_code == 2
    assert 'NOETL_PORT: "abc"' in done.errors
    assert "server_machine_id must fit in 10 bits" in done.errors


async def test_config_masks_secrets() -> None:
    done = await noetl_server("config", environment={"POSTGRES_PASSWORD": "hunter2-hunter2"})
    assert done.exit_code == 0
    assert "POSTGRES_PASSWORD" in done.output
    assert "hunter2" not in done.output


async def test_schema_is_created_and_validated_by_the_command_line(database_url: str) -> None:
    environment = {"DATABASE_URL": database_url}
    assert (await noetl_server("db", "validate", environment=environment)).exit_code == 1
    assert (await noetl_server("db", "upgrade", environment=environment)).exit_code == 0
    assert (await noetl_server("db", "validate", environment=environment)).exit_code == 0


def _runs(marker: str) -> bool:
    """Whether a process with this command line is alive."""
    wanted = marker.replace(" ", "\0").encode()
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if wanted in entry.read_bytes():
                return True
        except OSError:
            continue
    return False
