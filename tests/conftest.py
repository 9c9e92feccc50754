"""Fixtures that tests of several files ask for by name."""

from __future__ import annotations

import os

import pytest


@pytest.fixture
def quick_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waiting for the disk takes most of the time where indexes are built, and no machine loses
    its power here."""
    monkeypatch.setattr(os, "fsync", lambda _: None)
