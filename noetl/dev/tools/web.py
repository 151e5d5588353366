"""The ``http`` kind: one request, its answer as data."""

# Commands and results are JSON of any shape; what is read out of them stays untyped.
# pyright: reportUnknownArgumentType=false, reportUnknownVariableType=false, reportUnknownMemberType=false

from __future__ import annotations

import asyncio
import base64
import http.client
import urllib.error
import urllib.parse
import urllib.request
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final

import orjson

from noetl.dev.tools.outcome import ToolFailure, ToolResult
from noetl.dev.tools.scripts import timeout_of

if TYPE_CHECKING:
    from collections.abc import Mapping

BODY_LIMIT: Final = 64 * 2**20


async def run_http(config: Mapping[str, Any], _variables: Mapping[str, Any]) -> ToolResult:
    """Send ``method url`` with ``params``, ``headers``, ``json`` or ``body``; a status of 400 and more is an error."""
    request = _request(config)
    timeout = timeout_of(config, 30.0) or 30.0
    begin = perf_counter()
    try:
        status, headers, body = await asyncio.to_thread(_send, request, timeout)
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        raise ToolFailure(f"HTTP error: {request.method} {request.full_url}: {reason}") from error
    text = body.decode(errors="replace")
    failed = status >= 400
    return ToolResult(
        "error" if failed else "success",
        data={"body": _decoded(text), "headers": headers, "status_code": status},
        error=f"HTTP {status} response" if failed else None,
        stdout=text,
        exit_code=int(failed),
        duration_ms=int((perf_counter() - begin) * 1000),
    )


def _request(config: Mapping[str, Any]) -> urllib.request.Request:
    url = config.get("url")
    if not isinstance(url, str) or not url.startswith(("http://", "https://")):
        raise ToolFailure("http: 'url' must be an http or https URL")
    parameters = config.get("params")
    if isinstance(parameters, dict) and parameters:
        query = urllib.parse.urlencode({name: _text(value) for name, value in parameters.items()})
        url += ("&" if "?" in url else "?") + query
    headers = config.get("headers")
    headers = {str(name): _text(value) for name, value in headers.items()} if isinstance(headers, dict) else {}
    headers |= _authorization(config.get("auth"))
    data: bytes | None = None
    for name in ("json", "body"):
        value = config.get(name)
        if value is not None:
            data = value.encode() if isinstance(value, str) else orjson.dumps(value)
            if not isinstance(value, str):
                headers.setdefault("Content-Type", "application/json")
            break
    form = config.get("form")
    if data is None and isinstance(form, dict):
        data = urllib.parse.urlencode({name: _text(value) for name, value in form.items()}).encode()
        headers.setdefault("Content-Type", "application/x-www-form-urlencoded")
    method = str(config.get("method") or ("GET" if data is None else "POST")).upper()
    return urllib.request.Request(url, data=data, headers=headers, method=method)  # noqa: S310 (scheme checked above)


def _authorization(auth: Any) -> dict[str, str]:
    """The header for ``auth`` of type bearer, basic or api_key, as written in the step or stored under an alias."""
    if not isinstance(auth, dict):
        return {}
    kind = auth.get("type")
    if kind in ("bearer", "bearer_token"):
        return {"Authorization": f"Bearer {auth.get('token', '')}"}
    if kind == "basic":
        pair = f"{auth.get('username', '')}:{auth.get('password', '')}"
        return {"Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}
    if kind == "api_key":
        return {str(auth.get("header") or "X-API-Key"): str(auth.get("key") or auth.get("value") or "")}
    raise ToolFailure(f"http: auth type {kind!r} is not known (bearer, basic, api_key)")


def _text(value: Any) -> str:
    return value if isinstance(value, str) else orjson.dumps(value).decode()


def _send(request: urllib.request.Request, timeout: float) -> tuple[int, dict[str, str], bytes]:
    try:
        with urllib.request.urlopen(request, timeout=timeout) as answer:  # noqa: S310 (scheme checked above)
            return _read(answer)
    except urllib.error.HTTPError as answer:
        with answer:
            return answer.code, _headers(answer.headers.items()), answer.read(BODY_LIMIT)


def _read(answer: http.client.HTTPResponse) -> tuple[int, dict[str, str], bytes]:
    return answer.status, _headers(answer.headers.items()), answer.read(BODY_LIMIT)


def _headers(items: Any) -> dict[str, str]:
    return {name.lower(): value for name, value in items}


def _decoded(text: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return text
