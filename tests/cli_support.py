"""A command of `dupmae`, run in this process as it is typed."""

from __future__ import annotations

import pytest

from dupmae_cli.main import main


def run(captured: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a command; `captured` is pytest's capsys or capfd.

    What was printed before the command is left out.
    """
    captured.readouterr()
    with pytest.raises(SystemExit) as stopped:
        main([str(word) for word in words])
    out, err = captured.readouterr()
    assert isinstance(stopped.value.code, int)
    return stopped.value.code, out, err
