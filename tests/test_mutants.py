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
TRANSPOSED = """A_alpha, B_alpha = pull_phi(alpha)
            flat_B, to_theta = bk.ravel(B_alpha)
            flat_alpha, _ = bk.ravel(alpha)
            if flat_B.shape == flat_alpha.shape:
                B_alpha = bk.jvp(lambda theta: phi(w, theta, x), (theta,), (to_theta(flat_alpha),))[1]
                B_alpha = to_theta(bk.ravel(B_alpha)[0])
"""

# name: (method, file, [(text, text of the bug), …])
MUTANTS = {
    "K-RMD: one pull-back too few": (
        "krmd",
        "krmd",
        [("length(bk, xs) - self.truncation\n", "length(bk, xs) - max(self.truncation - 1, 0)\n")],
    ),
    "K-RMD: direct term dropped": (
        "krmd",
        "krmd",
        [("pull_embed(pull(alpha, h))", f"pull_embed(pull(*{NO_DIRECT_TERM}))")],
    ),
    "RMD: B_0 dropped": (
        "rmd",
        "krmd",
        [("return add(bk, h, B_alpha)\n\n    return w, pull", "return h\n\n    return w, pull")],
    ),
    "RMD: B_0 dropped, residuals": (
        "rmd",
        "krmd",
        [
            ("w, pull_steps = bk.vjp(steps, theta)", "w_0 = start(theta)\n    w, pull_steps = bk.vjp(steps, theta)"),
            ("None), start(theta), xs", "None), w_0, xs"),
        ],
    ),
    "K-RMD: gradient of f at w_0": (
        "krmd",
        "krmd",
        [("data), (0, 1))(w, theta)", "data), (0, 1))(problem.init(theta, data), theta)")],
    ),
    "K-RMD: adjoint not advanced": (
        "krmd",
        "krmd",
        [("return (A_alpha, add(bk, h, B_alpha)), None", "return (alpha, add(bk, h, B_alpha)), None")],
    ),
    "K-RMD: λ leaks through w_{T−K}": (
        "krmd",
        "krmd",
        [("lambda theta: w_cut, theta", "lambda theta: problem.init(theta, data), theta")],
    ),
    "K-RMD: λ leaks through the steps before": (
        "krmd",
        "krmd",
        [
            (
                "lambda theta: w_cut, theta",
                "lambda theta: bk.scan(lambda w, x: (phi(w, theta, x), None), problem.init(theta, data), "
                "head(bk, xs, forgotten), length=forgotten)[0], theta",
            )
        ],
    ),
    "K-RMD: embed not pulled back": ("krmd", "krmd", [("(grad,) = pull_embed(", "grad = (")]),
    # B_tα for B_tᵀα has a shape only where P = M; elsewhere the text stays right, or it would only crash.
    "K-RMD: B transposed at P = M": ("krmd", "krmd", [("A_alpha, B_alpha = pull_phi(alpha)\n", TRANSPOSED)]),
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
