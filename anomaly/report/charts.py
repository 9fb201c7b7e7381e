"""Charts as SVG without a library. Their colours are defined by the page (``report.css``)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

WIDTH, HEIGHT = 360, 262
LEFT, RIGHT, TOP, BOTTOM = 58, 18, 8, 38
STYLES = 7  # number of line styles in the style sheet


@dataclass(frozen=True)
class Series:
    """One line of a chart.

    Args:
        label: Name of the line.
        style: Number of its colour and dash pattern.
        x: Horizontal positions of its points.
        y: Vertical positions of its points; points that are not finite are left out.
        low: Lower end of a band around the line, at ``band_x``.
        high: Upper end of the band, at ``band_x``.
        band_x: Horizontal positions of the band; empty for no band.
    """

    label: str
    style: int
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] = ()
    high: Sequence[float] = ()
    band_x: Sequence[float] = ()


@dataclass(frozen=True)
class Axis:
    """One axis of a chart.

    Args:
        title: Title of the axis.
        low: Start value.
        high: End value.
        ticks: Values with a tick label.
        log: Whether the axis is logarithmic.
        text: Formats the value of a tick.
    """

    title: str
    low: float = 0.0
    high: float = 1.0
    ticks: Sequence[float] = (0, 0.2, 0.4, 0.6, 0.8, 1)
    log: bool = False
    text: Callable[[float], str] = "{:g}".format

    def place(self, value: float) -> float:
        """Position of a value on the axis, from 0 to 1."""
        low, high, value = (
            (math.log10(each) for each in (self.low, self.high, max(value, self.low)))
            if self.log
            else (self.low, self.high, value)
        )
        return min(1.0, max(0.0, (value - low) / ((high - low) or 1.0)))


def even_ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Round numbers from ``low`` to ``high`` at even distances, about ``most`` of them."""
    step = 10.0 ** math.floor(math.log10((high - low) / most))
    step = next(step * by for by in (1, 2, 5, 10) if (high - low) / (step * by) <= most)
    first = math.ceil(low / step - 1e-9)
    return [round(i * step, 12) + 0.0 for i in range(first, math.floor(high / step + 1e-9) + 1)]


def line_chart(title: str, across: Axis, up: Axis, series: Sequence[Series], *, diagonal: bool = False) -> Markup:
    """A chart with lines and bands.

    Args:
        title: Text alternative for the chart.
        across: Horizontal axis.
        up: Vertical axis.
        series: The lines; the first is on top.
        diagonal: Whether to draw the diagonal.
    """
    parts = [_axes(across, up)]
    if diagonal:
        parts.append(_path("diagonal", [_xy(across, up, across.low, up.low), _xy(across, up, across.high, up.high)]))
    for one in reversed(series):
        pairs = [
            (x, low, high) for x, low, high in zip(one.band_x, one.low, one.high, strict=True) if _finite(low, high)
        ]
        if pairs:
            there = [_xy(across, up, x, high) for x, _, high in pairs]
            back = [_xy(across, up, x, low) for x, low, _ in reversed(pairs)]
            parts.append(_path(f"band s{one.style % STYLES}", there + back, close=True))
    for one in reversed(series):
        points = [_xy(across, up, x, y) for x, y in zip(one.x, one.y, strict=True) if _finite(x, y)]
        parts.append(_path(f"line s{one.style % STYLES}", points, tip=one.label))
    return _svg(title, parts)


def histogram(
    title: str, across: Axis, edges: Sequence[float], known: Sequence[float], anomaly: Sequence[float]
) -> Markup:
    """Two histograms over the same bins, one filled and one outlined, each with shares of its own pixels.

    Args:
        title: Text alternative for the chart.
        across: Horizontal axis.
        edges: Edges of the bins.
        known: Share of the known pixels in each bin.
        anomaly: Share of the anomalous pixels in each bin.
    """
    top = max([*known, *anomaly]) or 1.0
    up = Axis("share of pixels", 0, top, even_ticks(0, top, 4), text=lambda value: f"{100 * value:g} %")
    parts = [_axes(across, up)]
    for kind, shares in (("known", known), ("anomaly", anomaly)):
        steps = [(edge, share) for i, share in enumerate(shares) for edge in edges[i : i + 2]]
        outline = [(edges[0], 0.0), *steps, (edges[-1], 0.0)]
        parts.append(_path(f"hist {kind}", [_xy(across, up, x, y) for x, y in outline], close=True, tip=kind))
    return _svg(title, parts)


@dataclass(frozen=True)
class Dot:
    """A point of a line that links to an image.

    Args:
        place: Index of the point.
        name: Name of the image.
        href: The link.
    """

    place: int
    name: str
    href: str


def ranked_chart(title: str, up: Axis, lines: Sequence[tuple[Series, Sequence[Dot]]], count: int) -> Markup:
    """A chart of sorted values, with points that link to images.

    Args:
        title: Text alternative for the chart.
        up: Vertical axis.
        lines: Each line with its points.
        count: Largest number of points of a line.
    """
    across = Axis("images, worst to best", 0, max(1, count - 1), (), text="{:.0f}".format)
    parts = [_axes(across, up)]
    for one, _ in reversed(lines):
        points = [_xy(across, up, x, y) for x, y in zip(one.x, one.y, strict=True)]
        parts.append(_path(f"line s{one.style % STYLES}", points))
    for one, dots in reversed(lines):
        for dot in dots:
            x, y = _xy(across, up, one.x[dot.place], one.y[dot.place])
            text = f"{dot.name}: {100 * one.y[dot.place]:.1f} ({one.label})"
            parts.append(
                Markup('<a href="{}" tabindex="-1" aria-label="{}">').format(dot.href, text)
                + Markup('<circle class="dot s{}" cx="{}" cy="{}" r="3"/>').format(one.style % STYLES, x, y)
                + Markup("<title>{}</title></a>").format(text)
            )
    return _svg(title, parts, role="group")


def bar(value: float, low: float = math.nan, high: float = math.nan, *, style: str = "") -> Markup:
    """A small bar of a fraction, with a whisker for its confidence interval, beside the number in a table."""
    if not math.isfinite(value):
        return Markup("")
    width = 72
    parts = [
        Markup('<rect class="rail" width="{}" height="8" y="1" rx="1"/>').format(width),
        Markup('<rect class="fill {}" width="{:.1f}" height="8" y="1" rx="1"/>').format(
            style, width * min(1, max(0, value))
        ),
    ]
    if _finite(low, high):
        ends = (width * low, width * high)
        parts.append(Markup('<path class="whisker" d="M{:.1f} 5H{:.1f}M{:.1f} 2V8M{:.1f} 2V8"/>').format(*ends, *ends))
    return Markup('<svg class="bar" viewBox="0 0 {} 10" aria-hidden="true">').format(width) + _all(parts) + _END


_END = Markup("</svg>")


def _svg(title: str, parts: Iterable[Markup], role: str = "img") -> Markup:
    head = Markup('<svg class="chart" viewBox="0 0 {} {}" role="{}" aria-label="{}">')
    return head.format(WIDTH, HEIGHT, role, title) + _all(parts) + _END


def _all(parts: Iterable[Markup]) -> Markup:
    return Markup("").join(parts)


def _axes(across: Axis, up: Axis) -> Markup:
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
    parts = [Markup('<path class="frame" d="M{0} {1}V{2}H{3}"/>').format(LEFT, TOP, bottom, right)]
    for value in up.ticks:
        y = bottom - up.place(value) * (bottom - TOP)
        parts.append(Markup('<path class="grid" d="M{} {:.1f}H{}"/>').format(LEFT, y, right))
        parts.append(Markup('<text x="{}" y="{:.1f}" class="up">{}</text>').format(LEFT - 5, y + 4, up.text(value)))
    for value in across.ticks:
        x = LEFT + across.place(value) * (right - LEFT)
        parts.append(Markup('<path class="grid" d="M{0:.1f} {1}V{2}"/>').format(x, TOP, bottom))
        parts.append(Markup('<text x="{:.1f}" y="{}" class="mid">{}</text>').format(x, bottom + 15, across.text(value)))
    middle = (TOP + bottom) / 2
    parts.append(
        Markup('<text x="{}" y="{}" class="mid title">{}</text>').format((LEFT + right) / 2, HEIGHT - 6, across.title)
    )
    turned = Markup('<text transform="translate(11 {}) rotate(-90)" class="mid title">{}</text>')
    return _all([*parts, turned.format(middle, up.title)])


def _xy(across: Axis, up: Axis, x: float, y: float) -> tuple[float, float]:
    bottom = HEIGHT - BOTTOM
    return (
        round(LEFT + across.place(x) * (WIDTH - RIGHT - LEFT), 2),
        round(bottom - up.place(y) * (bottom - TOP), 2),
    )


def _path(style: str, points: Sequence[tuple[float, float]], *, close: bool = False, tip: str = "") -> Markup:
    if not points:
        return Markup("")
    drawn = "M" + "L".join(f"{x:g} {y:g}" for x, y in points) + ("Z" if close else "")
    return Markup('<path class="{}" d="{}"><title>{}</title></path>').format(style, drawn, tip)


def _finite(*values: float) -> bool:
    return all(math.isfinite(value) for value in values)
