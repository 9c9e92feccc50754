"""The page: one HTML file with its style and drawings, without scripts or outside addresses."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from dupmae_toolkit.errors import counted
from dupmae_toolkit.evaluation.report import plots
from dupmae_toolkit.evaluation.report.comparing import drawings
from dupmae_toolkit.evaluation.report.examples import Example
from dupmae_toolkit.evaluation.report.folder import Section
from dupmae_toolkit.evaluation.report.hits import example_html
from dupmae_toolkit.evaluation.report.svg import STYLE, escaped
from dupmae_toolkit.evaluation.report.tables import cards_html, means, significance_rows, table
from dupmae_toolkit.evaluation.report.wins import HYBRID, Wins, wins_of

_STYLE = Path(__file__).with_name("page.css").read_text("utf-8")
_GENERATOR = '<meta name="generator" content="dupmae report">'
#: How many of the topics that a part wins are named.
_NAMED = 8


def page(
    sections: Sequence[tuple[Section, Sequence[Example]]], title: str, lead: Sequence[str] = ()
) -> str:
    """The whole page. The same sections give the same bytes.

    lead: pieces of HTML that stand before the sections, in place of the table of their means.
    """
    body = [f"<h1>{escaped(title)}</h1>", *lead]
    if len(sections) > 1 and not lead:
        body += [_overview([section for section, _ in sections])]
    for number, (section, examples) in enumerate(sections):
        body += _section(section, examples, f"d{number}", len(sections) > 1)
    return "\n".join(
        [
            "<!DOCTYPE html>",
            '<html lang="en">',
            "<head>",
            '<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta name="color-scheme" content="light dark">',
            # So nothing is fetched and no script runs, whatever a file puts into the page.
            '<meta http-equiv="Content-Security-Policy" '
            "content=\"default-src 'none'; style-src 'unsafe-inline'\">",
            _GENERATOR,
            f"<title>{escaped(title)}</title>",
            f"<style>\n{STYLE}{_STYLE}</style>",
            "</head>",
            "<body>",
            "<main>",
            *body,
            "</main>",
            "</body>",
            "</html>",
            "",
        ]
    )


def is_page(path: Path) -> bool:
    """Whether a file is a page that ``page`` made."""
    with path.open("rb") as file:
        return _GENERATOR.encode() in file.read(1000)


def _overview(sections: Sequence[Section]) -> str:
    """The main measure of every set of topics, and the mean of the means."""
    labels = list(dict.fromkeys(name for each in sections for name in each.measured.scores))
    measure = sections[0].measured.main
    rows: list[list[Any]] = []
    for each in sections:
        found = each.measured.scores
        rows.append([each.name, *(found[n].means[measure] if n in found else None for n in labels)])
    columns = [[row[place] for row in rows] for place in range(1, len(labels) + 1)]
    averages = [sum(column) / len(column) if None not in column else None for column in columns]
    rows.append(["mean", *averages])
    return table(f"{measure} of each set of topics", ["", *labels], rows)


def _section(
    section: Section, examples: Sequence[Example], name: str, several: bool
) -> Iterable[str]:
    measured = section.measured
    first = next(iter(measured.scores.values()))
    if several:
        yield f'<section><h2 id="{name}">{escaped(section.name)}</h2>'
    else:
        yield "<section>"
    yield f"<p>{escaped(_facts(section, first.judged))}</p>"
    yield means(measured)
    drawn = {each.name: each for each in drawings(measured, name)}
    yield _figure(drawn.pop(f"{name}-means"))
    if measured.rows:
        yield f"<h3>Compared with {escaped(measured.baseline)}</h3>"
        yield significance_rows(measured)
        yield _figure(drawn.pop(f"{name}-differences"))
    curves = drawn.pop(f"{name}-curves")
    yield from map(_figure, drawn.values())
    yield "<h3>Precision by recall</h3>"
    yield _figure(curves, heading=False)
    wins = wins_of(measured.scores, measured.main)
    if wins is not None:
        yield from _wins(wins, section, name)
    if examples:
        yield "<h3>Examples of topics</h3>"
        yield f"<p>{escaped(_chosen(examples, section))}</p>"
        for example in examples:
            yield example_html(example, list(measured.scores), measured.main)
    if section.cards:
        yield "<h3>How it was made</h3>"
        yield cards_html(section.cards)
    if section.notes:
        yield "<h3>Notes</h3><ul>"
        yield from (f"<li>{escaped(note)}</li>" for note in section.notes)
        yield "</ul>"
    yield "</section>"


def _facts(section: Section, judged: int) -> str:
    about = section.about
    facts = [f"{section.name}: {counted(judged, 'judged topic')}"]
    if isinstance(about.get("documents"), int):
        facts.append(counted(about["documents"], "document"))
    if isinstance(about.get("split"), str):
        facts.append(f"split {about['split']}")
    if isinstance(about.get("encoder"), str):
        facts.append(f"encoder {about['encoder']}")
    return ", ".join(facts) + "."


def _figure(drawing: Any, heading: bool = True) -> str:
    title = f"<figcaption>{escaped(drawing.title)}</figcaption>" if heading else ""
    # A box that scrolls can be reached by the keyboard only if it takes the focus.
    return f'<figure>{title}<div class="box" tabindex="0">{drawing.svg()}</div></figure>'


def _wins(wins: Wins, section: Section, name: str) -> Iterable[str]:
    measure = section.measured.main
    yield "<h3>Topics that each part wins</h3>"
    rows = {f"{part} alone": len(topics) for part, topics in wins.topics.items()}
    rows |= {"two or more tie": len(wins.tied), "all have 0": len(wins.none)}
    title = f"The part with the highest {measure}"
    yield _figure(plots.counts(f"{name}-wins", title, "topics", rows))
    if HYBRID in section.measured.scores:
        total = len(wins.values)
        alike = total - len(wins.better) - len(wins.worse)
        yield (
            f"<p>Of {counted(total, 'topic')}, the hybrid is better than the best part in "
            f"{len(wins.better):,}, as good in {alike:,}, and worse in {len(wins.worse):,}.</p>"
        )
    columns = list(next(iter(wins.values.values())))
    lines = [
        [part, topic, section.texts.get(topic, ""), *(wins.values[topic][c] for c in columns)]
        for part, topics in wins.topics.items()
        for topic in topics[:_NAMED]
    ]
    caption = f"Up to {_NAMED} topics for each part: those that it wins by most ({measure})"
    yield table(caption, ["won by", "topic", "text", *columns], lines, texts=3)


def _chosen(examples: Sequence[Example], section: Section) -> str:
    subject, baseline = examples[0].subject, section.measured.baseline
    if subject == baseline:
        return f"The topics that {subject} ranks best and worst."
    return f"The largest gains and losses of {subject} against {baseline}."
