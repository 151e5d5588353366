"""A template can neither hang nor fill the memory (incident I24)."""

from __future__ import annotations

import time
from typing import Any

import pytest

from noetl.engine.template import Limits, TemplateError, render_pipeline, render_text, render_value

CONTEXT: dict[str, Any] = {
    "big": "x" * 2_000_000,
    "many": list(range(200_000)),
    "map": {str(number): number for number in range(50_000)},
}
ROUNDS = "{% for i in range(100000) %}"

ENDLESS = {
    "nested loops": ROUNDS + ROUNDS + "{% endfor %}{% endfor %}",
    "doubling text": "{% set n=namespace(s='x') %}" + ROUNDS + "{% set n.s = n.s ~ n.s %}{% endfor %}",
    "doubling list": "{% set n=namespace(s=[1]) %}" + ROUNDS + "{% set n.s = n.s + n.s %}{% endfor %}",
    "shared structure, printed": "{% set n=namespace(s=1) %}{% for i in range(60) %}{% set n.s=[n.s,n.s] %}"
    "{% endfor %}{{ n.s }}",
    "shared structure, as JSON": "{% set n=namespace(s=1) %}{% for i in range(60) %}{% set n.s=[n.s,n.s] %}"
    "{% endfor %}{{ n.s|tojson }}",
    "shared structure, compared": "{% set n=namespace(s=1,t=1) %}{% for i in range(60) %}{% set n.s=[n.s,n.s] %}"
    "{% set n.t=[n.t,n.t] %}{% endfor %}{{ n.s == n.t }}",
    "repeated text": "{{ 'x' * 9999999999 }}",
    "repeated list": "{{ [1] * 9999999999 }}",
    "wide format": "{{ '%999999999d'|format(1) }}",
    "long precision": "{{ '%.9999999s'|format(1) }}",
    "indent": "{{ 'a'|indent(9999999999, true) }}",
    "batch": "{{ [1]|batch(9999999999, 'x') }}",
    "slice": "{{ [1]|slice(9999999999) }}",
    "replace": "{{ big|replace('x', 'yyyyyyyy') }}",
    "join": "{{ many|join(big) }}",
    "list of characters": "{{ big|list }}",
    "split": "{{ big|split('x') }}",
    "escape": "{{ ('<' * 4000000)|e }}",
    "range": "{{ range(99999999) }}",
    "endless macro": "{% macro f() %}{{ f() }}{{ f() }}{% endmacro %}{{ f() }}",
    "endless recursion": "{% for x in [1] recursive %}{{ loop([x]) }}{% endfor %}",
    "searching": ROUNDS + "{% set q = 'z' in big %}{% endfor %}",
    "searching a list": ROUNDS + "{% set q = -1 in many %}{% endfor %}",
    "sorting": ROUNDS + "{% set q = many|sort %}{% endfor %}",
    "pairs": ROUNDS + "{% set q = map|items %}{% endfor %}",
    "copying a map": ROUNDS + "{% set q = namespace(map) %}{% set q = dict(map) %}{% endfor %}",
    "upper": ROUNDS + "{% set q = big|upper %}{% endfor %}",
    "lower test": ROUNDS + "{% set q = big is lower %}{% endfor %}",
    "title": ROUNDS + "{% set q = big|title %}{% endfor %}",
    "base64": ROUNDS + "{% set q = big|b64encode|b64decode %}{% endfor %}",
    "captured": ROUNDS + "{% set q %}{{ big }}{% endset %}{% endfor %}",
    "slices": ROUNDS + "{% set q = big[1:] %}{% endfor %}",
    "comparing": ROUNDS + "{% set q = many < many %}{% endfor %}",
    "selecting": ROUNDS + "{% set q = many|select('odd')|map('string')|unique %}{% endfor %}",
    "debug": ROUNDS + "{{ debug() }}{% endfor %}",
    "splat": "{{ dict(*many) }}" + ROUNDS + "{{ range(*many[:3]) }}{% endfor %}",
}


@pytest.mark.parametrize("source", ENDLESS.values(), ids=ENDLESS.keys())
def test_endless_or_huge_template_is_stopped(source: str) -> None:
    with pytest.raises(TemplateError):
        render_text(source, CONTEXT)


def test_integer_power_stays_within_128_bit() -> None:
    with pytest.raises(TemplateError, match=r"unable to calculate 10 \*\* 39"):
        render_text("{{ 10 ** 39 }}", {})


def test_fuel_is_shared_by_all_strings_of_a_value() -> None:
    loop = "{% for i in range(1000) %}{% endfor %}"
    limits = Limits(fuel=20_000)
    render_value([loop] * 2, {}, limits)
    with pytest.raises(TemplateError, match="engine ran out of fuel"):
        render_value([loop] * 1000, {}, limits)


def test_size_limit_counts_output_and_single_values() -> None:
    limits = Limits(size=1000)
    assert len(render_text("{{ 'x' * 1000 }}", {}, limits)) == 1000
    for source in ("{{ 'x' * 1001 }}", "{% for i in range(600) %}xx{% endfor %}", "{{ [1] * 126 }}"):
        with pytest.raises(TemplateError, match="exceeds the limit of 1000 bytes"):
            render_text(source, {}, limits)


@pytest.mark.parametrize(
    "source",
    [
        "{{ " + "[" * 100_000 + " }}",
        "{{ " + "not " * 50_000 + "1 }}",
        "{{ x }}" * 100_000,
        "{{ 1" + " + 1" * 99_999 + " }}",
    ],
    ids=["brackets", "negations", "outputs", "operators"],
)
def test_source_that_is_deep_or_long_is_an_error(source: str) -> None:
    with pytest.raises(TemplateError):
        render_text(source, {"x": 1})


@pytest.mark.parametrize(
    "source",
    ["\ue000" * 300_000 + "{{ _prev }}", "1" * 1_000_000, "{{ _prev }}" * 50_000, "}}{{ x }}" + "{ " * 300_000],
    ids=["marks", "digits", "deferred", "braces"],
)
def test_adversarial_text_takes_linear_time(source: str) -> None:
    started = time.process_time()
    render_pipeline([source], {})
    assert time.process_time() - started < 5


def test_long_chains_need_no_deep_stack() -> None:
    assert render_text("{{ 1" + " + 1" * 3000 + " }}", {}) == "3001"
    assert render_text("{{ x" + ".a" * 3000 + " }}", {}) == ""
    assert render_text("{{ 1" + "|abs" * 3000 + " }}", {}) == "1"
    assert render_text("{% if x %}" + "{% elif x %}" * 2000 + "{% else %}e{% endif %}", {}) == "e"


@pytest.mark.parametrize(
    "name", ["__class__", "__init__", "keys", "append", "format", "mro", "real", "__globals__", "gi_frame", "call"]
)
@pytest.mark.parametrize(
    "value", ["'x'", "1", "[1]", "{'a': 1}", "range", "namespace(a=1)", "none", "undefined", "(1.5)"]
)
def test_nothing_of_python_is_reachable(value: str, name: str) -> None:
    assert (
        render_text(f"{{{{ ({value}).{name} is defined }}}}{{{{ ({value})['{name}'] is defined }}}}", {})
        == "falsefalse"
    )
    with pytest.raises(TemplateError, match="unknown method"):
        render_text(f"{{{{ ({value}).{name}() }}}}", {})
