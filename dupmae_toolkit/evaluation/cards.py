"""Cards: records of how a command made its files, so that it can be repeated and checked.

A card is a JSON file: the command, what it read with checksums, what it wrote with checksums, the
figures, the encoder and the fusion, versions, machine and times. Runs and their metadata are the
same in every repetition; only the card holds what differs, such as times.
"""

from __future__ import annotations

import copy
import glob
import importlib.metadata
import platform
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dupmae_toolkit import __version__, machine
from dupmae_toolkit.collection.folders import pattern_files
from dupmae_toolkit.evaluation.digests import digest
from dupmae_toolkit.files import manifest_in, sha256_file, sha256_with_ids, write_json
from dupmae_toolkit.records import Run

if TYPE_CHECKING:
    from dupmae_toolkit.evaluation.beir import BeirResult

#: The version of the format of cards.
FORM = 1
#: The name of the card in a folder that a command wrote.
FOLDER_CARD = "card.json"
#: Packages whose versions are recorded if they were loaded: the module and the package's name.
_PACKAGES = {
    "numpy": "numpy",
    "scipy": "scipy",
    "pyarrow": "pyarrow",
    "torch": "torch",
    "transformers": "transformers",
    "faiss": "faiss-cpu",
    "jnius": "pyserini",  # whose Lucene runs in Java
    "ir_measures": "ir-measures",
    "pytrec_eval": "pytrec-eval-terrier",
    "ir_datasets": "ir-datasets",
}
#: Patterns of the files of a BEIR data set and of a model; a folder may hold other files.
_BEIR_FILES = ("**/corpus.jsonl*", "**/queries.jsonl*", "**/qrels/*")
_MODEL_FILES = (
    *("*.json", "*.txt", "*.model", "*.safetensors", "*.bin", "sparse_linear.pt"),
    *("*/*.json", "*/*.txt", "*/*.model", "*/*.safetensors"),
)
_WEIGHTS = ("*.safetensors", "*/*.safetensors", "*.bin", "*/*.bin", "*.pt", "*.h5")
_MANIFEST = "manifest.json"
#: Each manifest of ours has one of these: of an index, of encoded texts.
_MANIFEST_KEYS = ("segments", "parts")


def card_path(path: Path) -> Path:
    """The card of a run: ``PATH`` with ``.card.json`` added."""
    return path.with_name(f"{path.name}.card.json")


@dataclass(slots=True)
class Draft:
    """The card of a running command. command: its words, beginning with ``dupmae``.

    Checksums of what it reads are taken now, before anything can change.
    """

    command: Sequence[str]
    reads: Mapping[str, str]
    inputs: list[dict[str, Any]] = field(init=False)
    started: datetime = field(init=False)
    _from: float = field(init=False)

    def __post_init__(self) -> None:
        self._from = time.perf_counter()
        self.started = datetime.now(UTC)
        self.inputs = [
            {"option": option, "path": path, **(fingerprint(path) or {"sha256": None})}
            for option, path in self.reads.items()
        ]

    def restarted(self) -> Draft:
        """The draft of another card of the same command, whose work begins now."""
        another = copy.copy(self)
        another._from, another.started = time.perf_counter(), datetime.now(UTC)
        return another

    def write(
        self,
        path: Path,
        outputs: Sequence[Path],
        about: Mapping[str, Any],
        figures: Mapping[str, Mapping[str, float]] | None = None,
    ) -> None:
        """Write the card. outputs: files in the card's folder, or in folders there.

        figures: label → measure → value.
        """
        write_json(
            path,
            {
                "card": FORM,
                "command": list(self.command),
                "started": self.started.strftime("%Y-%m-%dT%H:%M:%SZ"),
                "seconds": round(time.perf_counter() - self._from, 3),
                "inputs": self.inputs,
                "outputs": [
                    {"path": o.relative_to(path.parent).as_posix(), "sha256": sha256_file(o)}
                    for o in outputs
                ],
                "figures": {label: dict(values) for label, values in (figures or {}).items()},
                **about,
                "versions": versions(),
                "machine": machine.describe(),
            },
        )


def about_run(run: Run) -> dict[str, Any]:
    """What a card says about a run, from its metadata: encoder, index, fusion, numbers."""
    told = run.metadata
    encoder = told.get("encoder")
    names = ("name", "weights_sha256", "vocabulary_sha256")
    return {
        "mode": told.get("mode"),
        "encoder": {name: encoder.get(name) for name in names} if encoder else None,
        "index": told.get("index"),
        "documents": told.get("documents"),
        "fusion": told.get("fusion"),
        "frequencies": (told.get("lexical") or {}).get("frequencies"),
        **{name: told[name] for name in ("feedback", "query_terms", "reranked") if name in told},
        "k": told.get("k"),
        "topics": len(run),
        "hits": sum(len(ranking) for ranking in run.topics.values()),
    }


def about_beir(results: Sequence[BeirResult]) -> dict[str, Any]:
    """What a card says about the data sets of ``run_beir``: options and numbers, by metrics.json.

    Several data sets share encoder and options, so these are those of the first; each has its own
    numbers.
    """
    told = results[0].metrics()["about"]
    encoder = {"name": told["encoder"], "weights_sha256": told["weights_sha256"]}
    names = ("fusion", "idf_power", "faiss", "k", "parts")
    by_name = dict(zip(names_of(results), results, strict=True))
    return {
        "encoder": encoder,
        **{name: told[name] for name in names},
        "documents": {each.dataset: each.documents for each in results},
        "topics": {name: next(iter(each.scores.values())).judged for name, each in by_name.items()},
        "reused": {name: each.reused for name, each in by_name.items()},
    }


def names_of(results: Sequence[BeirResult]) -> list[str]:
    """Names that tell results apart: by data set, and by split if there are several splits."""
    splits = len({each.split for each in results}) > 1
    return [f"{each.dataset}.{each.split}" if splits else each.dataset for each in results]


def versions() -> dict[str, str]:
    """The versions of the toolkit, of Python, and of the packages that are loaded."""
    found = {"dupmae-toolkit": __version__, "python": platform.python_version()}
    for module, package in _PACKAGES.items():
        if module in sys.modules:
            try:
                found[package] = importlib.metadata.version(package)
            except importlib.metadata.PackageNotFoundError:  # installed under another name
                continue
    return found


def fingerprint(path: str) -> dict[str, Any] | None:
    """The SHA-256 of a file; for a folder, that of its manifest or of a list of its files.

    That of vectors as NAME.npy covers NAME.ids. In a model's folder, only settings and weights
    count; in a BEIR folder, only corpus, queries and judgements; in any other, all files but hidden
    ones. Of a pattern such as ``notes/**/*.md``, all files that it names count. None for what
    cannot be read, or is no file or folder on this machine (standard input, data sets of
    ir_datasets or the hub).
    """
    try:
        place = Path(path)
        if glob.has_magic(path) and not place.exists():
            folder, files, _ = pattern_files(path)
            return _listed(sorted(files), folder) if files else None
        return _fingerprint(place)
    except (OSError, ValueError):  # InputError, which a folder of results gives, is a ValueError
        return None


def _fingerprint(place: Path) -> dict[str, Any] | None:
    if place.is_file():
        return {"sha256": sha256_with_ids(place), "bytes": place.stat().st_size}
    if not place.is_dir():
        return None
    if not manifest_in(place).keys().isdisjoint(_MANIFEST_KEYS):
        return {"sha256": sha256_file(place / _MANIFEST), "of": _MANIFEST}
    patterns: Sequence[str] = ("**/*",)
    if (place / "config.json").is_file() and _shown(place, *_WEIGHTS):
        patterns = _MODEL_FILES
    elif _shown(place, _BEIR_FILES[0]):
        patterns = _BEIR_FILES
    return _listed(sorted(each for each in _shown(place, *patterns) if each.is_file()), place)


def _listed(files: Sequence[Path], folder: Path) -> dict[str, Any]:
    listed = [[each.relative_to(folder).as_posix(), sha256_file(each)] for each in files]
    return {"sha256": digest(listed), "files": len(listed)}


def _shown(folder: Path, *patterns: str) -> set[Path]:
    """The files and folders of these names that are not hidden, nor in a hidden folder."""
    found = {each for pattern in patterns for each in folder.glob(pattern)}
    return {
        each
        for each in found
        if not any(part.startswith(".") for part in each.relative_to(folder).parts)
    }
