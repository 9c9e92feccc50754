"""What can be chosen between: encoders, settings of the score of one, and runs made elsewhere."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dupmae_toolkit.collection.trec import read_run
from dupmae_toolkit.encoding.resume import precision_of
from dupmae_toolkit.errors import InputError
from dupmae_toolkit.evaluation.development import SPLIT, MemoryDataset
from dupmae_toolkit.evaluation.digests import vectors_key
from dupmae_toolkit.evaluation.experiment import Experiment
from dupmae_toolkit.evaluation.self_matches import without_self_matches
from dupmae_toolkit.progress import Progress, silent
from dupmae_toolkit.records import Encoder, Run
from dupmae_toolkit.search.answers import PARTS, check_idf_power
from dupmae_toolkit.search.fusion import Fusion, parse_weights

_SETTINGS = re.compile(
    r"(?P<model>.+?)(?:@(?P<weights>plain|[0-9.,e+-]+))?(?:\^(?P<power>[^@^]*))?"
)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A candidate as it was named: ``MODEL``, ``MODEL@WEIGHTS``, ``MODEL@WEIGHTS^POWER``, or RUNS.

    model: an encoder's name or folder; "" for runs. weights: of the parts; None: the encoder's.
    plain: the plain score. idf_power: None: the index's. runs: a folder with a TREC run for each
    set, ``SET.trec``, in place of a model.
    """

    name: str
    model: str = ""
    weights: tuple[float, ...] | None = None
    plain: bool = False
    idf_power: float | None = None
    runs: Path | None = None

    def settings(self) -> dict[str, Any]:
        """As the record has it."""
        if self.runs is not None:
            return {"runs": str(self.runs)}
        return {
            "model": self.model,
            "weights": list(self.weights) if self.weights else None,
            "plain": self.plain,
            "idf_power": self.idf_power,
        }


def parse_candidate(text: str, sets: list[str]) -> Candidate:
    """A candidate from the command line. Raises InputError for one that makes no sense.

    sets: the names of the development sets; a folder that has the run of one of them holds runs.
    """
    folder = Path(text)
    held = [name for name in sets if (folder / f"{name}.trec").is_file()]
    if held:
        missing = [name for name in sets if name not in held]
        if missing:
            raise InputError.at(
                folder / f"{missing[0]}.trec", None, "no such run of this candidate"
            )
        return Candidate(text, runs=folder)
    if folder.exists():
        return Candidate(text, text)
    return parse_settings(text)


def parse_settings(text: str) -> Candidate:
    """``MODEL``, ``MODEL@WEIGHTS`` or ``MODEL@WEIGHTS^POWER``; InputError for anything else."""
    found = _SETTINGS.fullmatch(text)
    if not found:
        raise InputError(f"candidate {text!r}: write MODEL, MODEL@70,1.5,1.5 or MODEL@70,1,1^0.5")
    weights, power = found["weights"], found["power"]
    try:
        idf_power = None if power is None else float(power)
        check_idf_power(0.0 if idf_power is None else idf_power)
    except ValueError as error:
        raise InputError(
            f"candidate {text}: idf power {power!r}; it must be a finite number of at least 0"
        ) from error
    plain = weights == "plain"
    if plain and idf_power:
        raise InputError(
            f"candidate {text}: the plain score has no frequencies; leave out ^{power}"
        )
    try:
        numbers = None if plain or weights is None else parse_weights(weights)
        Fusion("sum", numbers).weights_for(len(PARTS))
    except InputError as error:
        raise InputError(f"candidate {text}: {error}") from error
    return Candidate(text, found["model"], numbers, plain, idf_power)


class Rankings:
    """Makes the runs of candidates on the development sets; each text is encoded once.

    folder: keeps the vectors and indexes, so that a later call continues.
    """

    def __init__(
        self,
        folder: Path,
        load: Callable[[str], Encoder],
        k: int,
        progress: Progress = silent,
    ) -> None:
        """load: gives the encoder of a name. k: hits of each run."""
        self._folder, self._load, self._k, self._progress = folder, load, k, progress
        self._encoder: tuple[str, Encoder] | None = None
        self._experiment: tuple[tuple[str, str, str], Experiment] | None = None

    def digest(self, candidate: Candidate) -> str:
        """The SHA-256 of a candidate's weights, hexadecimal; "" for runs."""
        return "" if candidate.runs else self._encoder_of(candidate).info.weights_sha256

    def run(self, candidate: Candidate, dataset: MemoryDataset, mode: str) -> Run:
        """A candidate's ranking of a set's topics."""
        if candidate.runs is not None:
            run = read_run(candidate.runs / f"{dataset.name}.trec")
        else:
            experiment = self._of(candidate, dataset)
            plain = candidate.plain and mode != "bm25"
            hybrid = mode == "hybrid"
            request = experiment.index.request(
                experiment.depth,
                mode,
                Fusion("sum", candidate.weights if hybrid else None),
                exact=True,
                plain=plain,
                idf_power=candidate.idf_power if not plain else None,
            )
            run = experiment.index.run(experiment.topics, request)
        return without_self_matches(run, self._k) if dataset.drops_self_matches else run

    def _encoder_of(self, candidate: Candidate) -> Encoder:
        if self._encoder is None or self._encoder[0] != candidate.model:
            self._encoder = candidate.model, self._load(candidate.model)
        return self._encoder[1]

    def _of(self, candidate: Candidate, dataset: MemoryDataset) -> Experiment:
        encoder = self._encoder_of(candidate)
        own = vectors_key(encoder)
        # Topics that are cut or computed otherwise are encoded again, in the same folder.
        queries = f"{encoder.info.query_max_length} {precision_of(encoder, 'queries')}"
        key = own, queries, dataset.name
        if self._experiment is None or self._experiment[0] != key:
            self.close()
            folder = self._folder / own / dataset.name
            made = Experiment(dataset, encoder, folder, SPLIT, self._k, progress=self._progress)
            self._experiment = key, made
        return self._experiment[1]

    def close(self) -> None:
        """Close the index that is open."""
        if self._experiment is not None:
            self._experiment[1].close()
            self._experiment = None
