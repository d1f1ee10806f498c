"""Count what an estimator calls: per function of the problem and kind of call, on a backend that only watches.

The kind of a call is that of the outermost open transform: none, `call`; the function of a `vjp` or `value_and_grad`,
`linearise`; of a `jvp`, `jvp`.  A pull-back ticks `pull` for every function that was linearised in it, each time it is
used; a vmap over c counts c; a scan's body counts its ticks × length ÷ the times the framework ran or traced it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import fields
from fractions import Fraction
from typing import Any

from backends.hypergradient.protocol import Counts, Method, Problem

Tree = Any

FUNCTIONS = {"step": "step", "init": "init", "embed": "embed", "outer_loss": "outer", "inner_loss": "inner"}


class _Ledger:
    """The ticks so far, and which transforms are open."""

    def __init__(self) -> None:
        self.ticks: Counter = Counter()
        self.kinds: list[str] = []
        self.width = 1

    def tick(self, function: str, kind: str | None = None, n: int = 1) -> None:
        if kind == "pull" and self.kinds:
            return  # part of a larger linearisation or push-forward
        self.ticks[function, kind or (self.kinds[0] if self.kinds else "call")] += n * self.width

    def pulled(self, functions: tuple[tuple[str, int], ...]) -> None:
        """A pull-back of these functions was used."""
        for function, n in functions:
            self.tick(function, "pull", n)

    def within(self, kind: str, f: Callable) -> Callable:
        """`f`, with `kind` open while it runs."""

        def run(*args: Tree) -> Any:
            self.kinds.append(kind)
            try:
                return f(*args)
            finally:
                self.kinds.pop()

        return run


class CountingBackend:
    """A backend that passes everything on to another one and keeps a ledger."""

    def __init__(self, backend: Any) -> None:
        self._bk, self.ledger = backend, _Ledger()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._bk, name)

    def watched(self, problem: Problem) -> Problem:
        """The problem with every function ticking."""

        def ticking(function: str, f: Callable) -> Callable:
            def call(*args: Tree) -> Any:
                self.ledger.tick(function)
                return f(*args)

            return call

        present = {f.name: getattr(problem, f.name) for f in fields(problem) if f.name in FUNCTIONS}
        return problem.replace(**{n: ticking(FUNCTIONS[n], f) for n, f in present.items() if f is not None})

    def _recorded(self, f: Callable, evaluate: Callable[[Callable], Any]) -> tuple[Any, tuple]:
        """`evaluate(f)` with `f` inside a linearisation, and what was linearised in it."""
        before = self.ledger.ticks.copy()
        outermost = not self.ledger.kinds
        result = evaluate(self.ledger.within("linearise", f))
        made = self.ledger.ticks - before
        width = self.ledger.width
        functions = tuple(sorted((fn, n // width) for (fn, kind), n in made.items() if kind == "linearise"))
        return result, functions if outermost else ()

    def vjp(self, f: Callable, *primals: Tree) -> tuple[Tree, Callable]:
        (out, pull), functions = self._recorded(f, lambda f: self._bk.vjp(f, *primals))

        def ticking(cotangent: Tree) -> tuple:
            self.ledger.pulled(functions)
            return pull(cotangent)

        return out, ticking

    def value_and_grad(self, f: Callable, argnums: Any = 0) -> Callable:
        def evaluate(*args: Tree) -> tuple:
            result, functions = self._recorded(f, lambda f: self._bk.value_and_grad(f, argnums)(*args))
            self.ledger.pulled(functions)
            return result

        return evaluate

    def jvp(self, f: Callable, primals: Any, tangents: Any) -> tuple[Tree, Tree]:
        return self._bk.jvp(self.ledger.within("jvp", f), primals, tangents)

    def vmap(self, f: Callable, in_axes: Any = 0) -> Callable:
        def mapped(*args: Tree) -> Tree:
            axes = in_axes if isinstance(in_axes, tuple) else (in_axes,) * len(args)
            size = next(self._bk.leaves(a)[0].shape[axis] for a, axis in zip(args, axes) if isinstance(axis, int))

            def run(*args: Tree) -> Tree:
                self.ledger.width *= size
                try:
                    return f(*args)
                finally:
                    self.ledger.width //= size

            return self._bk.vmap(run, in_axes)(*args)

        return mapped

    def scan(
        self, f: Callable, carry: Tree, xs: Tree, *, length: int | None = None, reverse: bool = False
    ) -> tuple[Tree, Tree]:
        n = length if length is not None else int(self._bk.leaves(xs)[0].shape[0])
        outside, self.ledger.ticks = self.ledger.ticks, Counter()
        runs = 0

        def body(carry: Tree, x: Tree) -> tuple:
            nonlocal runs
            runs += 1
            return f(carry, x)

        try:
            result = self._bk.scan(body, carry, xs, length=length, reverse=reverse)
        finally:
            inside, self.ledger.ticks = self.ledger.ticks, outside
        for tick, made in inside.items():
            total = Fraction(made * n, runs)
            if total.denominator != 1:
                raise RuntimeError(f"{tick} was ticked {made} times in {runs} runs of one scan body")
            self.ledger.ticks[tick] += int(total)
        return result


def count(bk: Any, method: Method, problem: Problem, hparams: Tree, data: Tree, xs: Tree) -> Counts:
    """The calls of one hypergradient.  In JAX this only traces; in PyTorch it runs once."""
    watcher = CountingBackend(bk)
    watched = watcher.watched(problem)
    bk.shapes(lambda hparams, data, xs: method(watcher, watched, hparams, data, xs), hparams, data, xs)
    counts: Counts = {}
    for (function, kind), n in sorted(watcher.ledger.ticks.items()):
        if n:
            counts.setdefault(function, {})[kind] = n
    return counts
