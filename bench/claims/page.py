"""Write claims.json, claims.md, claims.html and figures/claims/: the same records give the same bytes."""

from __future__ import annotations

import json
import math
from collections import Counter
from html import escape
from pathlib import Path
from string import Template
from typing import Any

from bench.claims import draw, judge
from bench.claims.protocol import Finding, Judged, Statistic
from bench.errors import UserError
from bench.record import Record
from bench.report import figures
from bench.report.figures import Picture
from bench.report.page import inline

NAMED = 3  # records that the page names for each framework
ORDER = ("reproduced", "refuted", "inconclusive")

_PAGE = Template((Path(__file__).parent / "page.html").read_text())


def write(records: list[Record], folder: Path, title: str) -> tuple[list[Judged], list[Path]]:
    """Judge and write; the verdicts and the files."""
    judged = judge(records)
    pictures = draw.every(records)
    try:
        files = figures.write(pictures, folder / "figures" / "claims")
        data, html = folder / "claims.json", folder / "claims.html"
        data.write_text(json.dumps([as_json(j) for j in judged], indent=1, ensure_ascii=False, allow_nan=False) + "\n")
        html.write_text(render(judged, pictures, title))
        table = folder / "claims.md"
        table.write_text(markdown(judged))
    except OSError as error:
        raise UserError(f"the claims cannot be written under {folder}: {error.strerror or error}") from error
    return judged, [data, html, table, *files]


def counts(judged: list[Judged]) -> str:
    """`9 reproduced, 1 refuted, 2 inconclusive`."""
    found = Counter(j.verdict for j in judged)
    return ", ".join(f"{found[v]} {v}" for v in ORDER)


def markdown(judged: list[Judged]) -> str:
    """A line a claim: what it says, and the verdict."""
    lines = ["| claim | statement | tag | verdict |", "|---|---|---|---|"]
    lines += [f"| {j.claim.id} | {j.claim.statement} | {j.claim.tag} | {j.verdict} |" for j in judged]
    return "\n".join(lines) + "\n"


def as_json(j: Judged) -> dict[str, Any]:
    """A verdict with everything it rests on."""
    c = j.claim
    return {
        "id": c.id,
        "statement": c.statement,
        "source": c.source,
        "tag": c.tag,
        "figure": f"figures/claims/{c.figure}.svg",
        "verdict": j.verdict,
        "reason": j.reason,
        "failed": j.failed,
        "left_out": j.left_out,
        "frameworks": {
            name: {
                "verdict": f.verdict,
                "reason": f.reason,
                "statistic": None if f.statistic is None else _statistic(f.statistic),
                "records": list(f.used),
            }
            for name, f in j.findings.items()
        },
    }


def _statistic(s: Statistic) -> dict[str, Any]:
    found = {"name": s.name, "value": _number(s.value)}
    if s.interval is not None:
        i = s.interval
        found |= {"middle": _number(i.middle), "low": _number(i.low), "high": _number(i.high), "n": i.n, "unit": s.unit}
    return found


def _number(x: float) -> float | None:
    return float(x) if math.isfinite(x) else None


def render(judged: list[Judged], pictures: list[Picture], title: str) -> str:
    """The page.  It loads nothing from anywhere."""
    images, shown = {p.stem: p for p in pictures}, set()
    sections = []
    for j in judged:
        picture = images.get(j.claim.figure)
        sections.append(_section(j, picture, j.claim.figure in shown))
        shown.add(j.claim.figure)
    return _PAGE.substitute(
        title=escape(title),
        counts=escape(counts(judged)),
        summary="\n".join(
            f'<tr><td><a href="#{_anchor(j)}">{escape(j.claim.id)}</a></td><td>{_badge(j.verdict)}</td>'
            f"<td>{escape(j.reason)}</td></tr>"
            for j in judged
        ),
        claims="\n".join(sections),
    )


def _section(j: Judged, picture: Picture | None, already: bool) -> str:
    c = j.claim
    parts = [
        f'<h2 id="{_anchor(j)}">{escape(c.id)} {_badge(j.verdict)}</h2>',
        f'<p class="why">{escape(c.statement)} <span class="facts">[{escape(c.tag)}; {escape(c.source)}]</span></p>',
        f'<p class="why"><b>Why.</b> {escape(j.reason)}.</p>',
    ]
    if j.findings:
        parts.append(_table(j.findings))
    if picture is not None and already:
        parts.append(f'<p class="facts">Figure: <a href="#{picture.stem}">above</a>.</p>')
    elif picture is not None:
        parts.append(
            f'<figure id="{picture.stem}">{inline(picture)}<figcaption>{escape(picture.caption)}</figcaption></figure>'
        )
    return "\n".join(parts)


def _table(findings: dict[str, Finding]) -> str:
    rows = []
    for name, f in findings.items():
        named = ", ".join(f"<code>{escape(k)}</code>" for k in f.used[:NAMED])
        more = len(f.used) - NAMED
        told = f"<details><summary>{len(f.used)}</summary>{named}{f' and {more} more' if more > 0 else ''}</details>"
        words = "" if f.statistic is None else escape(_words(f.statistic))
        rows.append(f"<tr><td>{escape(name)}</td><td>{escape(f.verdict)}</td><td>{words}</td><td>{told}</td></tr>")
    head = "<tr><th>framework</th><th>says</th><th>statistic [95 % interval]</th><th>records</th></tr>"
    return f"<table><thead>{head}</thead><tbody>{''.join(rows)}</tbody></table>"


def _words(s: Statistic) -> str:
    told = f"{s.name}: {s.value:.4g}"
    if s.interval is None:
        return told
    i = s.interval
    if not i.decided:
        return f"{told} ({s.unit}: n = {i.n}, too few for an interval)"
    middle = "" if i.middle == s.value else f"{i.middle:.4g} "
    return f"{told}; {middle}[{i.low:.4g}, {i.high:.4g}], unit: {s.unit}, n = {i.n}"


def _badge(verdict: str) -> str:
    sign = {"reproduced": "✓", "refuted": "✗", "inconclusive": "?"}[verdict]
    return f'<span class="badge {verdict}">{sign} {verdict}</span>'


def _anchor(j: Judged) -> str:
    return f"claim-{j.claim.id.replace('′', '-prime')}"
