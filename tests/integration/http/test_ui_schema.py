"""Input forms: what the recorded answers do not show (odd texts, odd keys, versions)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noetl.http.ui_schema_fields import directives_in, form_of

if TYPE_CHECKING:
    from tests.integration.http.client_application import ClientRoutes
    from tests.integration.http.rawhttp import RawClient


def playbook(path: str, workload: str) -> dict[str, str]:
    return {"content": f"kind: Playbook\nmetadata: {{path: {path}}}\nworkload:\n{workload}"}


async def test_version_chooses_the_text(client: RawClient) -> None:
    for value in ("first", "second"):
        await client.post("/api/catalog/register", playbook("a/b", f"  key: {value}\n"))
    shown = {}
    for query in ("", "?version=latest", "?version=", "?version=1", "?version=%2B2"):
        reply = (await client.get(f"/api/catalog/a/b/ui_schema{query}")).json
        shown[query] = (reply["version"], reply["fields"][0]["default"])
    second = (2, "second")
    assert shown == dict.fromkeys(("", "?version=latest", "?version=", "?version=%2B2"), second) | {
        "?version=1": (1, "first")
    }


async def test_stored_text_that_is_no_yaml_has_an_empty_form(client: RawClient, routes: ClientRoutes) -> None:
    await routes.database.execute("INSERT INTO noetl.resource (name) VALUES ('PlayBook')")
    for version, content in enumerate(("a: [", "workload: {a: 1}\nb: &x [*x]", "", None, "- 1"), start=1):
        await routes.database.execute(
            "INSERT INTO noetl.catalog (path, version, kind, content) VALUES ('broken', $1, 'PlayBook', $2)",
            version, content,
        )  # fmt: skip
        reply = (await client.get(f"/api/catalog/broken/ui_schema?version={version}")).json
        generated = reply.pop("generated_at")
        assert generated.endswith("Z")
        assert reply == {
            "path": "broken", "version": version, "kind": "playbook", "title": None, "description_markdown": None,
            "exposed_in_ui": False, "fields": [],
        }  # fmt: skip


async def test_literal_routes_of_the_catalog_go_first(client: RawClient) -> None:
    assert (await client.get("/api/catalog/list")).headers["allow"] == "POST"
    assert (await client.get("/api/catalog/list/ui_schema")).json["error"] == "Catalog entry 'list' not found"
    assert (await client.get("/api/catalog/%00/ui_schema")).status == 422


@given(st.text())
def test_any_text_has_a_form(text: str) -> None:
    form_of(text)
    directives_in(text)


@given(
    st.lists(st.sampled_from(["workload:", "  a: 1 # ui:secret", "  # c", "    b: {", "\tx", "}", "", "- #ui:enum=["]))
)
def test_any_lines_have_a_form(lines: list[str]) -> None:
    form_of("\n".join(lines))


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("? [1, [a, b], {c: 1}]", "- 1\n- - a\n  - b\n- c: 1"),
        ("? {a: 1, b: [x], c: {d: ~}}", "a: 1\nb:\n- x\nc:\n  d: null"),
        ("? []", "[]"),
        ("? {}", "{}"),
        ("!t x", "!t x"),
        ("1e16", "1e16"),
        (".nan", ".nan"),
    ],
)
def test_key_is_shown_as_yaml(key: str, name: str) -> None:
    text = f"workload:\n  {key}\n  : v\n" if key.startswith("?") else f"workload:\n  {key}: v\n"
    assert [field.name for field in form_of(text).fields] == [name]


def test_directives_do_not_reach_into_nested_fields() -> None:
    form = form_of("workload:\n  a: # ui:secret\n    a: 1 # ui:enum=[x]\n")
    outer = form.fields[0]
    assert outer.secret
    assert outer.children is not None
    assert [(inner.secret, inner.options) for inner in outer.children] == [(False, None)]
