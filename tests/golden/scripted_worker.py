"""A deterministic worker: plays the script of a case against a server, one request after the other.

A case is a file of ``tests/golden/engine/cases``:

=============  ====================================================================================================
member         meaning
=============  ====================================================================================================
title          what the case is about
covers         the rules it is there for (sections, bullets and oddity ids of the engine contract)
playbook       the text that is registered; ``{{`` and friends are the playbook's own
children       further playbooks by name, for ``execute`` actions
payload        payload of the execution
data           what tools return, by ``step`` or ``step#index``; by default ``{"ok": step}``, in loops also ``i``
worker         the actions below, in order; by default only ``serve``
begin          event type of a start row that is written past the server, instead of executing
loop_results   setting of our server for this case, ``reference`` by default
ours           where we differ on purpose: ``why`` (ids of docs/deviations.md) and our ``log`` (`engine_lines`)
=============  ====================================================================================================

Actions name commands as ``step``, ``step#index`` in loops, or ``child/step``:

=================================  ==================================================================================
action                             what the worker does
=================================  ==================================================================================
``step``, ``{complete: step}``     claim, command.started, call.done, command.completed. Options: ``data``, ``result``
                                   (instead of status and data), ``status``, ``without`` (events left out)
``{fail: step, error: text}``      claim, command.started, call.error, command.failed; ``error: null`` says no text
``serve``, ``{serve: n}``          complete what is announced, in order of announcement, until nothing is left, or n
``{claim: step}``                  claim only
``{event: type, command: step}``   one event. Options: ``step`` (without a command), ``payload``, ``status``, ``meta``,
                                   ``fields`` (further members of the envelope), ``id`` (a name, for ``repeat``),
                                   ``clock`` (milliseconds by which the worker's clock, and thus the id, is off)
``{repeat: id}``                   the same body again; ``with`` changes members of it
``{batch: [event, ...]}``          events through the batch route
``{execute: child}``               start a child execution (``payload``), as the playbook tool does
``{cancel: body}``                 cancel; ``{finalize: body}`` finalise; ``of: child`` for a child
=================================  ==================================================================================
"""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import time_ns
from typing import TYPE_CHECKING, Any, Final

import aiohttp
import asyncpg
import nats
import yaml

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping

    from nats.aio.msg import Msg

FOLDER: Final = Path(__file__).parent / "engine"
WORKER: Final = "w1"
MAIN: Final = ""
PATIENCE_SECONDS: Final = 15.0
SERVED_AT_MOST: Final = 50
_EPOCH_MS: Final = 1_704_067_200_000


@dataclass(frozen=True)
class Case:
    """One file of the cases."""

    name: str
    title: str
    playbook: str
    covers: list[str] = field(default_factory=list)
    children: dict[str, str] = field(default_factory=dict)
    payload: dict[str, Any] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    worker: list[Any] = field(default_factory=lambda: ["serve"])
    begin: str | None = None
    loop_results: str = "reference"
    ours: dict[str, Any] = field(default_factory=dict)

    @property
    def recording(self) -> Path:
        """Where its recording is kept."""
        return FOLDER / "recorded" / f"{self.name}.json"


def load_cases() -> list[Case]:
    """All cases, by name."""
    files = sorted((FOLDER / "cases").glob("*.yaml"))
    return [Case(name=file.stem, **yaml.safe_load(file.read_text(encoding="utf-8"))) for file in files]


class Stage:
    """A server with its database and its NATS, and what was announced so far, by execution."""

    def __init__(self, url: str, session: aiohttp.ClientSession, database: asyncpg.Pool) -> None:
        self.url = url
        self.database: Any = database
        self._session = session
        self._messages: dict[int, list[tuple[str, dict[str, Any]]]] = {}
        self._arrival = asyncio.Condition()

    async def call(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """One request; gives the status and the answer, decoded if it is JSON."""
        async with self._session.request(method, self.url + path, json=body) as answer:
            text = await answer.text()
            try:
                return answer.status, json.loads(text)
            except ValueError:
                return answer.status, text

    async def receive(self, message: Msg) -> None:
        """Keep a notification."""
        body = json.loads(message.data)
        async with self._arrival:
            self._messages.setdefault(body["execution_id"], []).append((message.subject, body))
            self._arrival.notify_all()

    async def announced(self, execution_id: int) -> list[tuple[str, dict[str, Any]]]:
        """The notifications of an execution, once there is one for each command that it has issued."""
        issued = await self.database.fetchval(
            "SELECT count(*) FROM noetl.event"
            " WHERE execution_id = $1 AND event_type = 'command.issued' AND parent_event_id IS NOT NULL",
            execution_id,
        )
        found = self._messages.setdefault(execution_id, [])
        try:
            async with asyncio.timeout(PATIENCE_SECONDS), self._arrival:
                await self._arrival.wait_for(lambda: len(found) >= issued)
        except TimeoutError as error:
            raise AssertionError(f"{issued} commands were issued, {len(found)} announced") from error
        return found


@asynccontextmanager
async def open_stage(url: str, database_url: str, nats_url: str) -> AsyncGenerator[Stage]:
    """Connect to a running server from all sides. The JetStream stream is there already, or the server makes it."""
    async with aiohttp.ClientSession() as session, asyncpg.create_pool(database_url, min_size=1, max_size=4) as pool:
        stage = Stage(url, session, pool)
        client = await nats.connect(nats_url)
        try:
            await client.subscribe("noetl.commands.>", cb=stage.receive)
            await client.flush()
            yield stage
        finally:
            await client.close()


@dataclass(frozen=True)
class Command:
    """An announced command; ``index`` is that of a loop's iteration."""

    step: str
    index: int | None
    body: dict[str, Any]

    @classmethod
    def of(cls, body: dict[str, Any]) -> Command:
        """The command of a notification."""
        head, mark, index = body["command_id"].rpartition(":i")
        is_iteration = bool(mark) and index.isdigit() and head.endswith(str(body["event_id"]))
        return cls(body["step"], int(index) if is_iteration else None, body)

    @property
    def reference(self) -> str:
        """How scripts name it."""
        return self.step if self.index is None else f"{self.step}#{self.index}"


@dataclass
class Execution:
    """One execution of a case, with its commands in order of announcement and the event ids of those given out."""

    name: str
    execution_id: int
    commands: list[Command] = field(default_factory=list)
    taken: set[int] = field(default_factory=set)

    def find(self, reference: str, *, is_taken: bool) -> Command:
        """A command by its name in scripts: the first not given out, or with ``is_taken`` the last given out."""
        found = [command for command in self.commands if command.reference == reference]
        assert found, f"{reference} was not announced; announced are {[item.reference for item in self.commands]}"
        preferred = [command for command in found if (command.body["event_id"] in self.taken) == is_taken]
        return (preferred[-1] if is_taken else preferred[0]) if preferred else found[-1]


class ScriptedWorker:
    """Plays one case. ``executions`` and ``answers`` (label, status, body) hold what came of it."""

    def __init__(self, stage: Stage, case: Case) -> None:
        self.stage = stage
        self.case = case
        self.catalog: dict[str, int] = {}
        self.executions: dict[str, Execution] = {}
        self.answers: list[tuple[str, int, Any]] = []
        self._posted: dict[str, dict[str, Any]] = {}

    async def play(self) -> None:
        """Register, execute, and do what the script says."""
        paths: dict[str, str] = {}
        for name, text in {MAIN: self.case.playbook, **self.case.children}.items():
            path = await self._register(name, text)
            if path is None:
                return
            paths[name] = path
        if self.case.begin is None:
            body = {"path": paths[MAIN], "payload": self.case.payload}
            await self._execute(MAIN, body)
        else:
            await self._begin(self.case.begin, paths[MAIN])
        if MAIN not in self.executions:
            return
        for action in self.case.worker:
            await self._act(action, paths)

    # -- beginning -------------------------------------------------------------------------------------------------

    async def _register(self, name: str, text: str) -> str | None:
        """The path of a playbook in the catalog; a refusal is an answer to look at."""
        status, answer = await self.stage.call("POST", "/api/catalog/register", {"content": text})
        if status != 200:
            self.answers.append(("register", status, answer))
            return None
        self.catalog[name] = int(answer["catalog_id"])
        return answer["path"]

    async def _execute(self, name: str, body: dict[str, Any]) -> None:
        status, answer = await self._call("execute" if name == MAIN else f"execute {name}", "/api/execute", body)
        execution_id = int(answer["execution_id"]) if status == 200 else await self._left_behind(name)
        if execution_id is not None:
            self.executions[name] = Execution(name, execution_id)
            await self._listen()

    async def _left_behind(self, name: str) -> int | None:
        """An execution that exists although starting it was answered with an error."""
        return await self.stage.database.fetchval(
            "SELECT max(execution_id) FROM noetl.event WHERE catalog_id = $1", self.catalog[name]
        )

    async def _begin(self, event_type: str, path: str) -> None:
        """Write the start row of another kind of server, and no command."""
        execution_id = _mint()
        await self.stage.database.execute(
            "INSERT INTO noetl.event (execution_id, event_id, catalog_id, event_type, node_id, node_name, node_type,"
            " status, context) VALUES ($1, $2, $3, $4, 'playbook', $5, 'execution', 'STARTED', $6)",
            execution_id,
            execution_id + 1,
            self.catalog[MAIN],
            event_type,
            path,
            json.dumps({"workload": self.case.payload, "path": path}),
        )
        self.executions[MAIN] = Execution(MAIN, execution_id)

    # -- acting ----------------------------------------------------------------------------------------------------

    async def _act(self, action: Any, paths: Mapping[str, str]) -> None:
        if action == "serve":
            await self._serve(SERVED_AT_MOST)
        elif isinstance(action, str):
            await self._complete(action, {})
        elif "serve" in action:
            await self._serve(action["serve"])
        elif "complete" in action:
            await self._complete(action["complete"], action)
        elif "fail" in action:
            await self._fail(action["fail"], action)
        elif "claim" in action:
            await self._claim(action["claim"], action.get("worker", WORKER))
        elif "event" in action:
            if "id" in action or "clock" in action:
                await asyncio.sleep(0.003)  # ids of the worker and of the server never share a millisecond
            await self._post(self._envelope(action), action.get("id"))
        elif "repeat" in action:
            await self._post({**self._posted[action["repeat"]], **action.get("with", {})}, None)
        elif "batch" in action:
            await self._batch(action)
        elif "execute" in action:
            child = action["execute"]
            parent = self.executions[MAIN].execution_id
            payload = action.get("payload", {})
            await self._execute(child, {"path": paths[child], "payload": payload, "parent_execution_id": parent})
        else:
            await self._operate(action)
        await self._listen()

    async def _serve(self, at_most: int) -> None:
        for _ in range(at_most):
            waiting = [
                (execution, command)
                for execution in self.executions.values()
                for command in execution.commands
                if command.body["event_id"] not in execution.taken
            ]
            if not waiting:
                return
            await self._complete(self._name(*waiting[0]), {})
            await self._listen()

    async def _complete(self, reference: str, options: Mapping[str, Any]) -> None:
        if not await self._claim(reference, options.get("worker", WORKER)):
            return
        left_out = options.get("without", ())
        status = options.get("status", "success")
        data = options["data"] if "data" in options else self._data(reference)
        result = options.get("result", {"status": status, "context": {"status": status, "data": data}})
        life: tuple[tuple[str, str, dict[str, Any]], ...] = (
            ("command.started", "STARTED", {}),
            ("call.done", "COMPLETED", {"call_index": 0, "result": result}),
            ("command.completed", status, {"status": status}),
        )
        for event_type, event_status, payload in life:
            if event_type not in left_out:
                event = {"event": event_type, "command": reference, "status": event_status, "payload": payload}
                await self._post(self._envelope(event), None)

    async def _fail(self, reference: str, options: Mapping[str, Any]) -> None:
        if not await self._claim(reference, options.get("worker", WORKER)):
            return
        error = {} if options["error"] is None else {"error": options["error"]}
        life: tuple[tuple[str, str, dict[str, Any]], ...] = (
            ("command.started", "STARTED", {}),
            ("call.error", "FAILED", {"call_index": 0, **error}),
            ("command.failed", "FAILED", error),
        )
        for event_type, status, payload in life:
            event = {"event": event_type, "command": reference, "status": status, "payload": payload}
            await self._post(self._envelope(event), None)

    async def _claim(self, reference: str, worker: str) -> bool:
        execution, own = self._locate(reference)
        event_id = execution.find(own, is_taken=False).body["event_id"]
        execution.taken.add(event_id)
        label = f"claim {reference}" + ("" if worker == WORKER else f" by {worker}")
        status, _ = await self._call(label, f"/api/commands/{event_id}/claim", {"worker_id": worker})
        return status == 200

    def _envelope(self, action: Mapping[str, Any]) -> dict[str, Any]:
        """The body of ``POST /api/events`` for an event action."""
        payload = action.get("payload")
        if "command" in action:
            execution, own = self._locate(action["command"])
            command = execution.find(own, is_taken=True)
            step = action.get("step", command.step)
            if payload is None or isinstance(payload, dict):
                payload = {"command_id": command.body["command_id"], **(payload or {})}
        else:
            execution, step = self.executions[action.get("of", MAIN)], action["step"]
        body: dict[str, Any] = {
            "execution_id": execution.execution_id,
            "step": step,
            "event_type": action["event"],
            "payload": payload,
            "worker_id": WORKER,
            "meta": action.get("meta", {"attempts": 0}),
            **action.get("fields", {}),
        }
        if "status" in action:
            body["status"] = action["status"]
        if "id" in action or "clock" in action:
            body["event_id"] = _mint(action.get("clock", 0))
        return body

    async def _post(self, body: dict[str, Any], name: str | None) -> None:
        if name is not None:
            self._posted[name] = body
        await self._call(f"{body['event_type']} {body['step']}", "/api/events", body)

    async def _batch(self, action: Mapping[str, Any]) -> None:
        events = [self._envelope(item) for item in action["batch"]]
        items = [{key: event[key] for key in ("step", "event_type", "payload")} for event in events]
        body = {"execution_id": events[0]["execution_id"], "worker_id": WORKER, "events": items}
        await self._call("batch " + " ".join(item["event_type"] for item in items), "/api/events/batch", body)

    async def _operate(self, action: Mapping[str, Any]) -> None:
        verb = "cancel" if "cancel" in action else "finalize"
        execution_id = self.executions[action.get("of", MAIN)].execution_id
        await self._call(verb, f"/api/executions/{execution_id}/{verb}", action[verb])

    # -- looking ---------------------------------------------------------------------------------------------------

    async def _call(self, label: str, path: str, body: Any) -> tuple[int, Any]:
        status, answer = await self.stage.call("POST", path, body)
        self.answers.append((label, status, answer))
        return status, answer

    async def _listen(self) -> None:
        for execution in self.executions.values():
            messages = await self.stage.announced(execution.execution_id)
            execution.commands += [Command.of(body) for _, body in messages[len(execution.commands) :]]

    def _name(self, execution: Execution, command: Command) -> str:
        return command.reference if execution.name == MAIN else f"{execution.name}/{command.reference}"

    def _locate(self, reference: str) -> tuple[Execution, str]:
        """The execution of a command's name, and the rest of the name."""
        child, slash, own = reference.partition("/")
        name, rest = (child, own) if slash and child in self.executions else (MAIN, reference)
        return self.executions[name], rest

    def _data(self, reference: str) -> Any:
        step, mark, index = reference.rpartition("#")
        if reference in self.case.data:
            return self.case.data[reference]
        if mark:
            return self.case.data.get(step, {"ok": step, "i": int(index)})
        return {"ok": reference}


def _mint(clock_ms: int = 0) -> int:
    """An id of machine 0, which sorts before all that the servers (machine 1 and up) mint in that millisecond."""
    return (time_ns() // 1_000_000 - _EPOCH_MS + clock_ms) << 22
