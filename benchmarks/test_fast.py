"""The extensions of ``noetl._fast`` beside their plain-Python twins and orjson; goals in nanoseconds per call."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from noetl._fast import event_codec
from noetl._fast.nesting import depth_of
from noetl._fast.sharding import shard_for
from noetl._fast.snowflake import EPOCH_MS, SnowflakeGenerator
from tests.unit.fast import twins

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.conftest import Measure

EXECUTION_ID = 383267245008121856
EVENT_ID = 383267245050064896
COMMAND_ID = f"{EXECUTION_ID}:start:{EVENT_ID}"

CLEAN: dict[str, Any] = {
    "status": "COMPLETED",
    "context": {
        "command_id": COMMAND_ID,
        "worker_id": "worker-7d9c6b5f4d",
        "result": {
            "rows": [{"id": 1, "name": "Müller", "city": "Zürich"}, {"id": 2, "name": "Meier", "note": "line\nbreak"}],
            "duration_ms": 12.5,
            "ok": True,
        },
        "step": "start",
        "tool_kind": "python",
    },
}
PAYLOADS = {
    "clean": orjson.dumps(CLEAN),
    "dirty": orjson.dumps(CLEAN | {"token": "x", "headers": [{"x": "Bearer y"}], "password": {"a": [1, 2]}}),
    "clean-64KiB": orjson.dumps({"status": "COMPLETED", "context": {"rows": [CLEAN] * 220}}),
}
META = b'{"attempt":1,"source":"worker"}'
CONTEXT = orjson.dumps(CLEAN["context"])

IMPLEMENTATIONS = pytest.mark.parametrize("module", [event_codec, twins], ids=["extension", "twin"])


@pytest.mark.benchmark(group="mint")
def test_mint(measure: Measure) -> None:
    measure(SnowflakeGenerator(862).mint, goal=150)


@pytest.mark.benchmark(group="mint")
def test_mint_in_plain_python(measure: Measure) -> None:
    twin = twins.Snowflake(862)
    measure(lambda: twin.mint_at(time.time_ns() // 1_000_000 - EPOCH_MS), ours=False)


@pytest.mark.benchmark(group="shard")
@pytest.mark.parametrize("function", [shard_for, twins.shard_for], ids=["extension", "xxhash package"])
def test_shard(measure: Measure, function: Callable[[int, int], int]) -> None:
    ours = function is shard_for
    assert measure(function, EXECUTION_ID, 16, goal=150, ours=ours) == twins.shard_for(EXECUTION_ID, 16)


@pytest.mark.benchmark(group="nesting 64 KiB")
@pytest.mark.parametrize("function", [depth_of, twins.depth_of], ids=["extension", "twin"])
def test_depth(measure: Measure, function: Callable[[bytes], int]) -> None:
    assert measure(function, PAYLOADS["clean-64KiB"], goal=150_000, ours=function is depth_of) == 8


@pytest.mark.parametrize(
    ("payload", "goal"),
    [
        pytest.param("clean", 1_000, marks=pytest.mark.benchmark(group="sanitize clean")),
        pytest.param("dirty", 3_000, marks=pytest.mark.benchmark(group="sanitize dirty")),
        pytest.param("clean-64KiB", 200_000, marks=pytest.mark.benchmark(group="sanitize 64 KiB")),
    ],
)
@pytest.mark.parametrize(
    "function", [event_codec.sanitize, twins.sanitize_with_orjson], ids=["extension", "orjson and a walk"]
)
def test_sanitize(measure: Measure, function: Callable[[bytes], bytes], payload: str, goal: float) -> None:
    measure(function, PAYLOADS[payload], goal=goal, ours=function is event_codec.sanitize)


@pytest.mark.benchmark(group="envelope")
@IMPLEMENTATIONS
def test_result_envelope(measure: Measure, module: Any) -> None:
    measure(module.result_envelope, "COMPLETED", CONTEXT, goal=200, ours=module is event_codec)


@pytest.mark.benchmark(group="event meta")
@IMPLEMENTATIONS
def test_event_meta(measure: Measure, module: Any) -> None:
    measure(module.event_meta, META, "worker-7d9c6b5f4d", True, True, goal=400, ours=module is event_codec)


@pytest.mark.benchmark(group="event response")
@IMPLEMENTATIONS
def test_event_response(measure: Measure, module: Any) -> None:
    measure(module.event_response, EVENT_ID, goal=200, ours=module is event_codec)


@pytest.mark.benchmark(group="claim response")
@IMPLEMENTATIONS
def test_claim_response(measure: Measure, module: Any) -> None:
    measure(
        module.claim_response,
        EVENT_ID,
        EXECUTION_ID,
        "start",
        "python",
        CONTEXT,
        META,
        goal=400,
        ours=module is event_codec,
    )


@pytest.mark.benchmark(group="notification")
@IMPLEMENTATIONS
def test_notification(measure: Measure, module: Any) -> None:
    measure(
        module.notification,
        EXECUTION_ID,
        EVENT_ID,
        COMMAND_ID,
        "start",
        "http://noetl.noetl.svc.cluster.local:8082",
        goal=400,
        ours=module is event_codec,
    )
