"""What an estimator may ask of a framework: about twenty primitives, the same in PyTorch and JAX.

An estimator's text is written once against `Backend`.  Trees (nested dicts, lists, tuples, named tuples of arrays) are
passed wherever one array could be; a function's derivative is a pull-back (`vjp`) or a push-forward (`jvp`), never a
matrix.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

Tree = Any
Array = Any


class Unavailable(RuntimeError):
    """A framework or device that this machine does not have.  The message says how to get it."""


@runtime_checkable
class Backend(Protocol):
    """One framework on one device in one floating-point type.

    `xp` is the array namespace (array API names: `xp.concat`, `xp.sum(x, axis=0)`, …) for tasks and for a method's
    own scalars.  Every array that `asarray` makes lives on `device`; floats take `dtype`, integers and booleans keep
    theirs.
    """

    name: str
    lane: str  # "eager", "compiled" or "jit": what `compile` means here
    dtype: str
    device: str
    xp: Any

    # arrays and trees
    def asarray(self, x: Tree) -> Tree:
        """A tree of NumPy arrays or numbers as arrays of this backend; floats are cast to `dtype`."""
        ...

    def to_numpy(self, x: Tree) -> Tree:
        """The same tree in NumPy arrays."""
        ...

    def map(self, f: Callable, *trees: Tree) -> Tree:
        """`f` leaf by leaf over trees of one structure."""
        ...

    def leaves(self, tree: Tree) -> list[Array]:
        """The leaves of a tree, in the tree's own order."""
        ...

    def dot(self, a: Tree, b: Tree) -> Array:
        """Σ a·b over all leaves: one scalar."""
        ...

    def ravel(self, tree: Tree) -> tuple[Array, Callable[[Array], Tree]]:
        """The floating leaves as one vector, and the way back."""
        ...

    # transforms
    def value_and_grad(self, f: Callable, argnums: int | Sequence[int] = 0) -> Callable:
        """(value, gradient) of a scalar function, with respect to one argument or a tuple of them."""
        ...

    def vjp(self, f: Callable, *primals: Tree) -> tuple[Tree, Callable]:
        """`(f(*primals), pull)`; `pull(cotangent)` is a tuple with one tree a primal and can be called many
        times.  Integer leaves have no derivative: zeros stand for it."""
        ...

    def jvp(self, f: Callable, primals: Sequence[Tree], tangents: Sequence[Tree]) -> tuple[Tree, Tree]:
        """`(f(*primals), ∂f·tangents)`: one push-forward."""
        ...

    def vmap(self, f: Callable, in_axes: Any = 0) -> Callable:
        """`f` over a leading axis of its arguments."""
        ...

    def scan(
        self, f: Callable, carry: Tree, xs: Tree, *, length: int | None = None, reverse: bool = False
    ) -> tuple[Tree, Tree]:
        """`carry, y_i = f(carry, x_i)` over the leading axis; the ys stacked."""
        ...

    def compile(self, f: Callable) -> Callable:
        """`f` the way this lane runs it: jitted in JAX, as it is in eager PyTorch.  Trees of arrays in and out."""
        ...

    def prepare(self, f: Callable, *args: Tree) -> None:
        """Compile a compiled function for arguments of these shapes, without running it."""
        ...

    def shapes(self, f: Callable, *args: Tree) -> Tree:
        """`f(*args)` for its shapes only: traced in JAX, run in PyTorch."""
        ...

    def wait(self, tree: Tree) -> Tree:
        """Return when every array of the tree is computed (the device is synchronised)."""
        ...

    def memory_plan(self, f: Callable, *args: Tree) -> int | None:
        """Bytes that `f(*args)` needs beside its arguments, as the framework plans or tracks them; None if unknown."""
        ...

    # the few pieces that the namespaces lack or that the frameworks differentiate differently
    def relu(self, x: Array) -> Array:
        """max(x, 0) with derivative 0 at 0."""
        ...

    def logsumexp(self, x: Array, axis: int = -1) -> Array:
        """log Σ exp x along `axis`, without overflow."""
        ...
