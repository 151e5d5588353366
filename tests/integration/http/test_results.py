"""The result store: what is stored is given back, canonical, whatever its size; memory stays bounded."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import json
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from noetl.errors import OverloadedError
from noetl.http.canonical_pieces import PIECE_BYTES, PieceError, canonical, canonical_pieces
from noetl.http.large_transfers import LargeTransfers
from noetl.http.results import parse_reference
from noetl.store.results import ResultStore
from tests.integration.http.client_application import client_application
from tests.integration.http.rawhttp import JSON

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.integration.http.client_application import ClientRoutes
    from tests.integration.http.rawhttp import RawClient, Reply, Serve

LARGEST = 8 << 20

values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(-1e15, 1e15)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner),
    max_leaves=40,
)  # fmt: skip


@pytest.fixture(scope="module")
async def routes(migrated_database_url: str) -> AsyncIterator[ClientRoutes]:
    async with client_application(migrated_database_url, largest_result=LARGEST) as opened:
        yield opened


async def put(client: RawClient, body: bytes, execution_id: int = 5) -> Reply:
    return await client.request("PUT", f"/api/result/{execution_id}", body, [JSON])


async def resolve(client: RawClient, reference: str) -> Reply:
    return await client.get(f"/api/result/resolve?ref={quote(reference, safe='')}")


def body_of(data: bytes, name: str = "step") -> bytes:
    return b'{"name":%b,"data":%b}' % (json.dumps(name).encode(), data)


@given(values)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_digest_is_of_the_canonical_text_and_the_value_comes_back(client: RawClient, value: Any) -> None:
    text = orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    reply = await put(client, body_of(json.dumps(value).encode()))
    if "\\u0000" in json.dumps(value).replace("\\\\", ""):
        assert (reply.status, reply.json["error"]) == (422, "data must not contain U+0000")
        return
    assert (reply.json["bytes"], reply.json["sha256"]) == (len(text), hashlib.sha256(text).hexdigest())
    answer = await resolve(client, reply.json["ref"])
    assert answer.json == value


async def test_row_holds_what_was_sent(client: RawClient, routes: ClientRoutes) -> None:
    body = {"name": "a/b c", "data": {"b": 1, "a": [2]}, "scope": "x", "source_step": "s", "store": "kv", "ttl": "5m"}
    reply = await put(client, json.dumps(body).encode(), -7)
    reference = parse_reference(reply.json["ref"])
    row = await routes.database.fetchrow("SELECT * FROM noetl.result_store WHERE result_id = $1", reference.result_id)
    assert row is not None
    text = b'{"a":[2],"b":1}'
    assert {name: row[name] for name in ("execution_id", "name", "scope", "source_step", "bytes", "sha256")} == {
        "execution_id": -7, "name": "a/b c", "scope": "x", "source_step": "s", "bytes": len(text),
        "sha256": hashlib.sha256(text).hexdigest(),
    }  # fmt: skip
    assert (row["media_type"], row["expires_at"], json.loads(row["data"])) == (
        "application/json",
        None,
        {"a": [2], "b": 1},
    )


async def test_equal_results_get_references_of_their_own(client: RawClient) -> None:
    first, second = [(await put(client, body_of(b"1"))).json["ref"] for _ in range(2)]
    assert first != second
    other = first.replace("/5/", "/6/"), first.replace("/step/", "/other/")
    assert [(await resolve(client, reference)).status for reference in (first, *other)] == [200, 404, 404]


async def test_large_result_comes_back_canonical(client: RawClient) -> None:
    rows = [
        {"zeta": number, "alpha": "é" * 20, "list": [1.0, None, {"b": number, "a": '\\"'}]} for number in range(30_000)
    ]
    data = {"rows": rows, "columns": ["zeta"], "é": "x" * 1_000_000, "": {"nested": rows[:3000]}}
    text = orjson.dumps(data, option=orjson.OPT_SORT_KEYS)
    assert 4 << 20 < len(text) < LARGEST
    sent = json.dumps(data, ensure_ascii=False, indent=1).encode()
    sent = sent if len(sent) < LARGEST - 100 else json.dumps(data, ensure_ascii=False).encode()
    reply = await put(client, body_of(sent))
    assert (reply.status, reply.json["bytes"], reply.json["sha256"]) == (
        200,
        len(text),
        hashlib.sha256(text).hexdigest(),
    )
    answer = await resolve(client, reply.json["ref"])
    assert answer.headers["transfer-encoding"] == "chunked"
    assert answer.body == text


async def test_large_result_that_vanishes_while_it_is_read_is_not_found(
    client: RawClient, routes: ClientRoutes, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference = (await put(client, body_of(b'"' + b"x" * (2 << 20) + b'"'))).json["ref"]
    read = ResultStore.read

    async def read_too_late(store: ResultStore, *arguments: Any) -> bytearray:
        result_id = parse_reference(reference).result_id
        await routes.database.execute("DELETE FROM noetl.result_store WHERE result_id = $1", result_id)
        return await read(store, *arguments)

    monkeypatch.setattr(ResultStore, "read", read_too_late)
    answer = await resolve(client, reference)
    assert (answer.status, answer.json["error"]) == (404, "result not found")


async def test_full_disk_refuses_large_results_for_now(client: RawClient, monkeypatch: pytest.MonkeyPatch) -> None:
    reference = (await put(client, body_of(b'"' + b"x" * (2 << 20) + b'"'))).json["ref"]

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("noetl.http.results._write_canonical", full)
    answer = await resolve(client, reference)
    assert (answer.status, answer.headers["retry-after"]) == (503, "1")


async def test_chunked_upload_is_bounded_like_any_other(client: RawClient) -> None:
    chunk = b"1," * 32_768
    head, tail = b'{"name":"n","data":[', b"1]}"
    count = (LARGEST - len(head) - len(tail)) // len(chunk)
    reply = await client.request("PUT", "/api/result/5", headers=[JSON], chunks=[head, *[chunk] * count, tail])
    assert (reply.status, reply.json["bytes"]) == (200, count * len(chunk) + 3)
    assert len((await resolve(client, reply.json["ref"])).body) == reply.json["bytes"]


async def test_largest_body_is_taken_and_one_byte_more_is_not(client: RawClient) -> None:
    frame = len(body_of(b'""'))
    fitting = body_of(b'"' + b"x" * (LARGEST - frame) + b'"')
    assert len(fitting) == LARGEST
    assert (await put(client, fitting)).json["bytes"] == LARGEST - frame + 2
    refused = await client.request("PUT", "/api/result/5", None, [JSON, ("content-length", str(LARGEST + 1))])
    assert (refused.status, refused.text) == (413, "Failed to buffer the request body: length limit exceeded")
    client.close()


async def test_a_slow_reader_does_not_keep_others_from_their_results(routes: ClientRoutes, serve: Serve) -> None:
    slow, other = await serve(routes.application), await serve(routes.application)
    length = LARGEST - len(body_of(b'""'))
    reference = (await put(other, body_of(b'"' + b"x" * length + b'"'))).json["ref"]
    target = f"/api/result/resolve?ref={quote(reference, safe='')}"
    await slow.send(f"GET {target} HTTP/1.1\r\nhost: test\r\n\r\n".encode())
    answers = await asyncio.wait_for(asyncio.gather(resolve(other, reference)), 5)
    assert [len(answer.body) for answer in answers] == [length + 2]
    assert len((await slow.receive()).body) == length + 2


async def test_many_large_uploads_at_once_are_all_stored(routes: ClientRoutes, serve: Serve) -> None:
    clients = [await serve(routes.application) for _ in range(6)]
    body = body_of(b"[" + b"[1,2]," * 300_000 + b"3]")
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(put(client, body)) for client in clients]
    assert [task.result().status for task in tasks] == [200] * 6


@pytest.mark.parametrize(
    "data",
    [
        b"[" + b'"' + b"a" * 1_200_000 + b'",1e400]',
        b"[" + b'"' + b"a" * 5_000_000 + b'",1e400]',
        b"[" + b'"' + b"a" * 5_000_000 + b'","\\ud800"]',
        b"[" + b'"' + b"a" * 5_000_000 + b'","\xff"]',
        b"[" + b'"' + b"a" * 1_200_000 + b'"}',
        b"[" * 126 + b'"' + b"a" * 1_200_000 + b'",[]' + b"]" * 126,
        b'["' + "\u00e9".encode() * 700_000 + b'\xc3"]',
        b'{"a":' * 200_000 + b"1" + b"}" * 200_000,
    ],
)
async def test_large_body_that_is_not_json_is_refused(client: RawClient, data: bytes) -> None:
    reply = await put(client, body_of(data))
    prefix = "Failed to parse the request body as JSON: "
    assert (reply.status, reply.text[: len(prefix)]) == (400, prefix)


async def test_deepest_nesting_is_stored_small_and_large(client: RawClient) -> None:
    for filler in (b"1", b'"' + b"a" * 1_200_000 + b'"'):
        data = b"[" * 126 + filler + b"]" * 126
        reply = await put(client, body_of(data))
        assert reply.status == 200, reply.text[:200]
        assert (await resolve(client, reply.json["ref"])).body == data
        assert (await put(client, body_of(b"[" + data + b"]"))).status == 400


async def test_nul_in_a_large_result_is_refused_by_name(client: RawClient) -> None:
    reply = await put(client, body_of(b'["' + b"a" * 1_200_000 + b'","\\u0000"]'))
    assert (reply.status, reply.json["error"]) == (422, "data must not contain U+0000")


async def test_value_that_no_double_holds_is_given_as_it_is_stored(client: RawClient, routes: ClientRoutes) -> None:
    await routes.database.execute(
        "INSERT INTO noetl.result_store (result_id, execution_id, name, scope, data, bytes, sha256)"
        " VALUES (1, 5, 'n', 'x', '[1e400]', 0, '')"
    )
    answer = await resolve(client, "noetl://execution/5/result/n/1")
    assert (answer.status, answer.text) == (200, "[1" + "0" * 400 + "]")


@given(values, st.integers(1, 60), st.sampled_from([None, 1]))
@settings(max_examples=300, deadline=None)
def test_pieces_make_up_the_canonical_text(value: Any, size: int, indent: int | None) -> None:
    text = json.dumps(value, indent=indent, ensure_ascii=False).encode()
    joined = b"".join(canonical_pieces(text, 127, size))
    assert joined == orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def test_last_of_two_members_counts_and_negative_zero_keeps_its_sign() -> None:
    assert canonical(b'{"a":1,"a":[-0,"-0,",-0.0,-01e0]}'.replace(b"-01e0", b"-1")) == b'{"a":[-0.0,"-0,",-0.0,-1]}'


@pytest.mark.parametrize(
    "text", [b"[[]", b"]", b"[}", b'["', b"[1,2", b'{"a":', b"[[[[[[[[[]", b"", b"[,]", b"[[[[[[]]]]]]]"]
)
def test_text_that_is_no_json_is_told(text: bytes) -> None:
    with pytest.raises(PieceError):
        b"".join(canonical_pieces(text, 5))


@pytest.mark.parametrize("separator", [b",", b", ", b" ,", b" ,\n\t"])
@pytest.mark.parametrize("element", [b"1", b"[]", b'{"a": 1}', b'"text"', b'{"id": 1, "list": [[[[[1]]]]]}'])
def test_large_values_are_never_decoded_at_once(
    monkeypatch: pytest.MonkeyPatch, element: bytes, separator: bytes
) -> None:
    largest = 0
    decode = orjson.loads

    def watched(text: bytes) -> Any:
        nonlocal largest
        largest = max(largest, len(text))
        return decode(text)

    monkeypatch.setattr("noetl.http.canonical_pieces.orjson.loads", watched)
    count = (3 << 20) // len(element + separator)
    text = b'{"rows":[' + separator.join([element] * count) + b"]}"
    expected = b'{"rows":[' + b",".join([canonical(element)] * count) + b"]}"
    largest = 0
    assert b"".join(canonical_pieces(text, 127)) == expected
    assert largest < 2 * PIECE_BYTES


async def test_transfers_wait_for_room_in_order_and_give_up_in_time() -> None:
    gate = LargeTransfers(10, wait_seconds=0.05)
    order: list[int] = []

    async def transfer(number: int, size: int) -> None:
        async with gate.admitted(size):
            order.append(number)

    async with asyncio.TaskGroup() as group, gate.admitted(6):
        for number, size in ((1, 8), (2, 1), (3, 20)):
            group.create_task(transfer(number, size))
        await asyncio.sleep(0)
        assert order == []
    assert order == [1, 2, 3]
    async with gate.admitted(10):
        with pytest.raises(OverloadedError):
            await transfer(4, 1)
    await transfer(5, 10)
    assert order == [1, 2, 3, 5]
