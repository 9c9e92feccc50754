"""What `dupmae search` and `dupmae fuse` check before they write a TREC run, and report after."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dupmae_cli import console
from dupmae_cli.formats import STANDARD_OUTPUT, Format, gets_card
from dupmae_toolkit.errors import counted

if TYPE_CHECKING:
    from dupmae_toolkit.evaluation.measures import Scores
    from dupmae_toolkit.evaluation.missed import Missed
    from dupmae_toolkit.evaluation.self_matches import SelfMatches
    from dupmae_toolkit.records import Run


#: How results in CSV and JSON lines begin.
_BEGINNINGS = ("topic,rank,id,", "rank,id,score")


def check_run(path: Path, tag: str | None, form: Format) -> None:
    """Refuse, before the work begins, a file or a tag that could not be written at its end.

    An earlier run is replaced; a file that holds anything else is refused, so that a slip of the
    hand (topics named as the output) costs nobody a file.
    """
    from dupmae_toolkit.collection.trec import check_tag, sidecar_path
    from dupmae_toolkit.errors import InputError
    from dupmae_toolkit.evaluation.card_reading import is_card
    from dupmae_toolkit.evaluation.cards import card_path
    from dupmae_toolkit.files import check_file_output

    if tag is not None:
        check_tag(tag, path)
    if path != STANDARD_OUTPUT:
        check_file_output(path, "the run")
        written: dict[Path, Callable[[Path], bool]] = {path: _holds_results}
        if gets_card(path, form):
            written |= {sidecar_path(path): _is_sidecar, card_path(path): is_card}
        for place, is_ours in written.items():
            try:
                foreign = place.is_file() and not is_ours(place)
            except InputError:  # cannot be read, or is no text
                foreign = True
            if foreign:
                what = "is no run" if place == path else f"does not belong to a run {path.name}"
                raise InputError.at(place, None, f"exists, and {what}; name another output")


def _holds_results(path: Path) -> bool:
    """Whether a file is empty or begins as a run or as the hits of a question, in any form."""
    from dupmae_toolkit.collection.sources import TextSource

    lines = [line.strip() for _, line in itertools.islice(TextSource(path).lines(), 2)]
    if not lines:
        return True
    if len(lines) > 1 and lines[0] == "{":
        return lines[1].startswith(('"tag":', '"query":'))
    if lines[0].startswith("{"):
        try:
            return {"rank", "id", "score"} <= json.loads(lines[0]).keys()
        except (ValueError, RecursionError):
            return False
    return lines[0].startswith(_BEGINNINGS) or _is_of_a_run(lines[0].split())


def _is_of_a_run(columns: list[str]) -> bool:
    """Whether these may be the columns of a line of TREC's: topic, Q0, document, rank, score, tag.

    The rank may be anything without letters after Q0, since no reader needs it.
    """
    try:
        rank, second = columns[3], columns[1].upper()
        ranked = not any(map(str.isalpha, rank)) and (any(map(str.isdigit, rank)) or second == "Q0")
        numbers = ranked and isfinite(float(columns[4]))
    except (IndexError, ValueError):
        return False
    return numbers and len(columns) == 6


def _is_sidecar(path: Path) -> bool:
    """Whether a file is what ``write_run`` writes beside a run."""
    from dupmae_toolkit.files import json_object

    return {"tag", "sha256"} <= json_object(path).keys()


def say_unjudged(label: object, topics: int) -> None:
    """Say how many topics of a run do not count, if any."""
    if topics:
        console.say(f"{label}: {counted(topics, 'topic')} without judgements ignored")


def say_missed(label: object, scores: Scores, missed: Missed) -> None:
    """Say what makes figures lower than the rankings are: topics and ids that do not meet."""
    if lacking := scores.judged - scores.returned:
        console.say(f"{label}: lacks {counted(lacking, 'judged topic')}, counted as 0")
    say_unjudged(label, scores.unjudged)
    say_other_ids(label, missed)


def say_other_ids(label: object, missed: Missed) -> None:
    """Say so if a run holds no relevant document at all."""
    if missed.ids is not None:
        relevant, held = missed.ids
        console.say(
            f"{label}: holds none of the {counted(missed.relevant, 'relevant document')}; are "
            f"the ids of one kind? A relevant one is {relevant!r}, the run's first is {held!r}"
        )


def self_matches_line(matches: SelfMatches) -> str:
    """How many topics found the document with their own id, if that was left out or leads."""
    if matches.dropped and matches.found:
        topics = counted(matches.found, "topic")
        return f"left out the document with the topic's own id in {topics} (--keep-self)"
    if matches.suspicious:
        return (
            f"the first hit of {matches.leading:,} of {counted(matches.searched, 'topic')} is the "
            "document with the topic's own id, which --drop-self leaves out"
        )
    return ""


def say_self_matches(label: object, matches: SelfMatches) -> None:
    """Say ``self_matches_line``, if there is one."""
    if line := self_matches_line(matches):
        console.say(f"{label}: {line}")


def report_run(run: Run, path: Path, how: dict[str, Any], json: bool) -> None:
    """Report what was written to ``path``, in a line or as JSON. how: the mode or method."""
    hits = sum(len(ranking) for ranking in run.topics.values())
    certificate = run.metadata.get("certificate")
    if json:
        summary = {"output": str(path), "tag": run.tag, "topics": len(run), "hits": hits}
        console.print_json(summary | how | run.metadata)
        return
    place = "standard output" if path == STANDARD_OUTPUT else path
    size = f"{counted(len(run), 'topic')}, {counted(hits, 'hit')}"
    line = f"{place}: {size}, {', '.join(how.values())}"
    if certificate:
        line += f", {certificate['certified']:,} of {certificate['topics']:,} rankings proven exact"
    console.say(line)
