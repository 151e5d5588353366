"""The Dockerfile: what an orchestrator relies on."""

from __future__ import annotations

import json
import re
from importlib.util import find_spec
from pathlib import Path

DOCKERFILE = (Path(__file__).parents[3] / "Dockerfile").read_text().replace("\\\n", " ")
FINAL = DOCKERFILE.rpartition("FROM ")[2]


def instruction(name: str) -> str:
    (found,) = re.findall(rf"^{name} (.+)$", FINAL, re.MULTILINE)
    return found


def test_runs_as_a_numeric_user_that_is_not_root() -> None:
    user, group = instruction("USER").split(":")
    assert int(user) > 0
    assert int(group) > 0


def test_signals_reach_the_server_and_not_a_shell() -> None:
    assert json.loads(instruction("ENTRYPOINT")) == ["noetl-server"]
    assert instruction("STOPSIGNAL") == "SIGTERM"


def test_health_check_is_the_module_that_the_server_brings() -> None:
    command = json.loads(instruction("HEALTHCHECK").partition("CMD ")[2])
    assert command == ["python", "-m", "noetl.healthcheck"]
    assert find_spec(command[2]) is not None


def test_defaults_are_those_of_the_reference_image() -> None:
    assert instruction("EXPOSE") == "8082"
    for default in ("NOETL_HOST=0.0.0.0", "NOETL_PORT=8082", "RUST_LOG=info,noetl_server=debug"):
        assert default in instruction("ENV")


def test_final_stage_installs_no_compiler() -> None:
    assert not re.search(r"gcc|-dev|pip", FINAL)
