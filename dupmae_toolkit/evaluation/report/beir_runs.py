"""Which runs of a folder that ``dupmae beir`` wrote belong to its metrics.json."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dupmae_toolkit.errors import InputError
from dupmae_toolkit.evaluation.beir import METRICS_FILE
from dupmae_toolkit.evaluation.experiment import MODES
from dupmae_toolkit.evaluation.measures import parse_measures
from dupmae_toolkit.evaluation.significance import check_means
from dupmae_toolkit.files import json_object


def about_of(folder: Path) -> dict[str, Any]:
    """What metrics.json says about one data set and split; empty if it does not."""
    about = json_object(folder / METRICS_FILE).get("about")
    return about if isinstance(about, dict) else {}


def measured_runs(folder: Path) -> list[tuple[dict[str, Any], list[Path]]]:
    """What metrics.json says about each split, and the runs that it measured; none without it."""
    told = json_object(folder / METRICS_FILE)
    splits = told.get("splits")
    found = []
    if isinstance(splits, dict):
        for split, values in splits.items():
            about = values.get("about") if isinstance(values, dict) else None
            if isinstance(about, dict):
                label = f"{about.get('dataset')}.{split}"
                found.append(({**about, "label": label}, _runs(folder, label, values)))
    elif about := about_of(folder):
        found.append((about, _runs(folder, str(about.get("dataset")), told)))
    return [(about, paths) for about, paths in found if paths]


def own_measures(folder: Path) -> list[str]:
    """The measures that ``dupmae beir`` computed in a folder, without counts, which have no mean.

    Empty if there is no such record.
    """
    told = json_object(folder / METRICS_FILE)
    splits = told.get("splits")
    for one in [told, *(splits.values() if isinstance(splits, dict) else ())]:
        for mode in MODES if isinstance(one, dict) else ():
            if isinstance(found := one.get(mode), dict) and found:
                return [str(name) for name in found if _has_mean(str(name))]
    return []


def _has_mean(measure: str) -> bool:
    try:
        check_means([str(each) for each in parse_measures([measure])])
    except InputError:
        return False
    return True


def _runs(folder: Path, label: str, modes: Mapping[str, Any]) -> list[Path]:
    names = {f"{label}.{mode}.trec" for mode in modes if mode != "about"}
    return sorted(path for path in folder.iterdir() if path.name in names and path.is_file())


def own_qrels(folder: Path, about: Mapping[str, Any]) -> Path | None:
    """The judgements that ``dupmae beir`` wrote into the folder; None if there are none."""
    stated = about.get("qrels")
    name = stated.get("file") if isinstance(stated, dict) else None
    # Only a name, no path: a record must not lead to files elsewhere.
    good = isinstance(name, str) and name == Path(name).name and (folder / name).is_file()
    return folder / str(name) if good else None
