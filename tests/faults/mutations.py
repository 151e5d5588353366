"""Takes each protection out, once, and shows that a test of its incident fails (docs/incidents.md).

    python -m tests.faults.mutations [I2 I5 ...]

Works on a copy of the tree. Exit code 1 when a test passes without the protection, or a protection is not found.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).parents[2]
SECONDS: Final = 240


class Mutation(NamedTuple):
    """A text of a file that is replaced, and the test that must fail then."""

    file: str
    protection: str
    instead: str
    test: str


LEDGER = "tests/integration/test_ledger.py::"
RECOVERY = "tests/integration/test_recovery.py::"
LOOPS = "tests/integration/test_loops.py::"
HTTP = "tests/integration/http/"
WORK = "noetl/ledger/work.py"

IN_TWO_TRANSACTIONS = """
        commands = [row for row in scope.rows.events if row[6] == "command.issued"]
        scope.rows.events = [row for row in scope.rows.events if row[6] != "command.issued"]
        positions = await services.store.append(connection, held, scope.rows)
        scope.rows.events, scope.rows.updates, scope.rows.keys = commands, [], []
        held = sorted((dict(held) | positions).items())
        positions |= await services.store.append(connection, held, scope.rows)
"""

MUTATIONS: Final[dict[str, Mutation]] = {
    "I1": Mutation(
        WORK,
        "if command.worker_id is not None and command.worker_id != self.instead_of:",
        "if command.worker_id is None:",
        f"{LEDGER}test_second_claim_by_another_worker_is_refused",
    ),
    "I2": Mutation(
        "noetl/store/commands.py",
        " OR runtime.registered_at > command.claimed_at END",
        " END",
        f"{RECOVERY}test_command_of_a_worker_that_began_anew_under_its_name_returns",
    ),
    "I3": Mutation(
        "noetl/store/commands.py",
        "ELSE runtime.heartbeat < now() - $1::interval OR",
        "ELSE true OR",
        f"{RECOVERY}test_long_running_command_of_a_live_worker_is_left_alone",
    ),
    "I4": Mutation(
        "noetl/messaging/reannouncer.py",
        "        for command in waiting:",
        "        for command in waiting[:0]:",
        f"{RECOVERY}test_notifications_of_a_process_that_died_are_found_in_the_database",
    ),
    "I5": Mutation(
        "noetl/messaging/reannouncer.py",
        "return all(_has_passed(consumer, sequence) for consumer in consumers)",
        "return True",
        f"{RECOVERY}test_backlog_is_not_announced_again",
    ),
    "I6": Mutation(
        "noetl/engine/decide.py",
        "if not failed or any(name in playbook.steps for name in state.running):",
        "if not failed:",
        "tests/unit/engine/test_engine_flows.py::test_failing_iteration_beside_a_running_branch_stops_only_its_loop",
    ),
    "I7": Mutation(
        "noetl/store/progress.py",
        "coalesce((SELECT status FROM ended), 'RUNNING')",
        "coalesce((SELECT status FROM ended), 'COMPLETED')",
        "tests/integration/test_executions.py::test_one_derivation_of_the_status_for_list_and_status",
    ),
    "I8": Mutation(
        "noetl/engine/decide.py",
        "if not decision.commands and not transition.standing.is_anything_running():",
        "if name == 'end' and not decision.commands and not transition.standing.is_anything_running():",
        "tests/unit/engine/test_engine_properties.py::test_every_run_ends_once_and_enters_no_step_twice",
    ),
    "I9": Mutation(
        "noetl/engine/transition.py",
        "if progress.entry is None:",
        "if True:",
        "tests/unit/engine/test_engine_flows.py::test_sequential_loop_goes_on_with_what_the_arc_set",
    ),
    "I10": Mutation(
        WORK,
        "if known == digest:",
        "if False:",
        f"{LEDGER}test_repeated_event_is_stored_once_and_answered_alike",
    ),
    "I11": Mutation(
        "noetl/http/streams.py",
        "if len(buffer) >= CHUNK_BYTES:",
        "if False:",
        f"{HTTP}test_executions.py::test_a_large_execution_is_streamed_whole",
    ),
    "I12": Mutation(
        "noetl/store/leases.py",
        "WHERE lease.holder = excluded.holder OR lease.expires_at < now()",
        "",
        f"{RECOVERY}test_periodic_work_moves_when_its_holder_dies",
    ),
    "I13": Mutation(
        "noetl/http/bodies.py",
        "if len(pieces) + len(piece) > self.limit:",
        "if False:",
        f"{HTTP}test_bodies.py::test_limit_is_inclusive_and_holds_for_chunked_bodies",
    ),
    "I14": Mutation(
        "noetl/http/application.py",
        "return not endpoint.always and load >= (1 if endpoint.last else OTHERS_SHARE)",
        "return False",
        "tests/faults/test_overload.py",
    ),
    "I15": Mutation(
        "noetl/ledger/lane.py",
        "services.cache.put(execution_id, entry, entry.approximate_bytes, is_spent=entry.is_spent)",
        "services.cache.discard(execution_id)",
        f"{LOOPS}test_rows_read_for_an_event_do_not_grow_with_the_loop",
    ),
    "I16": Mutation(
        "noetl/http/executions.py",
        '"completed": progress.status != "RUNNING",',
        '"completed": True,',
        "tests/integration/test_local_worker.py::test_sub_playbook_is_awaited",
    ),
    "I17": Mutation(
        "noetl/messaging/reannouncer.py",
        "elif not is_there and segment not in self._unheard:",
        "elif False:",
        f"{RECOVERY}test_deaf_workers_are_named_in_the_log",
    ),
    "I18": Mutation(
        "noetl/store/database.py",
        'arguments["statement_cache_size"] = 0',
        "pass",
        "tests/integration/test_pgbouncer.py::test_pooler_is_noticed_and_nothing_is_prepared",
    ),
    "I19": Mutation(
        WORK,
        'scope.append("playbook_cancelled",',
        'scope.append("playbook_noted",',
        f"{LEDGER}test_cancelled_execution_issues_and_gives_out_nothing",
    ),
    "I20": Mutation(
        "noetl/store/migrations/021_append.sql",
        "    IF stale THEN",
        "    IF false THEN",
        f"{LEDGER}test_two_processes_on_one_database_decide_once",
    ),
    "I21": Mutation(
        "noetl/ledger/lane.py",
        "if not await self._mark_repeated(batch):",
        "if True:",
        f"{RECOVERY}test_event_that_another_process_stored_does_not_prove_that_our_batch_was_committed",
    ),
    "I22": Mutation(
        "noetl/ledger/lane.py",
        "        positions = await services.store.append(connection, held, scope.rows)\n",
        IN_TWO_TRANSACTIONS,
        f"{LEDGER}test_event_and_what_follows_from_it_are_written_in_one_transaction",
    ),
    "I23": Mutation(
        "noetl/messaging/reannouncer.py",
        "if created != info.created:",
        "if False:",
        f"{RECOVERY}test_place_in_a_stream_that_was_replaced_says_nothing",
    ),
    "I24": Mutation(
        "noetl/engine/template/limits.py",
        "self.fuel -= ",
        "self.fuel -= 0 * ",
        "tests/unit/template/test_limits.py::test_endless_or_huge_template_is_stopped",
    ),
    "I25": Mutation(
        "noetl/http/events.py",
        "    refuse_nul(field, text)\n",
        "",
        f"{HTTP}test_events.py::test_nul_and_too_long_texts_are_refused_with_the_field",
    ),
    "I26": Mutation(
        WORK,
        "if state.run_status is RunStatus.CANCELLED or command.status is CommandStatus.CANCELLED:",
        "if False:",
        f"{LEDGER}test_cancelled_execution_issues_and_gives_out_nothing",
    ),
}


def survives(incident: str, mutation: Mutation) -> bool:
    """Whether the test still passes, or the protection cannot be taken out."""
    folder = Path(tempfile.mkdtemp(prefix="noetl-mutation-"))
    try:
        tree = folder / "tree"
        shutil.copytree(
            ROOT, tree, ignore=shutil.ignore_patterns(".git", ".venv", "build", "__pycache__"), symlinks=True
        )
        folder.chmod(0o755)
        path = tree / mutation.file
        text = path.read_text()
        if mutation.protection not in text:
            print(f"{incident}: NOT FOUND in {mutation.file}: {mutation.protection!r}", flush=True)
            return True
        path.write_text(text.replace(mutation.protection, mutation.instead))
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", mutation.test],
            cwd=tree,
            env={**os.environ, "PYTHONPATH": str(tree)},
            capture_output=True,
            timeout=SECONDS,
            check=False,
            text=True,
        )
        outcome = done.stdout.strip().splitlines()[-1] if done.stdout.strip() else "no output"
        verdict = "fails as it must" if done.returncode == 1 else "SURVIVES"
    except subprocess.TimeoutExpired:
        verdict, outcome = "fails as it must", f"does not end within {SECONDS} s"
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(f"{incident}: {verdict}: {mutation.test.rpartition('/')[2]}: {outcome}", flush=True)
    return verdict == "SURVIVES"


def main() -> int:
    """Run the mutations that are named, or all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("incidents", nargs="*", metavar="INCIDENT")
    chosen = parser.parse_args().incidents or list(MUTATIONS)
    return 1 if sum([survives(incident, MUTATIONS[incident]) for incident in chosen]) else 0


if __name__ == "__main__":
    sys.exit(main())
