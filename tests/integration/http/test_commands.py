"""`GET /api/commands/{event_id}` and the claim, as far as HTTP decides (spec 20, section 5)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from noetl.errors import ConflictError, NotFoundError
from noetl.http.application import HttpApplication
from noetl.http.commands import CommandRoutes, UnknownClaims
from noetl.ledger.items import CommandView

if TYPE_CHECKING:
    from tests.integration.http.rawhttp import RawClient, Serve

SHAPE = "Failed to deserialize the JSON body into the target type: "
CONTEXT = b'{"args":{},"render_context":{"n":18446744073709551617},"tool_config":{"code":"x"}}'
META = b'{"attempt":1,"catalog_id":"7"}'


class Commands:
    """Holds command 7 and gives it to the first who asks."""

    def __init__(self) -> None:
        self.owner: str | None = None

    async def command(self, event_id: int) -> CommandView:
        if event_id == 8:
            return CommandView(5, 8, "start", "python", None, None)
        if event_id != 7:
            raise NotFoundError(f"command.issued event not found: {event_id}")
        return CommandView(5, 7, 'st"rt', "python", CONTEXT, META)

    async def claim(self, event_id: int, worker_id: str) -> CommandView:
        command = await self.command(event_id)
        if self.owner not in {None, worker_id}:
            raise ConflictError(f"Command already claimed by {self.owner}")
        self.owner = worker_id
        return command


@pytest.fixture(scope="module")
async def client(serve: Serve) -> RawClient:
    application = HttpApplication()
    CommandRoutes(Commands()).register(application)
    return await serve(application)


async def test_command_is_shown_with_ids_as_integers(client: RawClient) -> None:
    reply = await client.get("/api/commands/7")
    assert reply.body == (
        b'{"execution_id":5,"node_id":"st\\"rt","node_name":"st\\"rt","action":"python","context":%b,"meta":%b}'
        % (CONTEXT, META)
    )
    assert (await client.get("/api/commands/8")).json["context"] is None


@pytest.mark.parametrize("event_id", ["1", "-1", str(2**63 - 1)])
async def test_unknown_command_is_404(client: RawClient, event_id: str) -> None:
    reply = await client.get(f"/api/commands/{event_id}")
    assert (reply.status, reply.json["error"]) == (404, f"command.issued event not found: {event_id}")


async def test_claim_answers_with_the_work_order_or_409(client: RawClient) -> None:
    for _ in range(2):
        reply = await client.post("/api/commands/7/claim", {"worker_id": "one"})
        assert (reply.status, reply.headers["content-type"]) == (200, "application/json")
        assert reply.body == (
            b'{"status":"ok","event_id":7,"execution_id":5,"node_id":"st\\"rt","node_name":"st\\"rt",'
            b'"action":"python","context":%b,"meta":%b}' % (CONTEXT, META)
        )
    reply = await client.post("/api/commands/7/claim", {"worker_id": "two"})
    assert (reply.status, reply.json) == (409, {"error": "Command already claimed by one", "status": 409})


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ("{}", f"{SHAPE}missing field `worker_id`"),
        ('{"worker_id":null}', f"{SHAPE}worker_id: invalid type: null, expected a string"),
        ('{"worker_id":5}', f"{SHAPE}worker_id: invalid type: integer, expected a string"),
        ('{"worker_id":"a","worker_id":"b"}', f"{SHAPE}duplicate field `worker_id`"),
        ('{"worker_id":"a\\u0000"}', '{"error":"worker_id must not contain U+0000","status":422}'),
    ],
)
async def test_claim_without_a_worker_is_422(client: RawClient, body: str, text: str) -> None:
    reply = await client.post("/api/commands/7/claim", body)
    assert (reply.status, reply.text) == (422, text)


async def test_path_is_judged_before_the_body(client: RawClient) -> None:
    reply = await client.request("POST", "/api/commands/abc/claim", "{")
    assert (reply.status, reply.text) == (400, "Invalid URL: Cannot parse `abc` to a `i64`")


async def test_worker_that_claims_an_unknown_command_again_and_again_is_told_to_drop_it(client: RawClient) -> None:
    body = {"error": "command.issued event not found: 99", "status": 404}
    for _ in range(20):
        reply = await client.post("/api/commands/99/claim", {"worker_id": "one"})
        assert (reply.status, reply.json) == (404, body)
    reply = await client.post("/api/commands/99/claim", {"worker_id": "two"})
    assert (reply.status, reply.json) == (409, {**body, "status": 409})
    assert (await client.post("/api/commands/98/claim", {"worker_id": "one"})).status == 404


def test_unknown_claims_are_counted_within_a_minute_only() -> None:
    now = 0.0
    claims = UnknownClaims(lambda: now)
    assert not any(claims.is_poison(1) for _ in range(20))
    assert claims.is_poison(1)
    now = 59.9
    assert claims.is_poison(1)
    now = 60.0
    assert not claims.is_poison(1)


def test_unknown_claims_forget_the_least_recent_id() -> None:
    claims = UnknownClaims(lambda: 0.0)
    for _ in range(20):
        claims.is_poison(1)
        claims.is_poison(2)
    for other in range(1000, 1000 + UnknownClaims.REMEMBERED - 1):
        claims.is_poison(other)
    assert claims.is_poison(2)
    assert not claims.is_poison(1)
