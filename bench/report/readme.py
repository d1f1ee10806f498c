"""Tables inside a document: what stands between `<!-- table: PATH -->` and `<!-- end -->` is the file at PATH.

All of it but its last column where that names records: their names are for whoever repeats a cell, and long.
"""

from __future__ import annotations

import re
from pathlib import Path

from bench.errors import UserError

BLOCK = re.compile(r"(<!-- table: (\S+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)


def fill(text: str, root: Path) -> str:
    """The document with every block as its file is now."""

    def block(found: re.Match[str]) -> str:
        path = root / found[2]
        if not path.is_file():
            raise UserError(f"table {found[2]}: there is no such file under {root}; `python -m bench report` writes it")
        return f"{found[1]}\n{_without_records(path.read_text().strip())}\n\n{found[4]}"

    return BLOCK.sub(block, text)


def _without_records(text: str) -> str:
    lines = text.splitlines()
    if not any(line.endswith("| record |") for line in lines):
        return text
    return "\n".join(
        line.rpartition("|")[0].rpartition("|")[0] + "|" if line.startswith("|") else line for line in lines
    )
