"""The tools of the local worker: kind by kind what the real worker does, for the kinds that a newcomer meets first."""

from __future__ import annotations
