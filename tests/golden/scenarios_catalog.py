"""The catalog: what can be registered, how it is listed, and how one entry is found (spec 10, section 4)."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

from tests.golden.recording import call
from tests.golden.scenario import look, scenario

if TYPE_CHECKING:
    from tests.golden.recording import Deviation, Step
    from tests.golden.scenario import Scenario

REGISTER = "/api/catalog/register"
LIST = "/api/catalog/list"
RESOURCE = "/api/catalog/resource"
PLAYBOOK = "kind: Playbook\nmetadata:\n  path: golden/{run}/%s\n"
ARRAY: Deviation = (422, "an array is not taken for an object")


def register(content: str, deviation: Deviation | None = None, **members: Any) -> Step:
    return call("POST", REGISTER, {"content": content, **members}, deviation=deviation)


def registering() -> list[Step]:
    encoded = base64.b64encode(b"kind: Playbook\nmetadata: {path: golden/base64}\n").decode()
    broken = base64.b64encode(b"kind: Playbook\nmetadata:\n  path: golden/\xff\xfe\n").decode()
    values = {
        "labels": "  labels: {team: a, on: [yes, true, ~]}\n",
        "no_json": "  labels: {~: 1}\nworkload: {[1]: 2}\n",
        "sections": "workload: {k: 1.0, n: null, big: 18446744073709551615}\nworkflow: [{step: start}]\n",
        "nulls": "workload: ~\nworkflow: ~\n",
        "scalars": "workload: text\nworkflow: 5\n",
        "dates": "workload: {d: 2026-01-01, o: 010, h: 0x1f, e: 1e3, y: yes, m: {<<: {a: 1}, b: 2}}\n",
        "tags": "workload: {a: !foo 1, b: !!str 5, c: !!int '5', d: !!set {x}}\n",
        "aliases": "workload: {a: &x [1, 2], b: *x}\n",
    }
    unreadable = [
        "{", "a: [1", "a: 1\na: 2", "---\na: 1\n---\nb: 2", "\ta: 1", "a: !!int x",
        "x: 340282366920938463463374607431768211455", "&a [*a]", "a: 'x", "%FOO 1\n---\na",
    ]  # fmt: skip
    return [
        register(PLAYBOOK % "plain"),
        register(PLAYBOOK % "plain"),
        register(encoded),
        register(encoded[:20] + "\n" + encoded[20:]),
        register(broken),
        register('{"kind": "Playbook", "metadata": {"path": "golden/{run}/json"}}'),
        register("kind: Playbook\nmetadata: {path: golden/{run}/p, name: n}\n"),
        register("kind: Playbook\nmetadata: {path: 5, name: golden/{run}/name}\n"),
        register("metadata: {path: golden/{run}/no_kind}\n"),
        register("metadata: {path: golden/{run}/as_credential}\n", resource_type="Credential"),
        register("kind: 5\nmetadata: {path: golden/{run}/number_kind}\n", resource_type="Playbook"),
        register("kind: !x Playbook\nmetadata: {path: golden/{run}/tagged_kind}\n"),
        *(register(PLAYBOOK % name + rest) for name, rest in values.items()),
        *(register(text) for text in unreadable),
        *(register(text) for text in (
            "", "~", "5", "[1]", "a: 1", "metadata: ~", "metadata: 5", "metadata: {}", "metadata: {path: 5}",
            "metadata: {name: ~}", "metadata: [x]",
        )),
        register("kind: Bogus\nmetadata: {path: golden/{run}/bogus}\n", (200, "an unknown kind is added")),
        register(PLAYBOOK % "nul" + 'workload: {a: "\\0"}\n', (422, "U+0000 is refused by name")),
        register("kind: Playbook\nmetadata: {path: ''}\n", (422, "an empty path is refused")),
        *(
            call("POST", REGISTER, body)
            for body in (
                "", "{}", "null", '{"content":null}', '{"content":5}', '{"content":"a","resource_type":null}',
                '{"content":"a","resource_type":5}', '{"content":"a"', '{"content":"\\ud800"}',
            )
        ),
        call("POST", REGISTER, '["a","Playbook"]', deviation=ARRAY),
        call("POST", REGISTER, "{}", content_type="text/plain"),
        call("GET", REGISTER),
    ]  # fmt: skip


def finding() -> list[Step]:
    plain = '"path":"golden/{run}/plain"'
    found = [
        f"{{{plain}}}", f'{{{plain},"version":"1"}}', f'{{{plain},"version":"2"}}', f'{{{plain},"version":"+1"}}',
        f'{{{plain},"version":"latest"}}', f'{{{plain},"version":null}}', '{"path":"golden/base64","version":"1"}',
        '{"path":"golden/{run}/labels"}', '{"path":"golden/{run}/no_json"}', '{"path":"golden/{run}/sections"}',
        '{"path":"golden/{run}/nulls"}', '{"path":"golden/{run}/scalars"}', '{"path":"golden/{run}/dates"}',
        '{"path":"golden/{run}/tags"}', '{"path":"golden/{run}/aliases"}', '{"path":"golden/{run}/json"}',
        f'{{"catalog_id":"{{entry}}",{plain}x"}}', '{"catalog_id":"{entry}","version":"x"}',
    ]  # fmt: skip
    refused = [
        f'{{{plain},"version":"3"}}', f'{{{plain},"version":"-1"}}', f'{{{plain},"version":"32767"}}',
        f'{{{plain},"version":"LATEST"}}', f'{{{plain},"version":""}}', f'{{{plain},"version":"32768"}}',
        f'{{{plain},"version":"1.0"}}', f'{{{plain},"version":" 1"}}', '{"path":"nope"}',
        '{"path":"nope","version":"9"}', '{"catalog_id":"1"}', '{"catalog_id":""}', '{"catalog_id":"x"}',
        '{"catalog_id":"+5"}', '{"catalog_id":"9223372036854775808"}', '{"catalog_id":"1","path":"golden/base64"}',
        "{}", '{"path":null,"catalog_id":null}', '{"version":"1"}', "", "null", '{"path":5}', '{"version":true}',
    ]  # fmt: skip
    number = (200, "JSON integers are understood")
    return [
        look("entry", "SELECT catalog_id FROM noetl.catalog WHERE path = 'golden/{run}/plain' AND version = 1"),
        *(call("POST", RESOURCE, body, superset=True) for body in [*found, *refused]),
        call("POST", RESOURCE, f'{{{plain},"version":1}}', deviation=number),
        call("POST", RESOURCE, '{"catalog_id":{entry}}', deviation=number),
        call("POST", RESOURCE, "[]", deviation=ARRAY),
        call("POST", RESOURCE, "{}", content_type=None),
        call("GET", RESOURCE),
    ]


def listing() -> list[Step]:
    any_case = (200, "letter case does not matter")
    return [
        call("POST", LIST, {"resource_type": "golden none"}),
        call("POST", LIST, {"resource_type": ""}),
        call("POST", LIST, {"resource_type": "credential"}, deviation=any_case),
        *(call("POST", LIST, body) for body in ('{"resource_type":5}', "", "null", '{"resource_type":"x"} x')),
        call("POST", LIST, "[]", deviation=ARRAY),
        call("POST", LIST, "{}", content_type="text/plain"),
        call("GET", "/api/catalog/list/"),
        call("PUT", LIST),
    ]


def catalog() -> Scenario:
    return scenario(
        [*registering(), *finding(), *listing(), call("POST", LIST, {"resource_type": "Credential"})],
        prepare=["DELETE FROM noetl.catalog WHERE path = 'golden/base64' OR path LIKE 'golden/%/as_credential'"],
    )
