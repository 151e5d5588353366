"""The capacity model: what it predicts where the answer is known."""

from __future__ import annotations

import pytest

from benchmarks.capacity import Costs, Result, Simulation, Site

COSTS = Costs(client_event=0)


def predicted(site: Site, costs: Costs = COSTS) -> Result:
    return Simulation(site, costs).run(seconds=0.3, warm_up=0.1)


def test_one_replica_carries_what_its_core_can_compute() -> None:
    result = predicted(Site(1, clients=512))
    assert (result.limit, result.batch) == ("server CPU", 256)
    assert result.rate == pytest.approx(1 / (COSTS.server_event + COSTS.server_batch / result.batch), rel=0.05)


def test_replicas_add_up_until_the_database_is_busy() -> None:
    one, two, many = (predicted(Site(replicas, database_cores=2)) for replicas in (1, 2, 24))
    assert two.rate == pytest.approx(2 * one.rate, rel=0.15)
    assert many.limit == "database CPU"
    assert many.rate == pytest.approx(2 / (COSTS.database_event + COSTS.database_batch / many.batch), rel=0.05)


def test_shards_add_up() -> None:
    one, two = (predicted(Site(16, database_cores=1, databases=databases)) for databases in (1, 2))
    assert two.rate == pytest.approx(2 * one.rate, rel=0.1)


def test_a_lonely_client_waits_for_one_transaction() -> None:
    result = predicted(Site(1, clients=1))
    costs = COSTS.server_event + COSTS.server_batch + COSTS.database_event + COSTS.database_batch + COSTS.flush
    assert result.batch == 1
    assert result.p50 == pytest.approx(costs, rel=0.01)


def test_everything_on_one_machine_shares_its_cores() -> None:
    result = predicted(Site(2, shared_cores=1), Costs())
    event = Costs.server_event + Costs.database_event + Costs.client_event
    batch = Costs.server_batch + Costs.database_batch
    assert result.rate == pytest.approx(1 / (event + batch / result.batch), rel=0.05)


def test_slow_flushes_cost_latency_and_not_events_while_enough_clients_wait() -> None:
    fast, slow = (predicted(Site(1, clients=1_000), Costs(client_event=0, flush=flush)) for flush in (1e-3, 3e-3))
    assert slow.rate > 0.9 * fast.rate
    few_fast, few_slow = (predicted(Site(1, clients=4), Costs(client_event=0, flush=flush)) for flush in (1e-3, 3e-3))
    assert few_slow.rate < 0.7 * few_fast.rate
