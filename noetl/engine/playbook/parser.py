"""Text of a playbook to the validated model, or to all that is wrong with it (spec 30, sections 3 and 4)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from noetl.engine.playbook.decoding import Element, Problem
from noetl.engine.playbook.document import DocumentDraft, NextDraft, StepDraft, read_document
from noetl.engine.playbook.model import PIPELINE_KIND, Next, NextMode, Playbook, Step
from noetl.engine.playbook.tools import Tool, config_of
from noetl.engine.playbook.validation import broken_rules, case_blocks, resolve_references
from noetl.engine.playbook.yaml import YamlError, load_yaml
from noetl.engine.template import DEFAULT_LIMITS, Limits
from noetl.errors import PlaybookSyntaxError, UnprocessableError

if TYPE_CHECKING:
    from noetl.engine.playbook.model import KeychainEntry


def parse_playbook(text: str, limits: Limits = DEFAULT_LIMITS) -> Playbook:
    """Parse and validate a playbook; ``limits`` are for each rendering of its templates.

    Raises, for the first problem in the order of spec 30 section 4, PlaybookSyntaxError (400: not YAML, or a field of
    the wrong type) or UnprocessableError (422: a rule is broken).
    """
    draft, problems = _analyse(text)
    if draft is None or problems:
        first = problems[0]
        error = PlaybookSyntaxError if first.status == PlaybookSyntaxError.status else UnprocessableError
        raise error(first.response, detail=f"{first.field} (line {first.line}, column {first.column}): {first.message}")
    return _build(draft, limits)


def check_playbook(text: str) -> list[Problem]:
    """Everything that is wrong with a playbook, in the order in which `parse_playbook` looks for it; empty if valid.

    What cannot be decoded hides only itself: the other steps are still checked. An error of YAML syntax hides the rest.
    """
    return _analyse(text)[1]


def _analyse(text: str) -> tuple[DocumentDraft | None, list[Problem]]:
    try:
        root = load_yaml(text)
    except YamlError as error:
        return None, [Problem(None, "", error.reason, error.line, error.column, 400, error.reason)]
    problems = list(case_blocks(root))
    draft, decode_problems = read_document(Element(root))
    problems += decode_problems
    problems += resolve_references(draft)
    problems += broken_rules(draft)
    return draft, problems


def _build(draft: DocumentDraft, limits: Limits) -> Playbook:
    fields = draft.fields
    keychain: tuple[KeychainEntry, ...] = fields.get("keychain") or ()
    return Playbook(
        name=fields["metadata"]["name"],
        metadata_path=fields["metadata"].get("path"),
        workload=fields.get("workload"),
        steps=tuple(_build_step(step, limits) for step in draft.steps),
        keychain=keychain,
    )


def _build_step(step: StepDraft, limits: Limits) -> Step:
    return Step(
        name=step.name,
        tool_kind=step.tool.kind if isinstance(step.tool, Tool) else PIPELINE_KIND,
        tool_config=config_of(step.tool),
        when=step.when,
        args=step.args,
        loop=step.loop,
        limits=limits,
        next=_build_next(step.next, step.next_mode) if step.next is not None and step.next.arcs else None,
    )


def _build_next(draft: NextDraft, step_mode: str | None) -> Next:
    """Mode of spec 30, section 10.5: the router's own, else the step's; every word but ``inclusive`` is exclusive."""
    mode = draft.mode if draft.mode is not None else step_mode
    inclusive = draft.is_named or (mode or "").lower() == NextMode.INCLUSIVE.value
    return Next(tuple(arc for _, arc in draft.arcs), NextMode.INCLUSIVE if inclusive else NextMode.EXCLUSIVE)
