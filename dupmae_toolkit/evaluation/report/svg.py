"""SVG drawings with colours for light and dark; well formed, whatever text is put into them."""

from __future__ import annotations

import html
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path

#: Width of every drawing, in its own units.
WIDTH = 640
#: Average width of a character, in units, at the size of labels.
CHARACTER = 7.0
#: How many colours there are; further lines repeat the colours, dashed differently.
COLOURS = 6
_DASHES = ("", "7 4", "2 3")
_JOINERS = "\u200c\u200d"

#: The style sheet of drawings: colours by name, for light and dark, and marks.
STYLE = Path(__file__).with_name("plots.css").read_text("utf-8")


def shown(text: object) -> str:
    """A text whose invisible characters, control and format characters, are shown as escapes.

    So an id cannot be invisible, or change the direction of what follows. Joiners stay, because
    some scripts need them.
    """
    written = str(text)
    if written.isprintable():
        return written
    return "".join(
        c
        if c in _JOINERS or not unicodedata.category(c).startswith(("C", "Zl", "Zp"))
        else c.encode("unicode_escape").decode()
        for c in written
    )


def escaped(text: object) -> str:
    """A text, escaped for the content and the quoted attributes of HTML and XML."""
    return html.escape(shown(text), quote=True)


def shortened(text: str, most: int) -> str:
    """A text of at most ``most`` characters; a longer one is cut to its beginning and its end."""
    if len(text) <= most:
        return text
    tail = (most - 1) // 3
    return f"{text[: most - 1 - tail]}…{text[len(text) - tail :]}"


class Drawing:
    """Shapes, from which ``svg`` makes one element. y grows downwards; numbers are in its units."""

    def __init__(self, name: str, title: str, description: str, height: float) -> None:
        """name: unique on a page. title, description: for screen readers."""
        self.name = name
        self.title = title
        self.description = description
        self.height = height
        self._parts: list[str] = []

    def line(self, x1: float, y1: float, x2: float, y2: float, style: str = "rule") -> None:
        self._parts.append(
            f'<line class="{style}" x1="{x1:.2f}" y1="{y1:.2f}" x2="{x2:.2f}" y2="{y2:.2f}"/>'
        )

    def rectangle(self, x: float, y: float, width: float, height: float, colour: int) -> None:
        size = f'width="{max(width, 0):.2f}" height="{max(height, 0):.2f}"'
        self._parts.append(f'<rect class="f{colour % COLOURS}" x="{x:.2f}" y="{y:.2f}" {size}/>')

    def area(self, points: Iterable[tuple[float, float]], colour: int) -> None:
        """A filled polygon."""
        self._parts.append(f'<path class="f{colour % COLOURS}" d="{_path(points)}Z"/>')

    def polyline(self, points: Iterable[tuple[float, float]], series: int) -> None:
        dash = _DASHES[series // COLOURS % len(_DASHES)]
        dashed = f' stroke-dasharray="{dash}"' if dash else ""
        self._parts.append(f'<path class="l{series % COLOURS}"{dashed} d="{_path(points)}"/>')

    def marker(self, x: float, y: float, series: int) -> None:
        """A mark; each series has its own shape and colour."""
        shape, colour = series % 4, f'class="f{series % COLOURS}"'
        if shape == 0:
            self._parts.append(f'<circle {colour} cx="{x:.2f}" cy="{y:.2f}" r="4.5"/>')
            return
        corners = {
            1: ((-4, -4), (4, -4), (4, 4), (-4, 4)),
            2: ((0, -5.5), (5, 4), (-5, 4)),
            3: ((0, -6), (5, 0), (0, 6), (-5, 0)),
        }[shape]
        points = ((x + right, y + down) for right, down in corners)
        self._parts.append(f'<path {colour} d="{_path(points)}Z"/>')

    def text(
        self, x: float, y: float, text: str, anchor: str = "start", style: str = "", most: int = 0
    ) -> None:
        """most: if above 0, how many characters to show; the title has all of a longer text."""
        whole = shown(text)
        cut = shortened(whole, most) if most else whole
        title = f"<title>{escaped(whole)}</title>" if cut != whole else ""
        kind = f' class="{style}"' if style else ""
        self._parts.append(
            f'<text x="{x:.2f}" y="{y:.2f}" text-anchor="{anchor}"{kind}>{title}{escaped(cut)}'
            "</text>"
        )

    def svg(self, place: str = "") -> str:
        """The element. place: further attributes, such as ``y="10"``."""
        name = escaped(self.name)
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {self.height:.0f}" '
            f'role="img" aria-labelledby="{name}-t {name}-d" {place}>'
            f'<title id="{name}-t">{escaped(self.title)}</title>'
            f'<desc id="{name}-d">{escaped(self.description)}</desc>'
            f"{''.join(self._parts)}</svg>"
        )


def _path(points: Iterable[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{x:.2f} {y:.2f}" for x, y in points)


def stacked(drawings: Sequence[Drawing], title: str) -> str:
    """One SVG file with the drawings below one another, each under its title."""
    head, gap = 26, 18
    height = sum(each.height + head + gap for each in drawings)
    lines = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" '
        f'width="{WIDTH}" height="{height:.0f}">',
        f"<title>{escaped(title)}</title>",
        f"<style>{STYLE}</style>",
        f'<rect class="ground" width="{WIDTH}" height="{height:.0f}"/>',
    ]
    top = 0.0
    for each in drawings:
        heading = escaped(shortened(shown(each.title), 84))
        lines.append(f'<text class="head" x="12" y="{top + 20:.0f}">{heading}</text>')
        size = f'y="{top + head:.0f}" width="{WIDTH}" height="{each.height:.0f}"'
        lines.append(each.svg(size))
        top += each.height + head + gap
    return "\n".join([*lines, "</svg>", ""])


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """``about`` round numbers from ``low`` to ``high``, in steps of 1, 2 or 5 × 10^n."""
    from math import ceil, floor, log10

    if not high > low:
        return [low]
    rough = (high - low) / about
    power = 10.0 ** floor(log10(rough))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough * (1 - 1e-9))
    first, last = ceil(low / step - 1e-9), floor(high / step + 1e-9)
    return [round(n * step, 12) for n in range(first, last + 1)]
