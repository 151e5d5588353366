"""Only a head with nothing unusual about it is recognised without a parser."""

from __future__ import annotations

import pytest

from noetl.http.framing import plain_head

HOST = b"\r\nHost: x"


def test_plain_heads_are_recognised() -> None:
    assert plain_head(b"GET /a?b=c HTTP/1.1" + HOST) == ("GET", "/a?b=c", 0)
    assert plain_head(b"POST /a HTTP/1.1\r\nCONTENT-length:  3 " + HOST) == ("POST", "/a", 3)


@pytest.mark.parametrize(
    "head",
    [
        b"POST /a HTTP/1.1\r\nContent-Length: 2\r\nContent-Length: 2",
        b"POST /a HTTP/1.1\r\nContent-Length: 2\r\ncontent-length: 9",
        b"POST /a HTTP/1.1\r\nContent-Length: +2",
        b"POST /a HTTP/1.1\r\nContent-Length:",
        b"POST /a HTTP/1.1\r\nContent-Length: 2, 2",
        b"POST /a HTTP/1.1\r\nContent-Length: 999999999",
        b"POST /a HTTP/1.1\r\nContent-Length : 2",
        b"POST /a HTTP/1.1\r\nTransfer-Encoding: chunked",
        b"POST /a HTTP/1.1\r\nContent-Length: 0\r\nTransfer-Encoding : chunked",
        b"POST /a HTTP/1.1\r\nX: y\r\n Content-Length: 2",
        b"POST /a HTTP/1.1\r\nX: y\nContent-Length: 2",
        b"POST /a HTTP/1.1\r\nno header",
        b"POST /a HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2",
        b"GET /a HTTP/1.1\r\nConnection: close",
        b"GET /a HTTP/1.1\r\nUpgrade: h2c",
        b"GET /a HTTP/1.1\r\nX: y\rTransfer-Encoding: chunked",
        b"GET /a HTTP/1.1\r\nX: \x00",
        b"GET /a\x00 HTTP/1.1",
        b"GET /\xff HTTP/1.1",
        b"GET /a HTTP/1.1\r\nbad name: x",
        b"GET /a HTTP/1.1\r\n: x",
        b"GET /a HTTP/1.0",
        b"HEAD /a HTTP/1.1",
        b"get /a HTTP/1.1",
        b"GET  /a HTTP/1.1",
        b"GET",
        b"",
    ],
)
def test_anything_else_is_left_to_the_parser(head: bytes) -> None:
    assert plain_head(head) is None
