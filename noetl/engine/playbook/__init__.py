"""Playbooks: YAML text in, a validated immutable model out."""

from __future__ import annotations

from noetl.engine.playbook.decoding import Problem, Remark
from noetl.engine.playbook.parser import Review, check_playbook, parse_playbook, playbook_problems, review_document

__all__ = [
    "Problem",
    "Remark",
    "Review",
    "check_playbook",
    "parse_playbook",
    "playbook_problems",
    "review_document",
]
