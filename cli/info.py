"""`dupmae info`: describe an index."""

from __future__ import annotations

from typing import Any

from dupmae_cli import console
from dupmae_cli.hits import clean
from dupmae_cli.options import IndexOption, JsonOption

#: What to say about a scale, by where it comes from.
_SCALES = {"encoder": "the encoder's scale", "first build": "the scale of the first build"}


def info(index: IndexOption, json: JsonOption = False) -> None:
    """Describe an index: documents, encoder, quantisation error, sizes.

    Only the manifest is read: `dupmae verify` checks the index for damage.

    [bold]Examples:[/bold]

      dupmae info --index indexes/scifact

      dupmae info --index indexes/scifact --json
    """
    from dupmae_toolkit.index.info import index_info

    values = index_info(index)
    if json:
        console.print_json(values)
        return
    for name, text in _described(values):
        print(f"{name:<12} {text}")


def _described(values: dict[str, Any]) -> list[tuple[str, str]]:
    """The lines of `dupmae info`, each a name and a text."""
    encoder, impacts, sizes = values["encoder"], values["impacts"], values["bytes"]
    error = impacts["error"]
    lines = [
        ("index", f"{values['index']} (format {values['format_version']})"),
        ("documents", _documents(values)),
        *_passages(values),
        ("source", _source(values)),
        (
            "encoder",
            f"{encoder['name']}: {_vectors(encoder)}, "
            f"texts of up to {encoder['max_length']} tokens, "
            f"queries of up to {encoder['query_max_length']} unless the search says otherwise; "
            f"weights {encoder['weights_sha256'][:12]}",
        ),
        ("score", _score(values)),
        ("precision", _precision(values["precision"])),
        (
            "dense",
            f"FAISS {values['faiss']}, inner product" if encoder["dense_dim"] else "none",
        ),
        (
            "lexical",
            "none"
            if encoder["lexical_head"] == "none"
            else f"{values['terms_per_document']:,.1f} terms per document; impacts up to "
            f"{impacts['max_impact']} in steps of {impacts['step']:.3g} "
            f"({_SCALES[impacts['scale_source']]}), error "
            f"{error['mean_absolute']:.2g} on average, {error['max_absolute']:.2g} at most, "
            f"{error['clipped']:,} clipped",
        ),
        ("bm25", _bm25(values)),
        *_pruning(values),
        (
            "segments",
            ", ".join(f"{s['name']} ({s['documents']:,})" for s in values["segments"]),
        ),
        ("bytes", ", ".join(f"{name} {size:,}" for name, size in sizes.items())),
    ]
    stated = values["reading"].get("ids")
    if isinstance(stated, str) and stated:
        lines.insert(
            _after(lines), ("ids", stated if stated.startswith("row") else f"the field {stated}")
        )
    if values["truncated"]:
        texts = "passages" if values["passages"] else "texts"
        lines.insert(
            _after(lines), ("cut", f"{values['truncated']:,} {texts} at the encoder's limit")
        )
    lines += [("leftover", f"{name}: {_about_leftover(name)}") for name in values["leftovers"]]
    return lines


def _after(lines: list[tuple[str, str]]) -> int:
    """The place after the line on the source."""
    return [name for name, _ in lines].index("source") + 1


def _documents(values: dict[str, Any]) -> str:
    """How many documents there are; of passages, those deleted are counted with these."""
    deleted = "" if values["passages"] else f", {values['deleted']:,} deleted"
    return f"{values['documents']:,}{deleted}"


def _passages(values: dict[str, Any]) -> list[tuple[str, str]]:
    """The line on passages, if they are indexed."""
    held = values["passages"]
    if not held:
        return []
    cut = f"up to {held['size']} tokens, {held['overlap']} shared with the next"
    return [("passages", f"{held['count']:,}, {values['deleted']:,} deleted; {cut}")]


def _vectors(encoder: dict[str, Any]) -> str:
    """Which vectors the encoder gives."""
    dense = f"{encoder['dense_dim']} dimensions" if encoder["dense_dim"] else "no dense vectors"
    if encoder["pooling"] not in ("cls", "none"):
        dense += f" by {encoder['pooling']} pooling"
    lexical = f"{encoder['vocabulary_size']:,} terms"
    return f"{dense}, {'no lexical vectors' if encoder['lexical_head'] == 'none' else lexical}"


def _score(values: dict[str, Any]) -> str:
    """The weighted sum that a hybrid search ranks by."""
    encoder, scoring = values["encoder"], values["scoring"]
    sides = [part for part in values["parts"] if part != "bm25"]
    plain = " + ".join(f"{encoder[f'{part}_weight']:g} × {part}" for part in sides)
    if scoring is None:
        return f"{plain} (plain: an earlier version built it; `dupmae compact` adds BM25)"
    weights = scoring["weights"]
    parts = [f"{weights[part]:g} × {part}" for part in values["parts"]]
    power = scoring["frequencies"]["power"]
    factor = f", tokens' weights × (idf / mean idf) ^ {power:g}" if "lexical" in sides else ""
    return f"{' + '.join(parts)}{factor}{_tuned(scoring)}; plain: {plain}"


def _tuned(scoring: dict[str, Any]) -> str:
    """What the weights were tuned on, if they were."""
    origin = scoring.get("origin")
    if not origin:
        return ""
    return (
        f" (tuned for {origin['measure']} on {origin['topics']:,} topics of "
        f"{clean(origin['queries'])})"
    )


def _bm25(values: dict[str, Any]) -> str:
    bm25 = values["scoring"] and values["scoring"]["bm25"]
    if not bm25:
        return "none"
    error = values["scoring"]["error"]
    line = (
        f"k1 {bm25['k1']:g}, b {bm25['b']:g}, mean length {bm25['mean_length']:,.1f} words, now "
        f"{values['mean_length']:,.1f} ({values['drift']:+.1%}); "
        f"{values['words_per_document']:,.1f} words per document, error "
        f"{error['mean_absolute']:.2g} on average, {error['max_absolute']:.2g} at most"
    )
    return line + ("; `dupmae compact` renews the mean length" if values["drift"] else "")


def _pruning(values: dict[str, Any]) -> list[tuple[str, str]]:
    """The line on pruning, if impacts were left out."""
    from dupmae_toolkit.index.pruning import Pruning

    pruning = Pruning.from_dict(values["pruning"])
    return [] if pruning is None else [("pruned", f"to {pruning}")]


def _precision(counts: dict[str, int]) -> str:
    """The precisions that documents were encoded in, the most frequent first."""
    order = sorted(counts, key=lambda name: (-counts[name], name))
    known = [f"{counts[name]:,} in {name}" for name in order if name != "unknown"]
    if "unknown" in counts:
        known.append(f"{counts['unknown']:,} not known")
    return f"documents ever added: {', '.join(known) or 'none'}"


def _source(values: dict[str, Any]) -> str:
    source, changes = values["source"] or "unknown", values["generation"]
    if not changes:
        return source
    return f"{source}, when it was built; {changes:,} change{'s' * (changes > 1)} since"


def _about_leftover(name: str) -> str:
    """What to say about a file or folder in the index's folder that is not part of the index."""
    from dupmae_toolkit.index.layout import ADDING_FOLDER, BUILDING_FOLDER

    if name == BUILDING_FOLDER:
        return "of a build, running or interrupted; the same `dupmae index` continues it"
    if name == ADDING_FOLDER:
        return "of an addition, running or interrupted; the same `dupmae add` continues it"
    return "not used, except by searchers that opened it earlier; a later change removes it"
