"""AWS signatures against the published test suite of version 4, and a request recorded from the wire."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime

import pytest

from noetl.config.secret import Secret
from noetl.secrets.providers.sigv4 import AwsCredentials, SignedScope, authorization, canonical_request

SECRET = Secret("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")
CREDENTIALS = AwsCredentials("AKIDEXAMPLE", SECRET)
SCOPE = SignedScope(datetime(2015, 8, 30, 12, 36, tzinfo=UTC), "us-east-1", "service")
HOST = ("Host", "example.amazonaws.com")
DATE = ("X-Amz-Date", "20150830T123600Z")
UNRESERVED = "-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
STS_TOKEN = (
    "AQoDYXdzEPT//////////wEXAMPLEtc764bNrC9SAPBSM22wDOk4x4HIZ8j4FZTwdQWLWsKWHGBuFqwAeMicRXmxfpSPfIeoIYRqTflfKD8YUuwthA"
    "x7mSEI/qkPpKPi/kMcGdQrmGdeehM4IC1NtBmUpp2wUE8phUZampKsburEDy0KPkyQDYwT7WZ0wq5VSXDvp75YU9HFvlRd8Tx6q6fE8YQcHNVXAkiY9"
    "q6d+xo0rKwT38xVqr7ZD0u0iPPkUL64lIZbqBAz+scqKmlzm8FDrypNC9Yjc8fPOLn9FX9KSYvKTr4rvx3iSIlTJabIQwj2ICCR/oLxBA=="
)

CASES = {
    "get-vanilla": ("GET", "/", [], [], "", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
    "post-vanilla": ("POST", "/", [], [], "", "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"),
    "get-vanilla-empty-query-key": (
        "GET", "/", [("Param1", "value1")], [], "",
        "a67d582fa61cc504c4bae71f336f98b97f1ea3c7a6bfe1b6e45aec72011b9aeb",
    ),
    "post-vanilla-query": (
        "POST", "/", [("Param1", "value1")], [], "",
        "28038455d6de14eafc1f9222cf5aa6f1a96197d7deb8263271d420d138af7f11",
    ),
    "get-vanilla-query-order-key-case": (
        "GET", "/", [("Param2", "value2"), ("Param1", "value1")], [], "",
        "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
    ),
    "get-vanilla-query-unreserved": (
        "GET", "/", [(UNRESERVED, UNRESERVED)], [], "",
        "9c3e54bfcdf0b19771a7f523ee5669cdf59bc7cc0884027167c21bb143a40197",
    ),
    "get-unreserved": (
        "GET", f"/{UNRESERVED}", [], [], "", "07ef7494c76fa4850883e2b006601f940f8a34d404d0cfa977f52a65bbf5f24f",
    ),
    "get-utf8": ("GET", "/\u1234", [], [], "", "8318018e0b0f223aa2bbf98705b62bb787dc9c0e678f255a891fd03141be5d85"),
    "get-header-key-duplicate": (
        "GET", "/", [], [("My-Header1", "value2"), ("My-Header1", "value2"), ("My-Header1", "value1")], "",
        "c9d5ea9f3f72853aea855b47ea873832890dbdd183b4468f858259531a5138ea",
    ),
    "get-header-value-order": (
        "GET", "/", [], [("My-Header1", value) for value in ("value4", "value1", "value3", "value2")], "",
        "08c7e5a9acfcfeb3ab6b2185e75ce8b1deb5e634ec47601a50643f830c755c01",
    ),
    "get-header-value-trim": (
        "GET", "/", [], [("My-Header1", " value1"), ("My-Header2", ' "a   b   c"')], "",
        "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736",
    ),
    "post-header-key-sort": (
        "POST", "/", [], [("My-Header1", "value1")], "",
        "c5410059b04c1ee005303aed430f6e6645f61f4dc9e1461ec8f8916fdf18852c",
    ),
    "post-header-value-case": (
        "POST", "/", [], [("My-Header1", "VALUE1")], "",
        "cdbc9802e29d2942e5e10b5bccfdd67c5f22c7c4e8ae67b53629efa58b974b7d",
    ),
    "post-sts-header-before": (
        "POST", "/", [], [("X-Amz-Security-Token", STS_TOKEN)], "",
        "85d96828115b5dc0cfc3bd16ad9e210dd772bbebba041836c64533a82be05ead",
    ),
    "post-x-www-form-urlencoded": (
        "POST", "/", [], [("Content-Type", "application/x-www-form-urlencoded")], "Param1=value1",
        "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a",
    ),
    "post-x-www-form-urlencoded-parameters": (
        "POST", "/", [], [("Content-Type", "application/x-www-form-urlencoded; charset=utf8")], "Param1=value1",
        "1a72ec8f64bd914b0e42e42607c7fbce7fb2c7465f63e3092b3b0d39fa77a6fe",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_signature_is_the_published_one(
    case: tuple[str, str, list[tuple[str, str]], list[tuple[str, str]], str, str],
) -> None:
    method, path, query, headers, body, signature = case
    digest = hashlib.sha256(body.encode()).hexdigest()
    canonical, signed = canonical_request(method, path, query, [HOST, DATE, *headers], digest)
    header = authorization(canonical, signed, SCOPE, CREDENTIALS)
    assert header == (
        "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request,"
        f" SignedHeaders={signed}, Signature={signature}"
    )


@pytest.mark.parametrize(
    ("region", "signature"),
    [
        ("us-east-1", "618f8a93c8fe6eaf4a3559898d6aeb1e3fca066ca680bdddf24a79d00875ba54"),
        ("ap-south-1", "b7e1d081349801045aaed867f9c817532cd51ff976f7fe283952b4321d7635e1"),
    ],
)
def test_signature_is_the_recorded_one(region: str, signature: str) -> None:
    digest = hashlib.sha256(b'{"SecretId":"prod/db","VersionStage":"AWSCURRENT"}').hexdigest()
    assert digest == "ab3032330d192945c13b322cefb6dd64624f73e0cc8ded7f4910d246bb967cb4"
    headers = [
        ("host", "127.0.0.1:18314"),
        ("content-type", "application/x-amz-json-1.1"),
        ("x-amz-content-sha256", digest),
        ("x-amz-date", "20261123T142629Z"),
        ("x-amz-security-token", "sesstok"),
        ("x-amz-target", "secretsmanager.GetSecretValue"),
    ]
    scope = SignedScope(datetime(2026, 11, 23, 14, 26, 29, tzinfo=UTC), region, "secretsmanager")
    canonical, signed = canonical_request("POST", "/", [], headers, digest)
    assert authorization(canonical, signed, scope, CREDENTIALS).endswith(f", Signature={signature}")
