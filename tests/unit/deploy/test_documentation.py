"""The pages for operators name tests, alerts and files that exist."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[3]
PAGES = ("conformance", "operations", "retention", "scaling", "sharding")
PROOF = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


@cache
def functions(path: str) -> frozenset[str]:
    tree = ast.parse((ROOT / path).read_text())
    return frozenset(node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def test_every_test_that_conformance_names_exists() -> None:
    proofs = PROOF.findall((ROOT / "docs/conformance.md").read_text())
    assert len(proofs) > 60
    assert not [f"{path}::{name}" for path, name in proofs if name not in functions(path)]


def test_every_statement_of_conformance_has_a_result() -> None:
    rows = [line for line in (ROOT / "docs/conformance.md").read_text().splitlines() if line.startswith("| ")]
    results = [
        re.split(r"(?<!\\)\|", row)[3].strip() for row in rows if not row.startswith(("| Statement", "| Variable"))
    ]
    known = ("holds", "differs", "missing", "theirs", "measured in", "see ")
    assert not [result for result in results if not result.startswith(known)]


def test_operations_explains_every_alert() -> None:
    groups = yaml.safe_load((ROOT / "deploy/prometheus/alerts.yaml").read_text())["groups"]
    alerts = {rule["alert"] for group in groups for rule in group["rules"]}
    assert set(re.findall(r"`(Noetl\w+)`", (ROOT / "docs/operations.md").read_text())) == alerts


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    text = (ROOT / f"docs/{page}.md").read_text()
    for target in re.findall(r"\]\(([^)]+)\)", text):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        file = (ROOT / "docs" / path).resolve() if path else ROOT / f"docs/{page}.md"
        assert file.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.+)$", file.read_text(), re.MULTILINE)
            slugs = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
            assert anchor in slugs, target
