"""Parsed playbooks by catalog id. A catalog row never changes, so a parsed one stays valid for ever."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from noetl.engine.playbook import parse_playbook
from noetl.engine.template import DEFAULT_LIMITS
from noetl.errors import NoetlError
from noetl.ledger.cache import ByteBoundedCache

if TYPE_CHECKING:
    from noetl.engine.playbook.model import Playbook
    from noetl.engine.template import Limits
    from noetl.store.catalog import CatalogStore

log = logging.getLogger("noetl.ledger")

BYTES_PER_SOURCE_BYTE = 8
"""Rough size of a parsed playbook in memory, per byte of its text."""


class Playbooks:
    """Loads and parses playbooks once; bounded by bytes."""

    def __init__(self, catalog: CatalogStore, budget_bytes: int, limits: Limits = DEFAULT_LIMITS) -> None:
        """``limits`` are for each rendering of a template."""
        self._catalog = catalog
        self.limits = limits
        self._cache: ByteBoundedCache[int, Playbook] = ByteBoundedCache(budget_bytes)

    def parse(self, catalog_id: int, text: str) -> Playbook:
        """The playbook of a catalog entry whose text is at hand.

        Raises:
            PlaybookSyntaxError, UnprocessableError: the text is no valid playbook (spec 30, section 4).
        """
        playbook = self._cache.get(catalog_id)
        if playbook is None:
            playbook = parse_playbook(text, self.limits)
            self._cache.put(catalog_id, playbook, BYTES_PER_SOURCE_BYTE * len(text))
        return playbook

    async def get(self, catalog_id: int) -> Playbook | None:
        """The playbook of a running execution, or None (logged) if its text is gone or does not parse."""
        playbook = self._cache.get(catalog_id)
        if playbook is not None:
            return playbook
        entry = await self._catalog.get_entry(catalog_id)
        text = None if entry is None else entry.source
        if text is None:
            log.warning("Playbook of a running execution is missing", extra={"catalog_id": catalog_id})
            return None
        try:
            return self.parse(catalog_id, text)
        except NoetlError as error:
            log.warning("Playbook does not parse", extra={"catalog_id": catalog_id, "error": error.message})
            return None

    async def segment(self, catalog_id: int) -> str:
        """NATS segment of the commands of a catalog entry's executions."""
        playbook = await self.get(catalog_id)
        return "shared" if playbook is None else playbook.pool_segment
