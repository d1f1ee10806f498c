"""One HTML file: what was run, where, what it showed; figures and tables inside."""

from __future__ import annotations

import base64
import io
from collections import Counter
from html import escape
from pathlib import Path
from string import Template

import matplotlib as mpl
import pandas as pd
from matplotlib.backends.backend_svg import FigureCanvasSVG

from bench import environment
from bench.record import Record
from bench.report import style
from bench.report.figures import Picture
from bench.report.frame import Frame, agreement
from bench.report.table import Table, readable

_PAGE = Template((Path(__file__).parent / "page.html").read_text())


def render(
    title: str, folder: Path, records: list[Record], rows: Frame, tables: list[Table], pictures: list[Picture]
) -> str:
    """The page.  It loads nothing from anywhere."""
    store = folder if not folder.is_absolute() else Path(folder.name)
    return _PAGE.substitute(
        title=escape(title),
        summary=_summary(records, rows, {t.name: t.rows for t in tables}),
        machines=_machines(records),
        store=escape(str(store)),
        contents="".join(f'<li><a href="#{p.stem}">{escape(p.stem)}</a></li>' for p in pictures)
        + "".join(f'<li><a href="#table-{t.name}">table: {escape(t.name)}</a></li>' for t in tables),
        figures="".join(_figure(p) for p in pictures),
        tables="".join(_table(t) for t in tables),
    )


def _summary(records: list[Record], rows: Frame, tables: dict[str, Frame]) -> str:
    counts = ", ".join(f"{n} {status}" for status, n in sorted(Counter(r.status for r in records).items()))
    facts = [f"{len(records)} records: {counts}"]
    if not rows.empty:
        agree, both, alone, apart = agreement(rows)
        worst = f", worst of those {apart:.1e}" if agree else ""
        if not both and alone:
            facts.append(f"certificates: none; {alone} estimates have no pair in float64")
        elif both:
            facts.append(
                f"certificates: {agree} of {both} estimates agree between PyTorch and JAX in float64 to "
                f"1e-10{worst}" + (f"; {alone} more have no pair in float64" if alone else "")
            )
        if "counted" in rows:
            counted = rows[(rows.counted.fillna("") != "") & (rows.by_formula.fillna("") != "")]
            facts.append(
                f"counts: {int((counted.counted == counted.by_formula).sum())} of {len(counted)} equal the formula"
            )
        stale = int(rows.stale.sum())
        if stale:
            facts.append(f"{stale} rows are stale: the code that made them has changed since")
    return "".join(f"<li>{escape(f)}</li>" for f in [*facts, *_trained(tables)])


def _trained(tables: dict[str, Frame]) -> list[str]:
    """Of training on real tasks."""
    facts = []
    parts = [rows for name, rows in tables.items() if name.startswith("training-cells")]  # one a machine
    if parts:
        cells = pd.concat(parts)
        kinds = cells[cells.status == "ok"].kind.value_counts()
        facts.append(f"{kinds.get('training', 0)} runs on real tasks, {kinds.get('baseline', 0)} baselines")
        if stale := int(cells.stale.sum()):
            facts.append(f"{stale} of them are stale: the code that made them has changed since")
    if "trajectories" in tables:
        by = tables["trajectories"].groupby("problem", sort=True).ok
        agree = "; ".join(f"{name}: {int(ok.sum())} of {len(ok)}" for name, ok in by)
        facts.append(f"trajectories of PyTorch and JAX in float64 that agree to 1e-8 over 20 upper iterations: {agree}")
    return facts


def _machines(records: list[Record]) -> str:
    return "".join(f"<li>{escape(text)}</li>" for text in sorted({environment.told(r.environment) for r in records}))


def inline(p: Picture) -> str:
    """A figure as an image that is part of the page."""
    with mpl.rc_context(style.RC):
        buffer = io.BytesIO()
        FigureCanvasSVG(p.figure).print_svg(buffer, metadata={"Date": None, "Creator": None})
    image = base64.b64encode(buffer.getvalue()).decode()
    return f'<img src="data:image/svg+xml;base64,{image}" alt="{escape(p.caption)}">'


def _figure(p: Picture) -> str:
    return f'<figure id="{p.stem}">{inline(p)}<figcaption>{escape(p.caption)}</figcaption></figure>\n'


def _table(t: Table) -> str:
    shown = readable(t.rows)
    head = "".join(f"<th>{escape(c)}</th>" for c in shown.columns)
    body = "\n".join("<tr>" + "".join(f"<td>{escape(x)}</td>" for x in row) + "</tr>" for row in shown.to_numpy())
    opened = " open" if len(shown) <= 40 else ""
    return (
        f'<details id="table-{t.name}"{opened}><summary>{escape(t.name)} ({len(shown)} rows)</summary>'
        f'<p>{escape(t.caption)}</p><div class="wide"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div></details>\n"
    )
