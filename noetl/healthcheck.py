"""``python -m noetl.healthcheck``: asks the server in this container whether it is well, for Docker.

It imports nothing of the server, because it starts every few seconds beside it.
"""

from __future__ import annotations

import http.client
import os
import ssl
import sys
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

TIMEOUT_SECONDS: Final = 4.0
_LOOPBACK: Final = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 (addresses to ask, not to bind)


def is_well(environment: Mapping[str, str], path: str = "/healthz") -> bool:
    """Whether the server answers ``path`` with 200; address and TLS are as the variables of the server say.

    The certificate is not checked: it names the service, and this is its own address.
    """
    listening = environment.get("NOETL_HOST", "")
    host, port = _LOOPBACK.get(listening, listening), int(environment.get("NOETL_PORT") or 8082)
    if environment.get("NOETL_TLS_CERT"):
        trust = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        trust.check_hostname = False
        trust.verify_mode = ssl.CERT_NONE
        connection = http.client.HTTPSConnection(host, port, timeout=TIMEOUT_SECONDS, context=trust)
    else:
        connection = http.client.HTTPConnection(host, port, timeout=TIMEOUT_SECONDS)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


if __name__ == "__main__":
    sys.exit(not is_well(os.environ, *sys.argv[1:2]))
