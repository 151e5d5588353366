"""Secrets are asked for once and kept for a short time; tokens until they end."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, cast

import pytest

from noetl.config.secret import Secret
from noetl.errors import InternalError
from noetl.secrets import fetching
from noetl.secrets.fetching import KEPT_LENGTH, KEPT_SECONDS, KEPT_SECRETS, SecretFetcher, SecretName
from noetl.secrets.providers.base import SecretValue
from noetl.secrets.providers.tokens import TokenCache
from noetl.secrets.single_flight import SingleFlight

if TYPE_CHECKING:
    from noetl.secrets.providers.registry import ProviderRegistry

NAME = SecretName("vault", "", "kv/x")


class Providers:
    """A registry with one provider, which numbers its answers and may be held up."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.life: timedelta | None = None
        self.failing = False
        self.padding = ""
        self.gate = asyncio.Event()
        self.gate.set()
        self.now = datetime(2026, 1, 1, tzinfo=UTC)
        self.fetcher = SecretFetcher(cast("ProviderRegistry", self), 60, lambda: self.now)

    def get(self, _canonical: str) -> Providers:
        return self

    async def fetch(self, reference: str, region: str) -> SecretValue:
        self.asked.append(reference)
        await self.gate.wait()
        if self.failing:
            raise InternalError("provider failed")
        ends = None if self.life is None else self.now + self.life
        return SecretValue(Secret(f"value {len(self.asked)}{self.padding}"), ends)

    async def text(self, name: SecretName = NAME, *, fresh: bool = False) -> str:
        return (await self.fetcher.fetch(name, fresh=fresh)).text.reveal()


async def test_simultaneous_readers_share_a_request() -> None:
    providers = Providers()
    providers.gate.clear()
    readers = [asyncio.create_task(providers.text()) for _ in range(20)]
    await asyncio.sleep(0)
    readers[0].cancel()  # the others still get theirs
    providers.gate.set()
    assert await asyncio.gather(*readers[1:]) == ["value 1"] * 19
    assert len(providers.asked) == 1


async def test_an_answer_serves_later_readers_for_a_short_time() -> None:
    providers = Providers()
    assert await providers.text() == "value 1"
    providers.now += timedelta(seconds=KEPT_SECONDS - 1)
    assert await providers.text() == "value 1"
    providers.now += timedelta(seconds=1)
    assert await providers.text() == "value 2"


async def test_another_region_is_another_secret() -> None:
    providers = Providers()
    assert await providers.text() == "value 1"
    assert await providers.text(SecretName("vault", "eu", "kv/x")) == "value 2"


async def test_a_renewal_asks_anew_and_its_answer_is_kept() -> None:
    providers = Providers()
    assert await providers.text() == "value 1"
    assert await providers.text(fresh=True) == "value 2"
    assert await providers.text() == "value 2"


@pytest.mark.parametrize(("life", "kept"), [(50, 0), (65, 4), (3600, KEPT_SECONDS - 1)])
async def test_what_ends_soon_is_not_kept_past_its_margin(life: float, kept: float) -> None:
    providers = Providers()
    providers.life = timedelta(seconds=life)
    assert await providers.text() == "value 1"
    providers.now += timedelta(seconds=kept)
    assert await providers.text() == ("value 1" if kept else "value 2")
    providers.now += timedelta(seconds=1)
    assert await providers.text() != "value 1"


async def test_failures_are_shared_and_not_kept() -> None:
    providers = Providers()
    providers.failing = True
    outcomes = await asyncio.gather(*(providers.text() for _ in range(3)), return_exceptions=True)
    assert [str(outcome) for outcome in outcomes] == ["provider failed"] * 3
    assert len(providers.asked) == 1
    providers.failing = False
    assert await providers.text() == "value 2"


async def test_the_number_of_kept_answers_is_bounded() -> None:
    providers = Providers()
    for number in range(KEPT_SECRETS + 1):
        await providers.text(SecretName("vault", "", f"kv/{number}"))
    asked = len(providers.asked)
    await providers.text(SecretName("vault", "", f"kv/{KEPT_SECRETS}"))
    assert len(providers.asked) == asked
    await providers.text(SecretName("vault", "", "kv/0"))
    assert len(providers.asked) == asked + 1


async def test_plaintext_goes_when_its_time_is_over_although_nobody_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "PURGE_SECONDS", 0.0)
    providers = Providers()
    await providers.text()
    providers.now += timedelta(seconds=1)
    await providers.text(SecretName("vault", "", "kv/later"))
    assert len(vars(providers.fetcher)["_kept"]) == 2
    for seconds, kept in ((KEPT_SECONDS - 1, 1), (1, 0)):
        providers.now += timedelta(seconds=seconds)
        async with asyncio.timeout(5):
            while len(vars(providers.fetcher)["_kept"]) > kept:  # noqa: ASYNC110 (it tells nobody)
                await asyncio.sleep(0)
    assert vars(providers.fetcher)["_purge"] is None


async def test_a_very_long_secret_is_not_kept() -> None:
    providers = Providers()
    providers.padding = "x" * KEPT_LENGTH
    await providers.text()
    await providers.text()
    assert len(providers.asked) == 2


async def test_no_secret_is_in_a_repr() -> None:
    providers = Providers()
    value = await providers.fetcher.fetch(NAME)
    assert "value 1" not in f"{value!r} {value} {vars(providers.fetcher)}"


async def test_a_token_is_fetched_again_when_it_ends_or_is_forgotten() -> None:
    now, fetched = 0.0, 0

    async def fetch() -> tuple[Secret[str], float]:
        nonlocal fetched
        fetched += 1
        await asyncio.sleep(0)
        return Secret(f"token {fetched}"), 100

    cache = TokenCache(fetch, lambda: now)
    assert {token.reveal() for token in await asyncio.gather(*(cache.get() for _ in range(5)))} == {"token 1"}
    now = 99.0
    assert (await cache.get()).reveal() == "token 1"
    now = 100.0
    assert (await cache.get()).reveal() == "token 2"
    cache.forget()
    assert (await cache.get()).reveal() == "token 3"


async def test_work_that_nobody_waits_for_any_more_may_fail_quietly() -> None:
    flight: SingleFlight[str, None] = SingleFlight()
    gate = asyncio.Event()
    complaints: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))

    async def fail() -> None:
        await gate.wait()
        raise InternalError("late")

    reader = asyncio.create_task(flight.run("k", fail))
    await asyncio.sleep(0)
    reader.cancel()
    await asyncio.gather(reader, return_exceptions=True)
    gate.set()
    with pytest.raises(InternalError):
        await flight.run("k", fail)
    asyncio.get_running_loop().set_exception_handler(None)
    assert complaints == []
