"""JSON texts of the hot routes, built around payloads that stay undecoded (spec 20, sections 4.2, 5.2, 6.3-6.5).

Texts handed in are JSON in UTF-8 and are embedded as they are. Strings must not hold lone surrogates
(UnicodeEncodeError); integers are signed 64-bit (OverflowError).
"""

from noetl._fast.redaction import Sanitizer as Sanitizer
from noetl._fast.redaction import sanitize as sanitize

def result_envelope(status: str, context: bytes | None) -> bytes:
    """``{"status":S,"context":<context>}``; the member is left out when ``context`` is None (spec 20, section 6.3)."""

def event_meta(meta: bytes | None, worker_id: str | None, actionable: bool, informative: bool) -> bytes:
    """The stored meta: the request's, then the injected members (spec 20, section 6.4).

    An object keeps its members; a member of an injected name is overridden by standing before it, as jsonb and the
    JSON decoders read it. None and ``null`` count as ``{}``. Anything else becomes the member ``value``.
    """

def event_response(event_id: int) -> bytes:
    """``{"status":"ok","event_id":N,"commands_generated":0}``: the answer to an ingested event (spec 20, 6.5)."""

def claim_response(
    event_id: int, execution_id: int, step: str, tool_kind: str, context: bytes | None, meta: bytes | None
) -> bytes:
    """The answer to a successful claim (spec 20, section 5.2); None for ``context`` or ``meta`` is ``null``."""

def notification(execution_id: int, event_id: int, command_id: str, step: str, server_url: str) -> bytes:
    """The NATS payload that announces a command (spec 20, section 4.2); ids are JSON integers."""
