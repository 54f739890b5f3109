"""Charts of a report as inline SVG, drawn from numbers; colours are the page's variables --c0, --c1, ..."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 420, 300
LEFT, RIGHT, TOP, BOTTOM = 48, 20, 14, 40
COLORS = 10


@dataclass(frozen=True)
class Mark:
    """A point of a chart."""

    number: int
    """Shown inside it; the legend is the summary table, numbered alike."""
    x: float
    y: float
    label: str
    low: float = math.nan
    high: float = math.nan
    """95 % interval of y."""


def color(number: int) -> str:
    return f"var(--c{(number - 1) % COLORS})"


def dot(number: int) -> str:
    """A way's number in its colour, for text and tables."""
    return f'<span class="dot" style="background: {color(number)}">{number}</span>'


def front(marks: Sequence[Mark], higher: bool) -> list[Mark]:
    """The marks that no other one beats at the same or less x (Pareto front), by rising x."""
    best: list[Mark] = []
    for mark in sorted(marks, key=lambda m: (m.x, -m.y if higher else m.y)):
        if not best or (mark.y > best[-1].y if higher else mark.y < best[-1].y):
            best.append(mark)
    return best


def scatter(marks: Sequence[Mark], across: str, up: str, higher: bool) -> str:
    """Quality against cost: x on a logarithmic scale, zero at the left edge; the Pareto front is dashed."""
    marks = [m for m in marks if math.isfinite(m.x) and math.isfinite(m.y)]
    if not marks:
        return _empty()
    costs = [m.x for m in marks if m.x > 0]
    low, high = (math.floor(math.log10(min(costs))), math.ceil(math.log10(max(costs)))) if costs else (0, 1)
    high = max(high, low + 1)
    zero = any(m.x <= 0 for m in marks)
    first = low - 0.35 if zero else low
    to_x = _scale(first, high, LEFT + 10, WIDTH - RIGHT)
    x = {m.number: to_x(math.log10(m.x)) if m.x > 0 else to_x(first) for m in marks}
    span = [v for m in marks for v in (m.y, m.low, m.high) if math.isfinite(v)]
    to_y, ticks = _upwards(span)
    parts = [_axes(across, up), *_rows(ticks, to_y)]
    parts += [_text(to_x(k), HEIGHT - BOTTOM + 14, f"{10.0**k:g}", "middle") for k in range(low, high + 1)]
    parts += [_text(to_x(first), HEIGHT - BOTTOM + 14, "0", "middle")] if zero else []
    path = " ".join(f"{x[m.number]:.1f},{to_y(m.y):.1f}" for m in front(marks, higher))
    parts.append(f'<polyline class="front" points="{path}"/>')
    for m in marks:
        if math.isfinite(m.low):
            parts.append(_line(x[m.number], to_y(m.low), x[m.number], to_y(m.high), f'stroke="{color(m.number)}" class="bar"'))
    parts += [_dot(x[m.number], to_y(m.y), m) for m in marks]
    return _svg(parts, f"{up} against {across}")


def lines(groups: Sequence[Sequence[Mark]], across: str, up: str) -> str:
    """One line per group; x is a share, shown in percent."""
    groups = [[m for m in group if math.isfinite(m.y)] for group in groups]
    every = [m for group in groups for m in group]
    if not every:
        return _empty()
    to_x = _scale(0, max(0.1, max(m.x for m in every)), LEFT + 10, WIDTH - RIGHT - 8)
    to_y, ticks = _upwards([m.y for m in every])
    shares = _ticks(0, max(0.1, max(m.x for m in every)))
    parts = [_axes(across, up), *_rows(ticks, to_y)]
    parts += [_text(to_x(share), HEIGHT - BOTTOM + 14, f"{share:.0%}", "middle") for share in shares]
    for group in groups:
        path = " ".join(f"{to_x(m.x):.1f},{to_y(m.y):.1f}" for m in group)
        parts += [f'<polyline fill="none" stroke="{color(group[0].number)}" stroke-width="1.5" points="{path}"/>'] if len(group) > 1 else []
        parts += [_dot(to_x(m.x), to_y(m.y), m) for m in group]
    return _svg(parts, f"{up} against {across}")


def _scale(low: float, high: float, start: float, end: float):  # type: ignore[no-untyped-def]
    span = (high - low) or 1.0
    return lambda value: start + (value - low) / span * (end - start)


def _upwards(values: Sequence[float]):  # type: ignore[no-untyped-def]
    """(value -> y, ticks) with room around the values."""
    low, high = min(values), max(values)
    room = (high - low) * 0.08 or abs(high) * 0.05 or 1.0
    return _scale(low - room, high + room, HEIGHT - BOTTOM, TOP), _ticks(low - room, high + room)


def _ticks(low: float, high: float) -> list[float]:
    """Four or so round numbers."""
    raw = (high - low) / 4
    unit = 10 ** math.floor(math.log10(raw))
    step = next(unit * k for k in (1, 2, 2.5, 5, 10) if unit * k >= raw)
    return [round(i * step, 10) for i in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _axes(across: str, up: str) -> str:
    bottom = HEIGHT - BOTTOM
    frame = _line(LEFT, bottom, WIDTH - RIGHT, bottom, 'class="axis"') + _line(LEFT, TOP, LEFT, bottom, 'class="axis"')
    middle = (TOP + bottom) / 2
    turned = f'<text x="12" y="{middle}" text-anchor="middle" transform="rotate(-90 12 {middle})">{escape(up)}</text>'
    return frame + _text((LEFT + WIDTH) / 2, HEIGHT - 6, across, "middle") + turned


def _rows(ticks: Sequence[float], to_y) -> list[str]:  # type: ignore[no-untyped-def]
    grid = [_line(LEFT, to_y(t), WIDTH - RIGHT, to_y(t), 'class="grid"') for t in ticks]
    return grid + [_text(LEFT - 5, to_y(t) + 4, f"{t:g}", "end") for t in ticks]


def _dot(x: float, y: float, mark: Mark) -> str:
    number = f'<text x="{x:.1f}" y="{y + 3.5:.1f}" text-anchor="middle" class="in">{mark.number}</text>'
    return f'<g><title>{escape(mark.label)}</title><circle cx="{x:.1f}" cy="{y:.1f}" r="8" fill="{color(mark.number)}"/>{number}</g>'


def _line(x: float, y: float, to_x: float, to_y: float, more: str) -> str:
    return f'<line x1="{x:.1f}" y1="{y:.1f}" x2="{to_x:.1f}" y2="{to_y:.1f}" {more}/>'


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _svg(parts: Sequence[str], title: str) -> str:
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">{"".join(parts)}</svg>'


def _empty() -> str:
    return "<p>No figure: the metric is not defined here.</p>"
