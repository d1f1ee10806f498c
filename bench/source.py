"""The part of a Python file that its results can depend on: all but comments, docstrings and empty lines."""

from __future__ import annotations

import ast
import io
import tokenize
from collections.abc import Iterator


def code(text: str) -> str:
    """The text without what the interpreter passes over.  A file that is not Python is returned as it is."""
    try:
        tree = ast.parse(text)
        comments = [t for t in tokenize.generate_tokens(io.StringIO(text).readline) if t.type == tokenize.COMMENT]
    except (SyntaxError, ValueError, tokenize.TokenError):
        return text
    lines: list[str | None] = list(text.split("\n"))
    for token in comments:
        row, column = token.start
        lines[row - 1] = (lines[row - 1] or "")[:column].rstrip()
    for body in _bodies(tree):
        for statement in body:
            rows = slice(statement.lineno - 1, statement.end_lineno)
            if _is_bare_string(statement) and _alone(lines[rows], statement):
                # A body that was words alone is still a body.
                instead = " " * statement.col_offset + "..." if all(map(_is_bare_string, body)) else None
                lines[rows] = [instead, *[None] * (len(lines[rows]) - 1)]
    within = _inside_strings(tree) | {row + 1 for row, line in enumerate(text.split("\n"), 1) if line.endswith("\\")}
    return "\n".join(line for row, line in enumerate(lines, 1) if line is not None and (line.strip() or row in within))


def _bodies(tree: ast.AST) -> Iterator[list[ast.stmt]]:
    for node in ast.walk(tree):
        if isinstance(body := getattr(node, "body", None), list):
            yield body


def _is_bare_string(node: ast.stmt) -> bool:
    """A docstring, or the string below an assignment that says what it is."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _alone(rows: list[str | None], statement: ast.stmt) -> bool:
    """No other statement stands on its first or its last line."""
    before, after = (
        (rows[0] or "").encode()[: statement.col_offset],
        (rows[-1] or "").encode()[statement.end_col_offset :],
    )
    return not before.strip() and not after.strip()


def _inside_strings(tree: ast.AST) -> set[int]:
    """Lines that begin inside a string: an empty one there is part of a value."""
    values = [n for n in ast.walk(tree) if isinstance(n, ast.Constant | ast.JoinedStr)]
    strings = [n for n in values if isinstance(n, ast.JoinedStr) or isinstance(n.value, str | bytes)]
    return {row for n in strings for row in range(n.lineno + 1, (n.end_lineno or n.lineno) + 1)}
