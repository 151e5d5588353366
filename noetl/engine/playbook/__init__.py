"""Playbooks: YAML text in, a validated immutable model out."""

from __future__ import annotations

from noetl.engine.playbook.decoding import Problem
from noetl.engine.playbook.parser import check_playbook, parse_playbook

__all__ = ["Problem", "check_playbook", "parse_playbook"]
