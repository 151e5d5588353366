"""Text of a playbook to the validated model, or to all that is wrong with it (spec 30, sections 3 and 4)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from noetl.engine.playbook.advice import advice
from noetl.engine.playbook.decoding import Element, Problem, Remark
from noetl.engine.playbook.document import DocumentDraft, NextDraft, StepDraft, read_document
from noetl.engine.playbook.model import PIPELINE_KIND, Next, NextMode, Playbook, Step
from noetl.engine.playbook.resource import PLAYBOOK, HeadlessResourceError, kind_of, read_head
from noetl.engine.playbook.tools import Tool, config_of, rule_problem
from noetl.engine.playbook.validation import broken_rules, case_blocks, resolve_references
from noetl.engine.playbook.yaml import AnyNode, MappingNode, YamlError, load_yaml
from noetl.engine.template import DEFAULT_LIMITS, Limits
from noetl.errors import PlaybookSyntaxError, UnprocessableError

if TYPE_CHECKING:
    from noetl.engine.playbook.model import KeychainEntry


def parse_playbook(text: str, limits: Limits = DEFAULT_LIMITS) -> Playbook:
    """Parse and validate a playbook; ``limits`` are for each rendering of its templates.

    Raises, for the first problem in the order of spec 30 section 4, PlaybookSyntaxError (400: not YAML, or a field of
    the wrong type) or UnprocessableError (422: a rule is broken).
    """
    try:
        root = load_yaml(text)
    except YamlError as error:
        raise PlaybookSyntaxError(error.reason) from error
    draft, problems = _analyse(root)
    if problems:
        first = problems[0]
        error = PlaybookSyntaxError if first.status == PlaybookSyntaxError.status else UnprocessableError
        raise error(first.response, detail=f"{first.field} (line {first.line}, column {first.column}): {first.message}")
    return _build(draft, limits)


def check_playbook(text: str) -> list[Problem]:
    """Everything that is wrong with a playbook, in the order in which `parse_playbook` looks for it; empty if valid.

    What cannot be decoded hides only itself: the other steps are still checked. An error of YAML syntax hides the rest.
    """
    try:
        return _analyse(load_yaml(text))[1]
    except YamlError as error:
        return [_not_yaml(error)]


@dataclass(frozen=True, slots=True)
class Review:
    """What there is to say about a document that somebody wants to register.

    ``path`` and ``kind`` are those under which it would be registered (None: neither is readable), ``problems`` why it
    cannot be registered or, as a playbook, executed; ``warnings`` are about what is accepted and hardly meant.
    """

    path: str | None
    kind: str | None
    problems: list[Problem]
    warnings: list[Remark]


def review_document(text: str, default_kind: str = PLAYBOOK) -> Review:
    """Everything about a document at once; playbooks, and all that has a workflow, are checked as playbooks."""
    try:
        root = load_yaml(text)
    except YamlError as error:
        return Review(None, None, [_not_yaml(error)], [])
    kind = kind_of(root, default_kind)
    problems: list[Problem] = []
    warnings: list[Remark] = []
    if is_playbook(root, kind):
        ignored: list[Remark] = []
        draft, problems = _analyse(root, ignored)
        warnings = advice(draft, ignored, is_valid=not problems)
    try:
        path = read_head(root, default_kind).path
    except HeadlessResourceError as error:
        path = None
        if not any(problem.field.startswith("metadata") or "`metadata`" in problem.message for problem in problems):
            problems = [rule_problem(Element(error.place, error.field), None, error.message), *problems]
    return Review(path, kind, problems, warnings)


def playbook_problems(root: AnyNode, kind: str) -> list[Problem]:
    """What keeps a parsed document of this kind from being executed; nothing is asked of what is no playbook."""
    return _analyse(root)[1] if is_playbook(root, kind) else []


def is_playbook(root: AnyNode, kind: str) -> bool:
    """Whether a document means to be one: by its kind, in any case, or by having a workflow."""
    return kind.lower() == PLAYBOOK.lower() or (isinstance(root, MappingNode) and root.get("workflow") is not None)


def _not_yaml(error: YamlError) -> Problem:
    return Problem(None, "", error.reason, error.line, error.column, 400, error.reason)


def _analyse(root: AnyNode, ignored: list[Remark] | None = None) -> tuple[DocumentDraft, list[Problem]]:
    problems = list(case_blocks(root))
    draft, decode_problems = read_document(Element(root, ignored=ignored))
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
