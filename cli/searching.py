"""The searches of `dupmae search`, for one question or many queries, and what they print."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dupmae_cli import console
from dupmae_cli.formats import Format, write_found, write_hits, write_json
from dupmae_cli.hits import print_table
from dupmae_cli.runs import report_run, say_self_matches
from dupmae_toolkit.errors import counted

if TYPE_CHECKING:
    from dupmae_toolkit.collection.fields import Columns
    from dupmae_toolkit.evaluation.cards import Draft
    from dupmae_toolkit.records import Run
    from dupmae_toolkit.search.answers import Request
    from dupmae_toolkit.search.searcher import Answers, Searcher


def search_one(
    index: Searcher,
    query: str,
    request: Request,
    query_length: int | None,
    form: Format,
    fields: Sequence[str],
    output: Path,
    tag: str | None,
    card: Draft | None,
) -> None:
    from dupmae_toolkit.collection.metadata import OWN_FIELDS
    from dupmae_toolkit.records import Query

    fields = [name if name in OWN_FIELDS else index.field(name) for name in fields]
    found = index.answers([Query("0", query)], request)
    answer = found.answers[0]
    hits = index.hits(answer)
    proven = answer.certificate.certified
    about = index.described(found, request)
    _say_no_room(query_length, about)
    if form == Format.JSON:
        write_json(
            output,
            {
                "query": query,
                "k": request.k,
                "offset": request.offset,
                "filter": request.filter,
                "among": about.get("among"),
                "matching": about.get("matching"),
                **({"passages": about["passages"]} if "passages" in about else {}),
                "mode": request.mode,
                "parts": list(request.parts),
                "idf_power": request.idf_power,
                "fusion": (
                    request.fusion.describe(len(request.parts), True)
                    if request.mode == "hybrid"
                    else None
                ),
                "feedback": about.get("feedback"),
                "query_terms": about.get("query_terms"),
                "certificate": answer.certificate.to_dict(),
                "truncated": about["truncated"],
                "precision": about["precision"],
                "query_encoder": about.get("query_encoder"),
                "hits": [hit.to_dict() for hit in hits],
            },
        )
        return
    if form == Format.TREC:
        write_found(index.run_of(found, request, tag), output, form, card)
    elif form != Format.TABLE:
        write_hits(hits, output, form, fields)
    elif hits:
        assert found.vectors is not None  # the question was encoded
        print_table(hits, request.mode, index.matcher(found.vectors), fields)
    matching = f"{about['matching']:,} that match, of " if "matching" in about else ""
    line = f"{len(hits):,} of {matching}{counted(len(index), 'document')}, {request.mode}"
    line += _revision(request)
    if hits:
        line += f", {_exactness(len(hits), proven, request)}"
    elif request.offset:
        line += f": the ranking ends at rank {_last_rank(index, found, request):,}"
    console.say(line)
    _say_cut(found, "--query-length")
    _say_left_out(about)
    _say_unknown(about)


def _last_rank(index: Searcher, found: Answers, request: Request) -> int:
    """The length of a ranking that ends before a page; it is at most the page's offset."""
    assert found.vectors is not None
    assert request.offset is not None
    before = min(request.offset, len(index))
    whole = replace(request, k=before, offset=0, depth=max(request.depth, before))
    return len(index.answers(found.vectors, whole).answers[0].documents)


def _revision(request: Request) -> str:
    """How the queries were changed before they were searched, for the end of a line."""
    said, feedback = "", request.feedback
    if feedback is not None:
        said += f" after {feedback.method} of {counted(feedback.documents, 'document')}"
    if request.query_terms is not None:
        said += f", queries of {counted(request.query_terms, 'term')}"
    return said


def _exactness(hits: int, proven: bool, request: Request) -> str:
    """Whether the ranking is proven exact; not whether the hits answer the question."""
    if proven and request.offset:
        return f"exact, from rank {request.offset + 1:,}"
    if proven:
        return f"exact top {hits:,}"
    if request.mode == "hybrid" and not request.fusion.is_sum:
        return f"fused by {request.fusion.method}"
    return f"top {hits:,} not proven exact; --exact proves it"


def search_many(
    index: Searcher,
    source: str,
    split: str | None,
    columns: Columns,
    request: Request,
    output: Path,
    tag: str | None,
    query_length: int | None,
    json: bool,
    form: Format,
    card: Draft | None,
    drop_self: bool | None,
) -> None:
    from dupmae_toolkit.collection.opening import read_topics
    from dupmae_toolkit.encoding.corpus import EncodedCorpus
    from dupmae_toolkit.errors import InputError
    from dupmae_toolkit.evaluation.self_matches import settled

    topics: Any
    notes: list[str] = []
    longer = "--query-length"
    if EncodedCorpus.is_one(source):
        longer = "`dupmae encode --max-length`"
        if split is not None:
            raise InputError(f"{source}: holds encoded queries; --split goes with a BEIR data set")
        topics = EncodedCorpus.open(source)
    else:
        read = read_topics(source, split, columns)
        topics, notes = read.queries, read.reading.notes()
    k = request.k
    drops = _drops_self(source) if drop_self is None else drop_self
    if drops:
        if request.offset is not None:
            raise InputError(
                f"{source}: the document with a topic's own id is left out, which does not go with "
                "--offset; add --keep-self, or leave out --offset"
            )
        request = replace(request, k=k + 1, depth=max(request.depth, k + 1))
    found = index.answers(topics, request, console.bar)
    run = index.run_of(found, request, tag)
    run.metadata["queries"] = source
    run.metadata["split"] = split
    run, matches = settled(run, k, drops)
    notes += _judged_elsewhere(index, source, split, run)
    write_found(run, output, form, card)
    for note in notes:
        console.say(note)
    _say_no_room(query_length, run.metadata)
    report_run(run, output, {"mode": request.mode + _revision(request)}, json)
    if json:
        return
    say_self_matches(output, matches)
    _say_cut(found, longer)
    _say_left_out(run.metadata)
    counts = run.metadata["truncated"]
    _say_matching(run.metadata)
    _say_unknown(run.metadata)
    if counts["documents"]:
        what = "passage" if "passages" in run.metadata else "document"
        cut = counted(counts["documents"], what)
        console.say(f"{cut} cut at {counts['max_length']} tokens")


def _drops_self(source: str) -> bool:
    """Whether self-matches are left out by default in the data set that the queries belong to."""
    from dupmae_toolkit.collection.beir import calls_to_drop_self
    from dupmae_toolkit.encoding.corpus import EncodedCorpus

    if EncodedCorpus.is_one(source):
        # "arguana.zip (test)": what was encoded, and the split.
        source = str(EncodedCorpus.open(source).manifest.get("source"))
        source = source.rpartition(" (")[0] if source.endswith(")") else source
    return calls_to_drop_self(source)


def _judged_elsewhere(index: Searcher, source: str, split: str | None, run: Run) -> list[str]:
    """What to say of judged documents that the index lacks; also adds it to the run's metadata."""
    from dupmae_toolkit.collection.opening import read_real_qrels
    from dupmae_toolkit.evaluation.missed import unknown_in
    from dupmae_toolkit.search.hybrid_index import HybridIndex

    if split is None or not isinstance(index, HybridIndex):
        return []
    unknown = unknown_in(read_real_qrels(source, split), index.__contains__)
    run.metadata |= unknown.about()
    return [line] if (line := unknown.said("index")) else []


def _say_cut(found: Answers, longer: str) -> None:
    """Say how many queries were cut, if any were. longer: the option that keeps more of them."""
    from dupmae_toolkit.search.queries import said_cut

    if line := said_cut(found.vectors, longer):
        console.say(line)


def _say_left_out(about: dict[str, Any]) -> None:
    """Say how many weights of the queries were left out by --query-terms, if any were."""
    left = about.get("query_terms", {}).get("left_out", {})
    if any(left.values()):
        parts = ", ".join(f"{count:,} of {part}" for part, count in left.items())
        console.say(f"--query-terms left out weights of the queries: {parts}")


def _say_matching(about: dict[str, Any]) -> None:
    if "matching" in about:
        console.say(f"searched {about['matching']:,} of {about['documents']:,} documents")
    for name, count in about.get("unread", {}).items():
        console.say(
            f"{count:,} document{'s have' if count > 1 else ' has'} another kind of value in "
            f"{name!r} than the filter names, and did not match"
        )


def _say_unknown(about: dict[str, Any]) -> None:
    """Say how many ids of --among are not in the index, if any."""
    among = about.get("among")
    if among and among["unknown"]:
        console.say(f"{among['unknown']:,} of {among['ids']:,} ids in --among are not in the index")


def _say_no_room(query_length: int | None, about: dict[str, Any]) -> None:
    """about: how the queries were searched, as in a run's metadata."""
    kept, encoder = about["truncated"]["query_max_length"], about["encoder"]
    console.say_no_room(query_length, kept, encoder["name"] if encoder else "the model")
