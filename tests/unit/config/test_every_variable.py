"""Each declared variable, on its own: absent, empty, with blanks, valid, invalid."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from noetl.config import ConfigurationError, Settings, load_settings
from noetl.config.load import GROUPS
from noetl.config.reference import configuration_reference
from noetl.config.sources import Sources
from noetl.config.variable import Variable, variables_of

if TYPE_CHECKING:
    from collections.abc import Callable

DECLARED = [(group, field, variable) for group in GROUPS for field, variable in variables_of(group)]
KEY = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
USABLE_EXAMPLES = {"NOETL_ENCRYPTION_KEY": KEY, "NOETL_ENCRYPTION_KEY_PREVIOUS": f"{KEY}, {KEY}"}
ANY_TEXT = {"text", "secret_text"}


def variables(where: Callable[[type[msgspec.Struct], Variable], bool]) -> pytest.MarkDecorator:
    rows = [pytest.param(*row, id=row[2].name) for row in DECLARED if where(row[0], row[2])]
    return pytest.mark.parametrize(("group", "field", "variable"), rows)


def every(group: type[msgspec.Struct], variable: Variable) -> bool:
    return True


def with_its_own_field(group: type[msgspec.Struct], variable: Variable) -> bool:
    return group is not Sources and not variable.name.startswith("NOETL_TLS")


def not_special_when_empty(group: type[msgspec.Struct], variable: Variable) -> bool:
    return not variable.empty_is_set


def refusing_some_text(group: type[msgspec.Struct], variable: Variable) -> bool:
    return variable.fatal and getattr(variable.parse, "__name__", "") not in ANY_TEXT


def example(variable: Variable) -> str:
    return USABLE_EXAMPLES.get(variable.name, variable.example)


def group_of(settings: Settings, group: type[msgspec.Struct]) -> Any:
    def search(struct: msgspec.Struct) -> Any:
        if type(struct) is group:
            return struct
        for field in msgspec.structs.fields(struct):
            value = getattr(struct, field.name)
            if isinstance(value, msgspec.Struct) and (found := search(value)) is not None:
                return found
        return None

    return search(settings)


def environment(variable: Variable, text: str) -> dict[str, str]:
    """The variable, and what a rule demands beside it."""
    company = {"NOETL_SHARD_COUNT": "9"} if variable.name == "NOETL_SHARD_INDEX" else {}
    return {"HOSTNAME": "pod-0", **company, variable.name: text}


def test_no_name_is_declared_twice() -> None:
    names = [name for group in GROUPS for _, variable in variables_of(group) for name in variable.names]
    assert len(names) == len(set(names))


@variables(every)
def test_declared_default_and_example_have_the_field_type(
    group: type[msgspec.Struct], field: str, variable: Variable
) -> None:
    built = group()
    assert getattr(built, field) == variable.default
    parsed = variable.parse(example(variable))
    assert (
        variable.default is None or isinstance(parsed, type(variable.default)) or type(parsed).__name__ == "LogFilter"
    )
    assert variable.why.endswith(".")


@variables(with_its_own_field)
def test_example_with_blanks_is_taken(group: type[msgspec.Struct], field: str, variable: Variable) -> None:
    settings = load_settings(environment(variable, f"  {example(variable)}\t"))
    assert getattr(group_of(settings, group), field) == variable.parse(example(variable))


@variables(not_special_when_empty)
def test_empty_counts_as_unset(group: type[msgspec.Struct], field: str, variable: Variable) -> None:
    names = dict.fromkeys(variable.names, "  ")
    unset = load_settings({"HOSTNAME": "pod-0"} if variable.name != "HOSTNAME" else {})
    assert load_settings({"HOSTNAME": "pod-0"} | names) == unset


@variables(refusing_some_text)
def test_invalid_value_is_refused_by_name_with_an_example(
    group: type[msgspec.Struct], field: str, variable: Variable
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_settings(environment(variable, "no such\x00 value%"))
    (problem,) = caught.value.problems
    assert problem.variable == variable.name
    assert problem.example == f"{variable.name}={variable.example}"
    assert str(problem) == str(caught.value)
    assert "\x00" not in problem.reason
    if variable.secret:
        assert "no such" not in problem.reason


def test_one_bad_value_leaves_nothing_reset_and_all_bad_values_are_told_at_once() -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_settings(
            {"NOETL_PORT": "99999", "NOETL_DEBUG": "maybe", "POSTGRES_MAX_CONNECTIONS": "0", "NATS_URL": "ftp://x"}
        )
    assert {problem.variable for problem in caught.value.problems} == {
        "NOETL_PORT",
        "NOETL_DEBUG",
        "POSTGRES_MAX_CONNECTIONS",
        "NATS_URL",
    }


def test_unknown_variables_are_no_error() -> None:
    assert load_settings(
        {"NOETL_RUN_MODE": "server", "NOETL_ANYTHING": "", "NOETL_K": "v", "HOSTNAME": "a"}
    ) == load_settings({"HOSTNAME": "a"})


@pytest.mark.parametrize("text", ["true", "TRUE", "1", "yes", "On"])
def test_true_words(text: str) -> None:
    assert load_settings({"NOETL_DEBUG": text}).http.debug is True


@pytest.mark.parametrize("text", ["false", "False", "0", "no", "OFF"])
def test_false_words(text: str) -> None:
    assert load_settings({"NOETL_AUTO_RECREATE_RUNTIME": text}).sweeps.auto_recreate_runtime is False


def test_names_after_the_prefix_have_any_case_and_the_exact_name_wins() -> None:
    assert load_settings({"NOETL_Port": "1"}).http.port == 1
    assert load_settings({"NOETL_Port": "1", "NOETL_PORT": "2"}).http.port == 2
    assert load_settings({"noetl_port": "1"}).http.port == 8082


def test_documentation_page_is_current() -> None:
    page = Path(__file__).parents[3] / "docs" / "configuration.md"
    assert page.read_text(encoding="utf-8") == configuration_reference()
