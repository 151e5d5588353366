"""Variables of executions: set all or none, read with counting, deleted one by one or together."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.integration.http.client_application import ClientRoutes
    from tests.integration.http.rawhttp import RawClient


@pytest.fixture
async def client(client: RawClient, routes: ClientRoutes) -> RawClient:
    await routes.database.execute("DELETE FROM noetl.transient")
    return client


def variables(**values: Any) -> dict[str, Any]:
    return {"variables": [{"var_name": name, "var_value": value} for name, value in values.items()]}


async def names(client: RawClient, execution_id: int = 42) -> list[str]:
    return [one["var_name"] for one in (await client.get(f"/api/vars/{execution_id}")).json]


async def test_reading_counts_accesses_and_writing_keeps_what_began(client: RawClient) -> None:
    await client.post("/api/vars/42", variables(a={"z": 1, "b": 2}))
    listed = (await client.get("/api/vars/42")).json[0]
    assert (listed["access_count"], listed["created_at"]) == (0, listed["accessed_at"])
    read = [(await client.get("/api/vars/42/a")).json for _ in range(2)]
    assert [one["access_count"] for one in read] == [1, 2]
    assert listed["accessed_at"] < read[0]["accessed_at"] < read[1]["accessed_at"]
    await client.post(
        "/api/vars/42",
        {"variables": [{"var_name": "a", "var_value": None, "var_type": "computed", "source_step": "s"}]},
    )
    written = (await client.get("/api/vars/42")).json[0]
    assert (written["var_value"], written["var_type"], written["source_step"]) == (None, "computed", "s")
    assert (written["access_count"], written["created_at"]) == (2, listed["created_at"])
    assert written["accessed_at"] > read[1]["accessed_at"]


async def test_values_are_sorted_by_member(client: RawClient) -> None:
    await client.post("/api/vars/42", '{"variables":[{"var_name":"a","var_value":{"z":1e16,"b":[-0,1.50]}}]}')
    reply = await client.get("/api/vars/42/a")
    assert '"var_value":{"b":[0.0,1.5],"z":10000000000000000}' in reply.text


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"var_name": "b", "var_value": 1, "var_type": "bogus"}, "Invalid var_type: bogus"),
        ({"var_name": "", "var_value": 1}, "var_name must not be empty"),
        ({"var_name": "b\0", "var_value": 1}, "var_name must not contain U+0000"),
        ({"var_name": "b", "var_value": ["\0"]}, "var_value must not contain U+0000"),
        ({"var_name": "b", "var_value": 1, "source_step": "\0"}, "source_step must not contain U+0000"),
    ],
)
async def test_one_wrong_variable_stores_none(client: RawClient, wrong: dict[str, Any], reason: str) -> None:
    body = {"variables": [{"var_name": "a", "var_value": 1}, wrong, {"var_name": "c", "var_value": 1}]}
    reply = await client.post("/api/vars/42", body)
    assert (reply.status, reply.json) == (422, {"error": reason, "status": 422})
    assert await names(client) == []


async def test_last_of_two_variables_of_one_name_counts(client: RawClient) -> None:
    body = {"variables": [{"var_name": "a", "var_value": value} for value in (1, 2)]}
    assert (await client.post("/api/vars/42", body)).json["variables_set"] == 2
    assert (await client.get("/api/vars/42/a")).json["var_value"] == 2


@pytest.mark.parametrize("wrapped", [False, True])
async def test_map_from_names_to_values_is_what_the_worker_sends(client: RawClient, wrapped: bool) -> None:
    values = {"counter": 5, "nothing": None, "a/b": {"x": 1}}
    reply = await client.post("/api/vars/42", {"variables": values} if wrapped else values)
    assert reply.json == {"execution_id": 42, "status": "ok", "variables_set": 3}
    for name, value in values.items():
        one = (await client.get(f"/api/vars/42/{name.replace('/', '%2F')}")).json
        assert (one["var_value"], one["var_type"]) == (value, "user_defined")


async def test_deleting_touches_only_the_named(client: RawClient) -> None:
    await client.post("/api/vars/42", variables(a=1, b=2, c=3))
    await client.post("/api/vars/-43", variables(a=1))
    assert (await client.request("DELETE", "/api/vars/42/b")).json == {
        "execution_id": 42,
        "var_name": "b",
        "status": "deleted",
    }
    assert await names(client) == ["a", "c"]
    assert (await client.request("DELETE", "/api/vars/42")).json["variables_deleted"] == 2
    assert (await client.request("DELETE", "/api/vars/42")).json["variables_deleted"] == 0
    assert await names(client, -43) == ["a"]


async def test_ids_are_strings_on_request(client: RawClient) -> None:
    reply = await client.post("/api/vars/42", variables(a=1), ("x-noetl-ids", "string"))
    assert reply.json["execution_id"] == "42"


async def test_long_list_is_complete_and_in_order(client: RawClient) -> None:
    await client.post("/api/vars/42", json.dumps({f"v{number:03}": number for number in range(173)}))
    assert await names(client) == [f"v{number:03}" for number in range(173)]


async def test_nul_in_a_name_finds_nothing(client: RawClient) -> None:
    assert (await client.get("/api/vars/42/a%00")).status == 422
