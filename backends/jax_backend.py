"""The protocol in JAX.

x64 is switched on for the whole process and every array has an explicit dtype, so float32 and float64 cells share one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from backends.protocol import Tree, Unavailable

jax.config.update("jax_enable_x64", True)


@jax.tree_util.register_pytree_node_class
class Pull:
    """A pull-back that may leave a scan and enter another.

    `varying` and `shared` are its residuals: after a scan, the first are stacked along the steps, the second
    (data, θ, …) do not depend on the step and are kept once.  `order` says how the two interleave.
    """

    def __init__(self, varying: list, shared: list, order: tuple[bool, ...], treedef: Any, hook: Any = None) -> None:
        self.varying, self.shared, self.order, self.treedef, self.hook = varying, shared, order, treedef, hook

    @classmethod
    def of(cls, vjp: Any) -> Pull:
        leaves, treedef = jax.tree.flatten(vjp)
        return cls(leaves, [], (True,) * len(leaves), treedef)

    def __call__(self, cotangent: Tree) -> tuple:
        if self.hook is not None:
            self.hook()
        varying, shared = iter(self.varying), iter(self.shared)
        return jax.tree.unflatten(self.treedef, [next(varying if v else shared) for v in self.order])(cotangent)

    def observed(self, hook: Any) -> Pull:
        """The same pull-back, calling `hook()` (hashable) each time it is used or traced."""
        return Pull(self.varying, self.shared, self.order, self.treedef, hook)

    def divided(self, varies: list[bool], once: list) -> Pull:
        """A stacked pull-back with the residuals that do not vary replaced by the one copy in `once`."""
        return Pull(
            [leaf for leaf, v in zip(self.varying, varies) if v],
            [leaf for leaf, v in zip(once, varies) if not v],
            tuple(varies),
            self.treedef,
            self.hook,
        )

    def at(self, varying: list) -> Pull:
        """The pull-back of one step of a stack."""
        return Pull(varying, self.shared, self.order, self.treedef, self.hook)

    def tree_flatten(self) -> tuple:
        return (self.varying, self.shared), (self.order, self.treedef, self.hook)

    @classmethod
    def tree_unflatten(cls, aux: tuple, children: tuple) -> Pull:
        varying, shared = children
        return cls(varying, shared, *aux)


def _is_pull(x: Any) -> bool:
    return isinstance(x, Pull)


def _varies(body: Callable, carry: Tree, x: Tree) -> tuple[list[bool], Any]:
    """For each output leaf of a scan's body: does it depend on the carry or on x?  And the outputs' shapes as a tree.

    One walk over the body's equations: an output of an equation varies if one of its inputs does.
    """
    closed, shapes = jax.make_jaxpr(body, return_shape=True)(carry, x)
    varying = set(closed.jaxpr.invars)
    for eqn in closed.jaxpr.eqns:
        if any(not hasattr(v, "val") and v in varying for v in eqn.invars):
            varying.update(eqn.outvars)
    return [not hasattr(v, "val") and v in varying for v in closed.jaxpr.outvars], shapes


class JaxBackend:
    """JAX on one device; `compile` is `jax.jit`."""

    name = "jax"
    lane = "jit"
    xp: Any = jnp

    def __init__(self, dtype: str = "float32", device: str = "cpu") -> None:
        self.dtype, self.device = dtype, device
        self._float = jnp.dtype(dtype)
        platform, _, index = device.partition(":")
        try:
            self._device = jax.devices(platform)[int(index or 0)]
        except (RuntimeError, IndexError) as error:
            reason = str(error).splitlines()[0] if str(error) else "no such device"
            raise Unavailable(f"jax has no device {device!r} here: {reason}") from error
        if platform == "cuda":
            jax.config.update("jax_default_matmul_precision", "highest")  # no TF32, as in the other framework

    # arrays and trees
    def asarray(self, x: Tree) -> Tree:
        return jax.tree.map(self._asarray, x)

    def _asarray(self, x: Any) -> jax.Array:
        if not isinstance(x, jax.Array):
            x = np.asarray(x)
        floating = jnp.issubdtype(x.dtype, jnp.floating)
        return jax.device_put(x.astype(self._float) if floating else x, self._device)

    def to_numpy(self, x: Tree) -> Tree:
        return jax.tree.map(np.asarray, x)

    def map(self, f: Callable, *trees: Tree) -> Tree:
        return jax.tree.map(f, *trees)

    def leaves(self, tree: Tree) -> list:
        return jax.tree.leaves(tree)

    def dot(self, a: Tree, b: Tree) -> jax.Array:
        products = [jnp.vdot(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)]
        return sum(products, start=jnp.zeros((), self._float))

    def ravel(self, tree: Tree) -> tuple[jax.Array, Callable]:
        return ravel_pytree(tree)

    # transforms
    def value_and_grad(self, f: Callable, argnums: Any = 0) -> Callable:
        return jax.value_and_grad(f, argnums)

    def vjp(self, f: Callable, *primals: Tree) -> tuple[Tree, Pull]:
        out, pull = jax.vjp(f, *primals)
        return out, Pull.of(pull)

    def jvp(self, f: Callable, primals: Any, tangents: Any) -> tuple[Tree, Tree]:
        return jax.jvp(f, tuple(primals), tuple(tangents))

    def vmap(self, f: Callable, in_axes: Any = 0) -> Callable:
        return jax.vmap(f, in_axes)

    def scan(
        self, f: Callable, carry: Tree, xs: Tree, *, length: int | None = None, reverse: bool = False
    ) -> tuple[Tree, Tree]:
        body, xs = _open_pulls(f, xs)
        x = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape[1:], a.dtype), xs)
        out = jax.eval_shape(body, carry, x)
        if not any(map(_is_pull, jax.tree.leaves(out[1], is_leaf=_is_pull))):
            return jax.lax.scan(body, carry, xs, length=length, reverse=reverse)
        return self._scan_pulls(body, carry, xs, length, reverse)

    def _scan_pulls(
        self, body: Callable, carry: Tree, xs: Tree, length: int | None, reverse: bool
    ) -> tuple[Tree, Tree]:
        n = length if length is not None else jax.tree.leaves(xs)[0].shape[0]
        x0 = jax.tree.map(lambda a: a[0] if n else jnp.zeros(a.shape[1:], a.dtype), xs)
        varies, shapes = _varies(body, carry, x0)
        carried = len(jax.tree.leaves(shapes[0]))
        keep = varies[carried:]
        # Outside the loop the residuals that no step changes come from one more evaluation at x_0, of which the
        # compiler keeps only them.
        _, y0 = body(carry, x0)
        once = jax.tree.leaves(y0)

        def kept(carry: Tree, x: Tree) -> tuple[Tree, list]:
            carry, y = body(carry, x)
            return carry, [leaf for leaf, v in zip(jax.tree.leaves(y), keep) if v]

        carry, stacked = jax.lax.scan(kept, carry, xs, length=length, reverse=reverse)
        rows = iter(stacked)
        leaves = iter([(next(rows) if v else leaf, v) for leaf, v in zip(once, keep)])

        def rebuild(y: Any) -> Any:
            mine = [next(leaves) for _ in jax.tree.leaves(y)]
            if _is_pull(y):
                values, varies = [leaf for leaf, _ in mine], [v for _, v in mine]
                return y.at(values).divided(varies, values)
            ((leaf, v),) = mine
            return leaf if v else jnp.broadcast_to(leaf, (n, *leaf.shape))

        return carry, jax.tree.map(rebuild, shapes[1], is_leaf=_is_pull)

    def compile(self, f: Callable) -> Callable:
        return jax.jit(f)

    def prepare(self, f: Any, *args: Tree) -> None:
        f.lower(*args).compile()

    def shapes(self, f: Callable, *args: Tree) -> Tree:
        return jax.eval_shape(f, *args)

    def wait(self, tree: Tree) -> Tree:
        return jax.block_until_ready(tree)

    def memory_plan(self, f: Callable, *args: Tree) -> int | None:
        jitted: Any = f if hasattr(f, "lower") else jax.jit(f)
        analysis = jitted.lower(*args).compile().memory_analysis()
        return None if analysis is None else int(analysis.temp_size_in_bytes)

    # pieces
    def relu(self, x: Any) -> Any:
        return jax.nn.relu(x)

    def logsumexp(self, x: Any, axis: int = -1) -> Any:
        return jax.nn.logsumexp(x, axis=axis)


def _open_pulls(f: Callable, xs: Tree) -> tuple[Callable, Tree]:
    """A body and xs without stacked pull-backs: shared residuals are closed over, varying ones sliced."""
    nodes, treedef = jax.tree.flatten(xs, is_leaf=_is_pull)
    if not any(map(_is_pull, nodes)):
        return f, xs

    def body(carry: Tree, slices: list) -> tuple[Tree, Tree]:
        opened = [node.at(s) if _is_pull(node) else s for node, s in zip(nodes, slices)]
        return f(carry, jax.tree.unflatten(treedef, opened))

    return body, [node.varying if _is_pull(node) else node for node in nodes]
