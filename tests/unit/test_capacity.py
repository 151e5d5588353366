"""The capacity model: what it predicts where the answer is known."""

from __future__ import annotations

import pytest

from benchmarks.capacity import Costs, Result, Simulation, Site

COSTS = Costs(client_event=0)


def predicted(site: Site, costs: Costs = COSTS) -> Result:
    return Simulation(site, costs).run(seconds=0.2, warm_up=0.1)


def test_one_replica_carries_what_its_core_can_compute() -> None:
    result = predicted(Site(1))
    assert result.limit == "server CPU"
    assert result.rate == pytest.approx(1 / (COSTS.server_event + COSTS.server_batch / result.batch), rel=0.05)


def test_replicas_add_up_until_the_database_is_busy() -> None:
    one, four, many = (predicted(Site(replicas)) for replicas in (1, 4, 24))
    assert four.rate == pytest.approx(4 * one.rate, rel=0.1)
    assert many.limit == "database CPU"
    assert many.rate == pytest.approx(8 / (COSTS.database_event + COSTS.database_batch / many.batch), rel=0.05)


def test_shards_add_up() -> None:
    one, two = predicted(Site(24)), predicted(Site(24, databases=2))
    assert two.rate > 1.6 * one.rate


def test_a_lonely_client_waits_for_one_transaction() -> None:
    result = predicted(Site(1, clients=1))
    costs = COSTS.server_event + COSTS.server_batch + COSTS.database_event + COSTS.database_batch + COSTS.flush
    assert result.batch == 1
    assert result.p50 == pytest.approx(costs, rel=0.01)


def test_everything_on_one_machine_shares_its_cores() -> None:
    result = predicted(Site(2, shared_cores=2), Costs())
    whole = Costs.server_event + Costs.database_event + Costs.client_event
    batch = Costs.server_batch + Costs.database_batch
    assert result.rate == pytest.approx(2 / (whole + batch / result.batch), rel=0.1)


def test_slow_flushes_make_larger_transactions_and_not_fewer_events() -> None:
    fast, slow = predicted(Site(1, clients=512)), predicted(Site(1, clients=512), Costs(client_event=0, flush=5e-3))
    assert slow.batch > fast.batch
    assert slow.rate > 0.9 * fast.rate
