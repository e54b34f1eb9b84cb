"""One page of an evaluation: tables, plots and definitions, readable on paper and without scripts."""

from html import escape
from io import StringIO
from itertools import cycle

from encoder.evaluate import Measured
from encoder.evaluation.result import Curve, Evaluation, Section, Target

MARKERS = "os^Dv"
"""Lines are told apart without their colours."""

STYLE = """
:root { --ink: #1b2430; --soft: #5a6675; --line: #d8dee6; --wash: #f5f7fa; --yes: #17683f; --no: #a02c2c; }
body { font: 16px/1.55 system-ui, sans-serif; color: var(--ink); }
body { max-width: 62rem; margin: 2.5rem auto; padding: 0 1.2rem; }
h1 { font-size: 1.9rem; margin-bottom: .2rem; }
h2 { margin-top: 2.6rem; border-top: 2px solid var(--ink); padding-top: .8rem; }
h3 { margin: 1.6rem 0 .4rem; font-size: 1.02rem; }
p.how, dd, .facts, small { color: var(--soft); }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; font-size: .93rem; }
th, td { text-align: right; padding: .32rem .7rem; border-bottom: 1px solid var(--line); }
th:first-child, td:first-child { text-align: left; }
thead th { background: var(--wash); }
td small { display: block; white-space: nowrap; }
.wide { overflow-x: auto; }
ul.targets { list-style: none; padding: 0; }
.targets b { display: inline-block; min-width: 5.2rem; }
.yes { color: var(--yes); }
.no { color: var(--no); }
dt { font-weight: 600; }
code { font-size: .88em; overflow-wrap: anywhere; }
svg { max-width: 100%; height: auto; }
@media print { body { margin: 0; max-width: none; } table { break-inside: avoid; } }
"""


def page(evaluation: Evaluation) -> str:
    """Write the page.

    Parameters
    ----------
    evaluation : Evaluation

    Returns
    -------
    str
        HTML with its plots inside.
    """
    body = "\n".join([*_head(evaluation), *map(_section, evaluation.sections)])
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Evaluation of {escape(evaluation.encoder)}</title><style>{STYLE}</style></head>\n"
        f"<body>\n{body}\n</body></html>\n"
    )


def _head(evaluation: Evaluation) -> list[str]:
    sources = "".join(
        f"<tr><td>{escape(one.name)}</td><td>{escape(one.content)}</td><td>{one.rows:,}</td>"
        f"<td><code>{one.digest[:16]}</code></td></tr>"
        for one in evaluation.sources
    )
    title = f"<h1>Evaluation of {escape(evaluation.encoder)}</h1>"
    facts = (
        f'<p class="facts">Weights <code>{escape(evaluation.weights_digest)}</code>, Nightjar '
        f"{escape(evaluation.version)}, {escape(evaluation.made)}. Numbers on simulation hold for the "
        "simulation.</p>"
    )
    table = (
        "<table><thead><tr><th>data</th><th>taken as</th><th>rows</th><th>SHA-256</th></tr></thead>"
        f"<tbody>{sources}</tbody></table>"
    )
    return [title, facts, table]


def _section(section: Section) -> str:
    parts = [f"<h2>{escape(section.title)}</h2>"]
    if section.targets:
        parts.append(f'<ul class="targets">{"".join(map(_target, section.targets))}</ul>')
    parts.append(f'<p class="how">{escape(section.method)}</p>')
    parts += [plot(axis, lines) for axis, lines in section.curves.items()]
    parts += [_table(title, rows) for title, rows in section.tables.items()]
    parts += [f"<p>{escape(remark)}</p>" for remark in section.remarks]
    terms = "".join(
        f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in section.definitions.items()
    )
    return "\n".join([*parts, f"<dl>{terms}</dl>" if terms else ""])


def _target(target: Target) -> str:
    kind, word = ("yes", "reached") if target.reached else ("no", "missed")
    return f'<li><b class="{kind}">{word}</b> {escape(target.text)}: {escape(target.found)}</li>'


def _table(title: str, rows: dict[str, dict[str, Measured]]) -> str:
    metrics = list(dict.fromkeys(metric for row in rows.values() for metric in row))
    head = "".join(f"<th>{escape(name)}</th>" for name in ("", *metrics, "n"))
    lines = []
    for name, row in rows.items():
        cells = "".join(f"<td>{_number(row.get(metric))}</td>" for metric in metrics)
        count = max((one.n for one in row.values()), default=0)
        lines.append(f"<tr><td>{escape(name)}</td>{cells}<td>{count:,}</td></tr>")
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>"
    return f'<h3>{escape(title)}</h3><div class="wide">{table}</div>'


def _number(found: Measured | None) -> str:
    if found is None:
        return ""
    return f"{found.value:.3f} <small>[{found.low:.3f}, {found.high:.3f}]</small>"


def plot(axis: str, lines: dict[str, Curve]) -> str:
    """Draw lines against the number of labels, as SVG."""
    from matplotlib.figure import Figure  # noqa: PLC0415 - takes half a second, which only this needs

    figure = Figure(figsize=(8, 4.2), layout="constrained")
    axes = figure.subplots()
    for (name, curve), marker in zip(lines.items(), cycle(MARKERS), strict=False):
        (line,) = axes.plot(curve.labels, curve.mean, marker=marker, label=name)
        axes.fill_between(curve.labels, curve.low, curve.high, alpha=0.12, color=line.get_color())
    axes.set(xlabel="labels", ylabel=axis, xscale="log")
    ticks = sorted({n for curve in lines.values() for n in curve.labels})
    axes.set_xticks(ticks, [str(n) for n in ticks])
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    out = StringIO()
    figure.savefig(out, format="svg", metadata={"Date": None})
    return out.getvalue()[out.getvalue().index("<svg") :]
