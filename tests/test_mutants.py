"""Each known bug, put into the text of an estimator, must turn the grid red."""

from __future__ import annotations

import sys
import types
from pathlib import Path

import pytest

import backends
from backends import hypergradient
from tests.grid import check

FOLDER = Path(hypergradient.__file__).parent
CLASSES = {"rmd": "RMD", "krmd": "KRMD", "fmd": "FMD", "cg": "CG", "neumann": "Neumann"}
NO_DIRECT_TERM = "(alpha, bk.map(lambda x: 0 * x, h))"
TRANSPOSED = """A_alpha, B_alpha = opened(point)(alpha)
        flat_B, to_theta = bk.ravel(B_alpha)
        flat_alpha, _ = bk.ravel(alpha)
        if flat_B.shape == flat_alpha.shape:
            x = bk.map(lambda x: x[-1], xs)
            B_alpha = bk.jvp(lambda theta: phi(w, theta, x), (theta,), (to_theta(flat_alpha),))[1]
            B_alpha = to_theta(bk.ravel(B_alpha)[0])
"""

LEAK = """leak = bk.vjp(lambda th: problem.init(th, data), theta)[1](alpha)[0]
        (grad,) = pull_embed(add(bk, h, leak))"""

# name: (method, file, [(text, text of the bug), …])
MUTANTS = {
    "K-RMD: one pull-back too few": (
        "krmd",
        "krmd",
        [("forgotten = length(bk, xs) - K\n", "K = max(K - 1, 0)\n    forgotten = length(bk, xs) - K\n")],
    ),
    "K-RMD: direct term dropped": ("krmd", "krmd", [("bk.scan(back, (alpha, h)", f"bk.scan(back, {NO_DIRECT_TERM}")]),
    "RMD: B_0 dropped": ("rmd", "krmd", [("pull_embed(add(bk, h, B_alpha))", "pull_embed(h)")]),
    "K-RMD: gradient of f at w_0": (
        "krmd",
        "krmd",
        [
            ("    forgotten = length(bk, xs) - K\n", "    forgotten, start = length(bk, xs) - K, w\n"),
            ("data), (0, 1))(w, theta)\n\n    def back", "data), (0, 1))(start, theta)\n\n    def back"),
        ],
    ),
    "K-RMD: adjoint not advanced": (
        "krmd",
        "krmd",
        [("return (A_alpha, add(bk, h, B_alpha)), None", "return (alpha, add(bk, h, B_alpha)), None")],
    ),
    "K-RMD: λ leaks through w_{T−K}": (
        "krmd",
        "krmd",
        [
            (
                "w, _, h = _reverse(bk, problem, w, theta, data, xs, self.t",
                "w, alpha, h = _reverse(bk, problem, w, theta, data, xs, self.t",
            ),
            (
                "(grad,) = pull_embed(h)",
                LEAK,
            ),
        ],
    ),
    "K-RMD: embed not pulled back": ("krmd", "krmd", [("(grad,) = pull_embed(h)", "grad = h")]),
    # B_tα for B_tᵀα has a shape only where P = M; elsewhere the text stays right, or it would only crash.
    "K-RMD: B transposed at P = M": ("krmd", "krmd", [("A_alpha, B_alpha = opened(point)(alpha)\n", TRANSPOSED)]),
    "FMD: tangents of init dropped": (
        "fmd",
        "fmd",
        [("bk.vmap(start)(D)), xs)", "bk.map(lambda x: 0 * x, bk.vmap(start)(D))), xs)")],
    ),
    "FMD: direct term dropped": (
        "fmd",
        "fmd",
        [
            ("grad = add(bk, h, pull_embed(f_theta)[0])", "grad = h"),
            ("pull_embed(add(bk, f_theta, lift(h)))", "pull_embed(lift(h))"),
        ],
    ),
    "CG: previous iterate": ("cg", "cg", [("length=self.truncation", "length=max(self.truncation - 1, 0)")]),
    "CG: sign of the mixed term": ("cg", "cg", [("h - a * m", "h + a * m")]),
    "CG: at w_0": (
        "cg",
        "cg",
        [("_, products = bk.vjp(grad_g, w, theta)", "_, products = bk.vjp(grad_g, problem.init(theta, data), theta)")],
    ),
    "Neumann: one term too few": (
        "neumann",
        "neumann",
        [("tail(bk, xs, T - K), length=K", "tail(bk, xs, T - max(K - 1, 0)), length=max(K - 1, 0)")],
    ),
    "Neumann: direct term dropped": (
        "neumann",
        "neumann",
        [("bk.scan(back, (alpha, h)", f"bk.scan(back, {NO_DIRECT_TERM}")],
    ),
}


def _load(method: str, file: str, changes: list[tuple[str, str]]):
    source = (FOLDER / f"{file}.py").read_text()
    for old, new in changes:
        assert old in source, f"the text of {file}.py has changed: {old!r} is not there"
        source = source.replace(old, new)
    module = types.ModuleType(f"changed_{file}")
    sys.modules[module.__name__] = module
    exec(compile(source, f"changed {file}.py", "exec"), module.__dict__)
    return getattr(module, CLASSES[method])


@pytest.mark.parametrize("framework", ["torch", "jax"])
@pytest.mark.parametrize("name", MUTANTS)
def test_a_bug_turns_the_grid_red(name, framework):
    method, file, changes = MUTANTS[name]
    with pytest.raises(AssertionError, match=r"off by|another"):
        check({method: _load(method, file, changes)}, backends.load(framework, "float64"))


@pytest.mark.parametrize(("method", "file"), [("krmd", "krmd"), ("fmd", "fmd"), ("cg", "cg"), ("neumann", "neumann")])
def test_the_same_text_without_a_bug_passes(method, file):
    """What turns the grid red is the bug, not the way it is loaded."""
    check({method: _load(method, file, [])}, backends.load("torch", "float64"))
