"""`dupmae doctor`: what this machine has, what it lacks, and what to do about it."""

from __future__ import annotations

from dataclasses import asdict

import typer

from dupmae_cli import console
from dupmae_cli.options import JsonOption


def doctor(json: JsonOption = False) -> None:
    """Check Java, Lucene, FAISS, torch, threads and memory; say how to fix problems.

    Prints a line for each check: ok, note or MISSING, what was found, and what to do about it. The
    exit code is 0 if the toolkit can be used and 1 if something that it needs is missing.

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
