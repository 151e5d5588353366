"""The NoETL control plane: playbooks, executions, the event log, and the engine that advances them."""

from __future__ import annotations

__version__ = "0.1.0"
