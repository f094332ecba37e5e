"""The report as one HTML file: tables and plots in SVG, without scripts or links.

Names of models and judges are escaped, because they come from files.
"""

from collections.abc import Sequence
from html import escape

from zephyr_fast.feedback.report.estimates import Estimate
from zephyr_fast.feedback.report.report import Judge, Report, sections

_STYLE = """
:root{color-scheme:light dark;--text:#222;--soft:#555;--rule:#ddd;--ink:#0072b2;--zero:#d55e00}
@media(prefers-color-scheme:dark){
:root{--text:#e6e6e6;--soft:#b0b0b0;--rule:#444;--ink:#56b4e9;--zero:#e69f00}
body{background:#181a1b}}
body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;
color:var(--text)}
h1{font-size:1.5rem}h2{font-size:1.1rem;margin:2rem 0 .5rem}
table{border-collapse:collapse;width:100%}
td{padding:.2rem .8rem .2rem 0;border-bottom:1px solid var(--rule);vertical-align:top}
td:first-child{width:17rem;color:var(--soft)}
figure{margin:1rem 0;overflow-x:auto}figcaption{color:var(--soft);font-size:.9rem}
svg{margin:.5rem 0}svg text{fill:var(--text)}svg .end{fill:var(--soft)}
@media(max-width:40rem){td:first-child{width:9rem}}
"""
_WIDTH, _RIGHT, _ROW = 620, 30, 26
_CHARACTERS, _CHARACTER = 28, 7.5
"""Longest label of a bar, and the width of one of its characters."""

_INK, _LINE, _ZERO = "var(--ink)", "var(--soft)", "var(--zero)"

Bar = tuple[str, float, float, float]
"""Label, value, and the ends of its interval."""


def page(found: Report, title: str) -> str:
    """Return the page."""
    parts = [f"<h1>{escape(title)}</h1>"]
    plots = _plots(found)
    for heading, lines in sections(found):
        rows = "".join(
            f"<tr><td>{escape(label)}</td><td>{escape(value)}</td></tr>" for label, value in lines
        )
        parts.append(f"<h2>{escape(heading)}</h2><table>{rows}</table>")
        parts += plots.pop(heading, [])
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>"
        f"<body>{''.join(parts)}</body></html>\n"
    )


def _plots(found: Report) -> dict[str, list[str]]:
    """Plots by the heading that they follow."""
    plots: dict[str, list[str]] = {}
    for judge in found.judges:
        if judge.position is not None:
            bars = [
                (f"position {place}", one.value, one.low, one.high)
                for place, one in enumerate(judge.position.deviations, start=1)
            ]
            caption = "Rating by position in the list, relative to the mean of the list"
            plots[f"judge {judge.name}"] = [_figure(caption, bars, 0.0)]
    if found.ranking:
        strengths = [
            (one.model, one.strength, one.low, one.high)
            for one in found.ranking
            if one.low is not None and one.high is not None
        ]
        caption = "Strength of the models with 95 % intervals"
        if strengths:
            plots["models, by Bradley-Terry strength"] = [_figure(caption, strengths, 0.0)]
    shares = _bars(found.judges)
    if shares:
        caption = "Share of decided pairs in which the longer answer wins"
        plots["rows"] = [_figure(caption, shares, 0.5)]
    return plots


def _bars(judges: Sequence[Judge]) -> list[Bar]:
    known: list[tuple[str, Estimate | None]] = [
        (judge.name, judge.length.longer_wins) for judge in judges
    ]
    return [(name, one.value, one.low, one.high) for name, one in known if one is not None]


def _figure(caption: str, bars: Sequence[Bar], neutral: float) -> str:
    """Dots with intervals, and a line at the neutral value."""
    low = min([neutral, *(bar[2] for bar in bars)])
    high = max([neutral, *(bar[3] for bar in bars)])
    space = (high - low or 1.0) * 0.08
    low, high = low - space, high + space
    height = _ROW * len(bars) + 34
    names = [one if len(one) <= _CHARACTERS else one[: _CHARACTERS - 1] + "…" for one, *_ in bars]
    left = 30 + _CHARACTER * max(map(len, names))

    def x(value: float) -> float:
        return left + (value - low) / (high - low) * (_WIDTH - left - _RIGHT)

    bottom = height - 24
    parts = [
        f'<line x1="{x(neutral):.1f}" y1="0" x2="{x(neutral):.1f}" y2="{bottom}" '
        f'stroke="{_ZERO}" stroke-dasharray="4 3"/>'
    ]
    for row, (name, (_, value, start, end)) in enumerate(zip(names, bars, strict=True)):
        y = _ROW * row + _ROW / 2
        parts.append(
            f'<text x="{left - 12:g}" y="{y + 4:.1f}" text-anchor="end">{escape(name)}</text>'
            f'<line x1="{x(start):.1f}" y1="{y}" x2="{x(end):.1f}" y2="{y}" stroke="{_INK}" '
            f'stroke-width="2"/><circle cx="{x(value):.1f}" cy="{y}" r="4" fill="{_INK}"/>'
        )
    parts.append(
        f'<line x1="{left:g}" y1="{bottom}" x2="{_WIDTH - _RIGHT}" y2="{bottom}" stroke="{_LINE}"/>'
    )
    ends = [one for one in (low + space, high - space) if abs(x(one) - x(neutral)) > 48]
    for value in (neutral, *ends):
        parts.append(
            f'<text x="{x(value):.1f}" y="{height - 6}" text-anchor="middle" class="end">'
            f"{value:.2f}</text>"
        )
    drawing = (
        f'<svg viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}" role="img" '
        f'font-family="sans-serif" font-size="13"><title>{escape(caption)}</title>'
        f"{''.join(parts)}</svg>"
    )
    return f"<figure>{drawing}<figcaption>{escape(caption)}</figcaption></figure>"
