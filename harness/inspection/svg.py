"""Just enough SVG: shapes, lines with arrows, and text, in a file that stands alone on a light background."""

from __future__ import annotations

from html import escape

FONT = "Helvetica, Arial, 'Liberation Sans', 'DejaVu Sans', sans-serif"
MARGIN = 16
INK, FAINT, PAPER = "#24292f", "#6b7280", "#ffffff"


def text_width(words: str, size: float) -> float:
    """Pixels that ``words`` take at most, about."""
    return 0.6 * size * len(words)


class Canvas:
    """Collects elements and remembers how far they reach, so that nothing is cut off."""

    def __init__(self):
        self.elements: list[str] = []
        self.colours: set[str] = set()             # of arrow heads
        self.left = self.top = self.right = self.bottom = 0.0

    def reach(self, *points: tuple[float, float]) -> None:
        for x, y in points:
            self.left, self.right = min(self.left, x), max(self.right, x)
            self.top, self.bottom = min(self.top, y), max(self.bottom, y)

    def box(self, x: float, y: float, width: float, height: float, fill: str, stroke: str = INK, tip: str = "",
            round_by: float = 2.5) -> None:
        self.reach((x, y), (x + width, y + height))
        title = f"<title>{escape(tip)}</title>" if tip else ""
        self.elements.append(f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" rx="{round_by}" '
                             f'fill="{fill}" stroke="{stroke}">{title}</rect>')

    def line(self, points: list[tuple[float, float]], colour: str = INK, *, width: float = 1.2, dashed: bool = False,
             arrow: bool = True, curved: bool = False) -> None:
        """Through ``points`` in straight pieces; or, ``curved``, one cubic curve over exactly four of them."""
        self.reach(*points)
        first, *rest = (f"{x:.1f},{y:.1f}" for x, y in points)
        path = f"M{first} {'C' if curved else 'L'}{' '.join(rest)}"
        if arrow:
            self.colours.add(colour)
        self.elements.append(
            f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="{width}"'
            + (' stroke-dasharray="4 3"' if dashed else "") + (f' marker-end="url(#to{colour[1:]})"' if arrow else "")
            + "/>")

    def text(self, x: float, y: float, words: str, size: float = 11, *, anchor: str = "middle", colour: str = INK,
             bold: bool = False, backed: bool = False) -> None:
        """``words`` with their baseline at ``y``; ``backed`` puts paper behind them where they lie on a line."""
        if not words:
            return
        width = text_width(words, size)
        start = x - {"start": 0.0, "middle": width / 2, "end": width}[anchor]
        self.reach((start, y - size), (start + width, y + 0.3 * size))
        placed = f'x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}"' + (
            ' font-weight="bold"' if bold else "")
        if backed:                                 # an element of its own: not every renderer knows paint-order
            self.elements.append(f'<text {placed} fill="{PAPER}" stroke="{PAPER}" stroke-width="4" '
                                 f'stroke-linejoin="round" aria-hidden="true">{escape(words)}</text>')
        self.elements.append(f'<text {placed} fill="{colour}">{escape(words)}</text>')

    def svg(self, title: str) -> str:
        left, top = self.left - MARGIN, self.top - MARGIN
        width, height = self.right - self.left + 2 * MARGIN, self.bottom - self.top + 2 * MARGIN
        heads = "".join(
            f'<marker id="to{colour[1:]}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="6" markerHeight="6" '
            f'orient="auto"><path d="M0,0.5 L8,4 L0,7.5 z" fill="{colour}"/></marker>'
            for colour in sorted(self.colours))
        body = "\n".join(self.elements)
        return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" '
                f'viewBox="{left:.1f} {top:.1f} {width:.1f} {height:.1f}" font-family="{FONT}" role="img">\n'
                f"<title>{escape(title)}</title>\n<defs>{heads}</defs>\n"
                f'<rect x="{left:.1f}" y="{top:.1f}" width="{width:.1f}" height="{height:.1f}" fill="{PAPER}"/>\n'
                f"{body}\n</svg>\n")
