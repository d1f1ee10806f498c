"""Stamps: what makes a record stale, and what does not."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from bench import source, stamp
from bench.cell import Cell

ROOT = Path(__file__).resolve().parent.parent

BEFORE = '''"""What."""
from math import pi

TABLE = {"a": 1}
"""name → number."""


class Circle:
    """A circle."""

    def area(self, r):
        """πr²."""
        return pi * r**2  # by Archimedes


def page():
    return """# a heading

of two lines"""
'''


def edited(old: str, new: str) -> str:
    assert old in BEFORE
    return BEFORE.replace(old, new)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("  # by Archimedes", ""),
        ("  # by Archimedes", "  # noqa: E731 - because"),
        ('"""What."""', '"""What,\n\n# at length.\n"""'),
        ('        """πr²."""\n', ""),
        ('"""name → number."""', '"""Another."""'),
        ("\n\n\nclass", "\n\nclass"),
    ],
)
def test_words_make_no_record_stale(old, new):
    assert source.code(edited(old, new)) == source.code(BEFORE)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("r**2", "r**3"),
        ('{"a": 1}', '{"b": 1}'),
        ("# a heading", "# another heading"),  # in a value, not a comment
        ("heading\n\nof", "heading\nof"),  # an empty line of a value
        ("import pi", "import e as pi"),
        ("    def area", "    def volume"),
    ],
)
def test_code_makes_it_stale(old, new):
    assert source.code(edited(old, new)) != source.code(BEFORE)


def test_a_string_that_shares_its_line_stays():
    assert source.code('x = 1; "what"') == 'x = 1; "what"'


def test_a_body_that_was_words_alone_stays_a_body():
    assert source.code('def f():\n    """What."""\n') == "def f():\n    ..."


@pytest.mark.parametrize("words", ['"""One."""\n    """Two."""', '"""One."""'])
def test_a_body_of_words_is_a_body(words):
    assert ast.parse(source.code(f"if x:\n    {words}\n"))


def test_an_empty_line_ends_a_continued_one():
    assert source.code("x = 1 \\\n\n-y") != source.code("x = 1 \\\n-y")


def test_a_file_in_another_encoding_counts_whole(tmp_path):
    guest = tmp_path / "mine.py"
    guest.write_bytes("# -*- coding: latin-1 -*-\nclass A: ...  # é\n".encode("latin-1"))
    assert "mine.py" in stamp.code(Cell(task="quadratic", method=f"{guest}:A", backend="jax", horizon=5))


def test_what_is_no_python_counts_whole():
    assert source.code("def (  # what") == "def (  # what"


@pytest.mark.parametrize("package", ["backends", "tasks", "bench"])
def test_what_is_left_is_the_same_program(package):
    for path in (ROOT / package).rglob("*.py"):
        text = path.read_text("utf-8")
        assert _program(source.code(text)) == _program(text), path


def _program(text: str) -> str:
    """The syntax tree without bare constants."""
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(body := getattr(node, "body", None), list):
            kept = [s for s in body if not (isinstance(s, ast.Expr) and isinstance(s.value, ast.Constant))]
            node.body = kept
    return ast.dump(tree)


def test_a_file_is_named_with_what_changed(tmp_path):
    guest = tmp_path / "mine.py"
    guest.write_text(BEFORE)
    cell = Cell(task="quadratic", method=f"{guest}:Circle", backend="jax", horizon=5)
    made_by = stamp.code(cell)
    stamp._content.cache_clear()
    guest.write_text(edited("  # by Archimedes", ""))
    assert stamp.changed(made_by, cell) == []
    stamp._content.cache_clear()
    guest.write_text(edited("r**2", "r**3"))
    assert stamp.changed(made_by, cell) == ["mine.py"]
    stamp._content.cache_clear()


def test_features_in_the_home_folder_are_code(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    features = tmp_path / "mine.npz"
    features.write_bytes(b"one")
    options = {"features": "~/mine.npz"}
    cell = Cell(task="task_interaction", task_options=options, method="rmd", backend="jax", horizon=5)
    made_by = stamp.code(cell)
    stamp._content.cache_clear()
    features.write_bytes(b"another")
    assert stamp.changed(made_by, cell) == ["mine.npz"]
    stamp._content.cache_clear()


def test_a_file_of_the_user_s_that_is_elsewhere_tells_no_change(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(BEFORE)
    cell = Cell(task="quadratic", method="mine.py:Circle", backend="jax", horizon=5)
    monkeypatch.chdir(tmp_path)
    made_by = stamp.code(cell)
    assert "mine.py" in made_by
    monkeypatch.chdir(ROOT)
    assert stamp.changed(made_by, cell) == []


def test_an_installed_method_s_file_is_code(tmp_path, monkeypatch):
    """Found by its entry point, and not imported."""
    (tmp_path / "a_package_of_mine.py").write_text("raise ImportError")
    (tmp_path / "a_package-1.dist-info").mkdir()
    (tmp_path / "a_package-1.dist-info" / "METADATA").write_text("Name: a-package\nVersion: 1\n")
    entry = "[hypergrad_bench.methods]\nmine = a_package_of_mine:Mine\n"
    (tmp_path / "a_package-1.dist-info" / "entry_points.txt").write_text(entry)
    monkeypatch.syspath_prepend(str(tmp_path))
    cell = Cell(task="quadratic", method="mine", backend="jax", horizon=5)
    assert "a_package_of_mine.py" in stamp.contents(cell)
    assert "a_package_of_mine.py" not in stamp.contents(cell.model_copy(update={"method": "rmd"}))
    made_by = stamp.code(cell)
    (tmp_path / "mine" / "inner").mkdir(parents=True)
    (tmp_path / "mine" / "__init__.py").write_text("raise RuntimeError")
    (tmp_path / "mine" / "inner" / "estimator.py").write_text("")
    metadata = tmp_path / "a_package-1.dist-info" / "entry_points.txt"
    metadata.write_text(entry.replace("a_package_of_mine", "mine.inner.estimator"))
    assert "estimator.py" in stamp.contents(cell)
    metadata.unlink()  # it is not installed here
    assert stamp.changed(made_by, cell) == []
