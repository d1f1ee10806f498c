"""Tables inside a document: what stands between `<!-- table: PATH -->` and `<!-- end -->` is the file at PATH."""

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
        return f"{found[1]}\n{path.read_text().strip()}\n\n{found[4]}"

    return BLOCK.sub(block, text)
