"""`dupmae doctor`: what this machine has, what it lacks, and what to do."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from dupmae_cli import console


def register(app: typer.Typer) -> None:
    """Add this file's commands to the application."""
    app.command("doctor")(doctor)


def doctor(
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Look at Java, Lucene, FAISS, torch, threads, memory: what is fine, what is not, what to do.

    Ends with 0 when the toolkit can be used and with 1 when something that it needs is missing.

    [bold]Examples:[/bold]

      dupmae doctor

      dupmae doctor --json
    """
    from dupmae_toolkit.doctor import FINE, MISSING, NOTE, examine, is_usable

    checks = examine()
    usable = is_usable(checks)
    if json:
        console.print_json({"usable": usable, "checks": [asdict(check) for check in checks]})
    else:
        marks = {FINE: "ok", NOTE: "note", MISSING: "MISSING"}
        for check in checks:
            advice = f" -> {check.advice}" if check.advice else ""
            print(f"{marks[check.state]:<8}{check.name:<13} {check.found}{advice}")
    console.say("dupmae can be used here" if usable else "something that dupmae needs is missing")
    if not usable:
        raise typer.Exit(1)
