"""`catalog`: registered playbooks and other resources; and what is wrong with those that are not yet."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 (typer reads the annotations at run time)
from typing import TYPE_CHECKING

import msgspec
import typer

from noetl.cli.documents import read_document, remark_line
from noetl.cli.session import EXIT_USAGE, Json, Server, ask, second, show, table
from noetl.client import Remark, Validation
from noetl.engine.playbook import review_document

if TYPE_CHECKING:
    from collections.abc import Iterator

    from noetl.engine.playbook import Remark as PlaybookRemark

catalog = typer.Typer(help="Registered playbooks and other resources.", rich_markup_mode=None, no_args_is_help=True)


@catalog.command("list")
def list_entries(
    kind: str = typer.Option(None, help="playbook, credential, agent, ...; all by default."),
    all_versions: bool = typer.Option(False, "--all-versions", help="Not only the newest of each path."),
    server: str = Server,
    json: bool = Json,
) -> None:
    """What is registered, newest first."""
    entries = ask(server, lambda client: client.catalog.list(kind=kind, latest_only=not all_versions))
    rows = [(entry.path, entry.version, entry.kind, second(entry.created_at)) for entry in entries]
    show(entries, json, table(("path", "version", "kind", "registered"), rows, right=("version",)))


@catalog.command("show")
@catalog.command("get", hidden=True)
def show_entry(
    path: str,
    version: int = typer.Option(None, help="The newest by default."),
    server: str = Server,
    json: bool = Json,
) -> None:
    """Print a document."""
    entry = ask(server, lambda client: client.catalog.get(path, version))
    show(entry, json, (entry.content or "").removesuffix("\n"))


@catalog.command("register")
def register(file: Path, server: str = Server, json: bool = Json) -> None:
    """Register a document as the next version of its path; tells what would keep a playbook from running."""
    content = read_document(file)
    entry = ask(server, lambda client: client.catalog.register(content))
    for problem in entry.problems:
        typer.echo(remark_line(file, problem, "warning: "), err=True)
    show(entry, json, f"{entry.path} version {entry.version}")


@catalog.command("validate")
def validate(
    files: list[Path],
    server: str | None = typer.Option(
        None, "--server", envvar="NOETL_SERVER_URL", help="Let this server judge; without it no server is needed."
    ),
    json: bool = Json,
) -> None:
    """Check documents without registering them. Exit code 0 if all are valid, 2 if not; warnings do not count."""
    found: list[tuple[Path, Validation]] = []
    for file in files:
        content = read_document(file)
        if server is None:
            found.append((file, _review(content)))
        else:
            found.append((file, ask(server, lambda client, text=content: client.catalog.validate(text))))
    lines = [line for file, validation in found for line in _lines(file, validation)]
    show([{"file": str(file), **msgspec.to_builtins(validation)} for file, validation in found], json, "\n".join(lines))
    raise typer.Exit(0 if all(validation.valid for _, validation in found) else EXIT_USAGE)


def _review(content: str) -> Validation:
    """The judgement of this version, in the form of a server's."""
    review = review_document(content)
    problems, warnings = ([_remark(item) for item in items] for items in (review.problems, review.warnings))
    return Validation(not problems, review.path, review.kind, problems, warnings)


def _remark(own: PlaybookRemark) -> Remark:
    return Remark(own.step, own.field, own.message, own.line or None, own.column or None)


def _lines(file: Path, validation: Validation) -> Iterator[str]:
    for severity, remarks in (("error: ", validation.problems), ("warning: ", validation.warnings)):
        for remark in remarks:
            yield remark_line(file, remark, severity)
    if validation.valid:
        yield f"{file}: valid"
