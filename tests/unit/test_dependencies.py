"""The locked dependencies: those of pyproject.toml, each by hash, and their bill of materials."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PINNED = re.compile(r"^([A-Za-z0-9._-]+)==(\S+)((?:[^\n]*\\\n)+[^\n]*--hash=sha256:[0-9a-f]{64})", re.MULTILINE)


def locked() -> dict[str, str]:
    text = (ROOT / "requirements.lock").read_text()
    return {canonicalize_name(name): version for name, version, _ in PINNED.findall(text)}


def test_every_dependency_is_locked_within_its_bounds() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    versions = locked()
    for text in project["dependencies"]:
        requirement = Requirement(text)
        assert requirement.specifier.contains(versions[canonicalize_name(requirement.name)]), text
        assert any(bound.operator in {">=", "=="} for bound in requirement.specifier), f"{text} has no lower bound"


def test_lock_names_no_host_and_no_path_and_hashes_everything() -> None:
    text = (ROOT / "requirements.lock").read_text()
    assert "://" not in text
    assert "--find-links" not in text
    assert len(re.findall(r"^\S+==", text, re.MULTILINE)) == len(locked())


def test_bill_of_materials_lists_what_is_locked() -> None:
    done = subprocess.run([sys.executable, ROOT / ".ci" / "sbom", "1.2.3"], capture_output=True, check=True)
    bill = json.loads(done.stdout)
    assert (bill["bomFormat"], bill["metadata"]["component"]["version"]) == ("CycloneDX", "1.2.3")
    found = {canonicalize_name(part["name"]): part["version"] for part in bill["components"]}
    assert found == locked()
    assert all(part["hashes"] for part in bill["components"])
