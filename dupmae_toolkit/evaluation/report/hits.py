"""One topic of a report: the hits of each run, and how scores are made up."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from dupmae_toolkit.evaluation.report.svg import escaped
from dupmae_toolkit.evaluation.report.tables import Html, table

if TYPE_CHECKING:
    from dupmae_toolkit.evaluation.report.examples import Example
    from dupmae_toolkit.search.explanation import Explanation

#: How many terms of each explanation are shown.
_TERMS = 12


def example_html(example: Example, labels: list[str], measure: str) -> str:
    """A topic with its values, hits and explanations. labels: of the runs, in their order."""
    text = f": {escaped(example.text)}" if example.text else ""
    change = "" if example.change is None else f" <small>{example.change:+.4f}</small>"
    lines = [
        '<article class="topic">',
        f"<h4><bdi>{escaped(example.topic)}</bdi>{text}{change}</h4>",
        _hits(example, labels, measure),
    ]
    if example.relevant:
        rows: list[list[Any]] = [
            [_document(name, example), *(ranks.get(label) for label in labels)]
            for name, ranks in example.relevant
        ]
        lines.append(table("Ranks of relevant documents", ["document", *labels], rows, blank="–"))
    lines += [_explanation(each, example) for each in example.explained]
    return "\n".join([*lines, "</article>"])


def _hits(example: Example, labels: list[str], measure: str) -> str:
    values = [example.values[label] for label in labels]
    rows: list[list[Any]] = [[measure, *values]]
    for place in range(max(map(len, example.hits.values()), default=0)):
        row: list[Any] = [place + 1]
        for label in labels:
            ids = example.hits[label]
            row.append(_document(ids[place], example) if place < len(ids) else None)
        rows.append(row)
    return table("Hits by rank; grades in brackets", ["", *labels], rows, texts=len(labels) + 1)


def _document(name: str, example: Example) -> Html:
    """An id with its grade and title. Relevant documents differ by a mark, not by colour alone."""
    grade = example.grades.get(name)
    title = example.titles.get(name, "")
    shown = f"<bdi>{escaped(name)}</bdi>"
    if grade is not None and grade > 0:
        shown = f'<strong class="good">✓ {shown} ({grade})</strong>'
    elif grade is not None:
        shown = f"{shown} ({grade})"
    return Html(shown + (f'<br><small class="title">{escaped(title)}</small>' if title else ""))


def _explanation(each: Explanation, example: Example) -> str:
    from dupmae_toolkit.search.explanation import FUSED, shown_origin, shown_rank

    score = "no score" if each.score is None else f"{each.score:.4f}"
    title = f" “{escaped(each.title.text)}”" if each.title.text else ""
    lines = [
        "<details>",
        f"<summary>Why <bdi>{escaped(each.id)}</bdi>{title} has {score}, rank "
        f"{escaped(shown_rank(each.ranks[FUSED]))}</summary>",
    ]
    if each.snippet.text:
        lines.append(f"<blockquote>{_highlighted(each)}</blockquote>")
    parts: list[list[Any]] = [
        [part, own.weight, own.score, own.contribution, shown_rank(each.ranks[part])]
        for part, own in each.lists.items()
    ]
    lines.append(table("Parts", ["part", "weight", "score", "contributes", "rank"], parts))
    terms: list[list[Any]] = [
        [term.term, term.kind, term.query_weight, term.impact, term.share,
         shown_origin(term).removeprefix(", ")]
        for term in each.terms[:_TERMS]
    ]  # fmt: skip
    left = each.terms[_TERMS:]
    if left:
        terms.append([f"{len(left):,} more", "", None, None, sum(t.share for t in left), ""])
    if terms:
        names = ["term", "kind", "in the query", "impact", "share", "where"]
        lines.append(table("Terms", names, terms, texts=2))
    return "\n".join([*lines, "</details>"])


def _highlighted(each: Explanation) -> str:
    snippet, place, pieces = each.snippet, 0, []
    for start, end in snippet.highlights:
        pieces += [_line(snippet.text[place:start])]
        pieces += [f"<mark>{_line(snippet.text[start:end])}</mark>"]
        place = end
    whole = "".join([*pieces, _line(snippet.text[place:])])
    return f"{'… ' if snippet.before else ''}{whole}{' …' if snippet.after else ''}"


def _line(text: str) -> str:
    """A piece of a text, escaped, with blanks for its line ends and tabs."""
    return escaped(re.sub(r"[\t\n\v\f\r]", " ", text))
