"""The house: imports one way, no framework on import, a framework that is missing."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("backends", "tasks", "bench")
FRAMEWORKS = {"torch", "jax", "jaxlib", "optree", "array_api_compat"}
MAY_IMPORT_A_FRAMEWORK = {
    "backends/torch_backend.py": {"torch", "array_api_compat", "optree"},
    "backends/memory.py": {"torch"},
    "backends/jax_backend.py": {"jax", "jaxlib"},
    "backends/hypergradient/native_torch.py": {"torch", "optree"},
    "backends/hypergradient/native_jax.py": {"jax", "jaxlib"},
}
ALLOWED = {"backends": {"backends"}, "tasks": {"backends", "tasks"}, "bench": set(PACKAGES)}


def _files():
    return [p for package in PACKAGES for p in sorted((ROOT / package).rglob("*.py"))]


def _imports(path: Path) -> set[str]:
    """All modules that a file imports, anywhere in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def _roots(path: Path) -> set[str]:
    return {name.split(".")[0] for name in _imports(path)}


@pytest.mark.parametrize("path", _files(), ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_one_way(path):
    name = str(path.relative_to(ROOT))
    ours = _roots(path) & {*PACKAGES, "tests", "results", "paper"}
    assert ours <= ALLOWED[name.split("/")[0]]
    assert _roots(path) & FRAMEWORKS <= MAY_IMPORT_A_FRAMEWORK.get(name, set())


def test_reports_read_records_alone():
    for path in (ROOT / "bench" / "report").glob("*.py"):
        assert not _roots(path) & {"backends", "tasks"}, path


def test_no_drawer_for_everything():
    assert not [p for p in _files() if p.stem in ("utils", "helpers", "common", "misc")]


def _python(code: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)


def test_importing_us_imports_no_framework():
    modules = [
        str(p.relative_to(ROOT)).removesuffix(".py").replace("/", ".").removesuffix(".__init__")
        for p in _files()
        if str(p.relative_to(ROOT)) not in MAY_IMPORT_A_FRAMEWORK and p.name != "__main__.py"
    ]
    code = (
        f"import sys, importlib\nfor m in {modules!r}: importlib.import_module(m)\n"
        "print([m for m in ('torch', 'jax', 'jaxlib', 'optree') if m in sys.modules])"
    )
    result = _python(code)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == "[]"


@pytest.mark.parametrize("framework", ["torch", "jax"])
def test_a_missing_framework_is_unavailable(framework):
    other = {"torch": "jax", "jax": "torch"}[framework]
    code = f"""
import sys
sys.modules[{framework!r}] = None
import backends
try:
    backends.load({framework!r})
except backends.Unavailable as error:
    print(error)
print(backends.load({other!r}).name)
"""
    result = _python(code)
    assert result.returncode == 0, result.stderr
    message, loaded = result.stdout.strip().splitlines()
    assert f"python -m pip install 'hypergrad-bench[{framework}]'" in message
    assert loaded == other


@pytest.mark.parametrize("framework", ["torch", "jax"])
def test_a_missing_device_is_unavailable(framework):
    import backends

    with pytest.raises(backends.Unavailable, match="cuda:7"):
        backends.load(framework, device="cuda:7")


def test_unknown_names_are_refused():
    import backends

    with pytest.raises(ValueError, match="allowed are jax, torch"):
        backends.load("tensorflow")
    with pytest.raises(ValueError, match="allowed are float32, float64"):
        backends.load("jax", "float16")
    with pytest.raises(ValueError, match="allowed are cpu, cuda"):
        backends.load("jax", "float32", "tpu")


def test_backends_satisfy_the_protocol(bk):
    from backends import Backend

    assert isinstance(bk, Backend)
