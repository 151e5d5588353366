"""Lines of the log: their shape, their context, what they hide, and that they never hold the server up."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import threading
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noetl.config import Secret, load_settings
from noetl.config.log_filter import TRACE
from noetl.errors import DatabaseError
from noetl.observability.context import log_context, span
from noetl.observability.line_writer import LineWriter
from noetl.observability.logging import configure_logging, get_logger
from noetl.observability.redaction import redact

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ID = 383254787144409088


class Log:
    """A configured log, and its lines once it is closed."""

    def __init__(self, **environ: str) -> None:
        self._stream = io.BytesIO()
        self._handle = configure_logging(load_settings({"HOSTNAME": "a", **environ}), self._stream)

    def close(self) -> None:
        self._handle.close()

    def lines(self) -> list[dict[str, Any]]:
        self.close()
        return [json.loads(line) for line in self._stream.getvalue().splitlines()]


@pytest.fixture
def open_log() -> Iterator[Callable[..., Log]]:
    opened: list[Log] = []

    def make(**environ: str) -> Log:
        opened.append(Log(**environ))
        return opened[-1]

    yield make
    for log in opened:
        log.close()


def test_shape_of_a_line(open_log: Callable[..., Log]) -> None:
    log = open_log(NOETL_SERVER_NAME="eu")
    get_logger("noetl.state").info(
        "Ready for %s", "work", extra={"machine_id": 465, "execution_id": ID, "n": 2**60, "x": 1}
    )
    (line,) = log.lines()
    assert list(line) == ["timestamp", "level", "fields", "target", "server_name"]
    assert line["level"] == "INFO"
    assert line["target"] == "noetl_server::state"
    assert line["server_name"] == "eu"
    assert line["fields"] == {
        "message": "Ready for work",
        "machine_id": 465,
        "execution_id": str(ID),
        "n": str(2**60),
        "x": 1,
    }
    assert len(line["timestamp"]) == len("2026-11-23T13:52:03.843907Z")
    assert line["timestamp"].endswith("Z")


def test_spans_and_context_of_the_task_are_in_its_lines(open_log: Callable[..., Log]) -> None:
    log = open_log()

    async def work(number: int) -> None:
        with (
            log_context(request_id=f"r{number}"),
            span("request", method="POST"),
            span("event.ingest", execution_id=number),
        ):
            await asyncio.sleep(0)
            get_logger("noetl.http").warning("late")

    async def all_work() -> None:
        async with asyncio.TaskGroup() as group:
            for number in (1, 2):
                group.create_task(work(number))

    asyncio.run(all_work())
    get_logger("noetl.http").warning("outside")
    first, second, outside = log.lines()
    assert first["fields"] == {"message": "late", "request_id": "r1"}
    assert second["span"] == {"name": "event.ingest", "execution_id": "2"}
    assert second["spans"] == [{"name": "request", "method": "POST"}, {"name": "event.ingest", "execution_id": "2"}]
    assert "span" not in outside
    assert outside["fields"] == {"message": "outside"}


def fail() -> None:
    raise DatabaseError("Database error", detail="relation\nmissing at postgres://u:hunter2@h/d")


def test_exceptions_have_one_line_and_a_stack_only_at_error(open_log: Callable[..., Log]) -> None:
    log = open_log()
    try:
        fail()
    except DatabaseError:
        get_logger("noetl.a").exception("failed")
        get_logger("noetl.a").warning("again", exc_info=True)
    error, warning = log.lines()
    assert error["fields"]["error"] == "DatabaseError: Database error"
    assert "fail()" in error["fields"]["stack"]
    assert error["fields"]["detail"] == "relation\nmissing at postgres://***@h/d"
    assert "stack" not in warning["fields"]
    assert error["level"] == "ERROR"


def test_exception_as_a_field_is_one_line(open_log: Callable[..., Log]) -> None:
    log = open_log()
    get_logger("noetl.a").warning("x", extra={"error": ValueError("two\nlines")})
    (line,) = log.lines()
    assert line["fields"]["error"] == "ValueError: two lines"


def test_no_secret_reaches_the_log(open_log: Callable[..., Log]) -> None:
    log = open_log()
    get_logger("noetl.a").error(
        "cannot reach nats://u:hunter2@h",
        extra={
            "dsn": "host=a;password=hunter2;user=u",
            "token_holder": Secret("hunter2"),
            "nested": {"list": ["postgres://u:hunter2@h"], "event_id": ID},
            "header": "Authorization: Bearer hunter2hunter2",
        },
    )
    (line,) = log.lines()
    assert "hunter2" not in json.dumps(line)
    assert line["fields"]["nested"]["event_id"] == str(ID)


def test_default_level_is_info_and_debug_with_the_switch(open_log: Callable[..., Log]) -> None:
    log = open_log()
    get_logger("noetl.a").debug("hidden")
    assert log.lines() == []
    log = open_log(NOETL_DEBUG="1")
    get_logger("noetl.a").debug("shown")
    assert [line["level"] for line in log.lines()] == ["DEBUG"]


def test_filter_of_the_manifest(open_log: Callable[..., Log]) -> None:
    log = open_log(RUST_LOG="info,noetl_server=debug,async_nats=off")
    get_logger("noetl.ledger").debug("ours")
    get_logger("noetl.http.access").debug("request")
    get_logger("nats.aio").error("lost")
    get_logger("somebody").debug("theirs")
    assert [line["fields"]["message"] for line in log.lines()] == ["ours"]


@pytest.mark.parametrize("text", ["trace", "uvicorn=trace", "uvicorn::asgi=trace,info"])
def test_the_server_library_never_shows_whole_requests(open_log: Callable[..., Log], text: str) -> None:
    open_log(RUST_LOG=text)
    for name in ("uvicorn", "uvicorn.asgi", "uvicorn.error"):
        assert not logging.getLogger(name).isEnabledFor(TRACE)


@pytest.mark.parametrize(
    ("text", "shown"), [("", ["e"]), ("off", []), ("warn", ["w", "e"]), ("trace[[", ["RUST", "w", "e"])]
)
def test_filters_that_are_empty_off_or_invalid(open_log: Callable[..., Log], text: str, shown: list[str]) -> None:
    log = open_log(RUST_LOG=text)
    get_logger("noetl.a").warning("w")
    get_logger("noetl.a").error("e")
    assert [line["fields"]["message"][:4] for line in log.lines()] == shown


def test_notices_of_the_configuration_are_logged(open_log: Callable[..., Log]) -> None:
    log = open_log(NOETL_PORT="tcp://10.0.0.1:8082")
    (line,) = log.lines()
    assert line["level"] == "INFO"
    assert "NOETL_PORT" in line["fields"]["message"]


def test_closing_puts_the_former_handlers_and_levels_back(open_log: Callable[..., Log]) -> None:
    before = logging.getLogger().handlers[:], logging.getLogger("noetl").level
    log = open_log(RUST_LOG="off")
    log.close()
    assert (logging.getLogger().handlers, logging.getLogger("noetl").level) == before


@given(st.text(alphabet=st.characters(), max_size=30), st.integers(), st.binary(max_size=5))
def test_every_line_is_json_whatever_is_logged(text: str, number: int, data: bytes) -> None:
    log = Log()
    try:
        get_logger("noetl.a").info(
            "%s", text, extra={"number": number, "data": data, "keys": {1: text}, "many": {text}}
        )
    finally:
        lines = log.lines()
    assert len(lines) == 1


def test_long_texts_are_cut(open_log: Callable[..., Log]) -> None:
    log = open_log()
    get_logger("noetl.a").info("m", extra={"text": "x" * 1_000_000})
    (line,) = log.lines()
    assert len(line["fields"]["text"]) < 40_000


class StuckStream:
    """A pipe whose reader does not read until released."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.release = threading.Event()
        self.data = b""

    def write(self, data: bytes, /) -> None:
        self.entered.set()
        self.release.wait(10)
        self.data += data

    def flush(self) -> None:
        pass


def test_a_slow_reader_costs_lines_and_never_blocks() -> None:
    stream = StuckStream()
    writer = LineWriter(stream, 10, lambda count: b"lost %d\n" % count)
    writer.put(b"first\n", important=True)
    assert stream.entered.wait(10)
    for _ in range(20):
        writer.put(b"debug\n", important=False)
    for _ in range(20):
        writer.put(b"info\n", important=True)
    assert writer.dropped == 15 + 15
    stream.release.set()
    writer.close(10)
    assert stream.data == b"first\n" + b"debug\n" * 5 + b"info\n" * 5 + b"lost 30\n"


def test_a_closed_pipe_does_not_end_the_writer() -> None:
    class ClosedStream:
        def write(self, data: bytes, /) -> None:
            raise BrokenPipeError

        def flush(self) -> None:
            raise BrokenPipeError

    writer = LineWriter(ClosedStream(), 10, lambda count: b"")
    writer.put(b"a\n", important=True)
    writer.close(10)
    assert writer.dropped == 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("postgres://u:p@ss@host/db", "postgres://***@host/db"),
        ("nats://tok@h:4222, nats://b", "nats://***@h:4222, nats://b"),
        ("host=a;password=x y;user=u", "host=a;password=***;user=u"),
        ('{"api_key": "abc", "name": "n"}', '{"api_key": ***, "name": "n"}'),
        ("Bearer abcdef.ghi-jk", "Bearer ***"),
        ("http://h/a?b=c@d", "http://h/a?b=c@d"),
        ("the monkey is a key", "the monkey is a key"),
    ],
)
def test_redaction(text: str, expected: str) -> None:
    assert redact(text) == expected
