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


def _floating(x: Any) -> bool:
    return jnp.issubdtype(jnp.result_type(x), jnp.floating)


class _OfFloats:
    """A function of trees as a function of their floating leaves; what has no derivative goes along as aux."""

    def __init__(self, f: Callable, primals: tuple) -> None:
        self.f = f
        self.leaves, self.treedef = jax.tree.flatten(primals)
        self.moving = [_floating(leaf) for leaf in self.leaves]
        self.at = [leaf for leaf, m in zip(self.leaves, self.moving) if m]
        self.wanted: list[bool] = []  # of the outputs, known once f was traced
        self.outs_def: Any = None

    def __call__(self, *floats: Any) -> tuple[list, list]:
        given = iter(floats)
        leaves = [next(given) if m else leaf for leaf, m in zip(self.leaves, self.moving)]
        outs, self.outs_def = jax.tree.flatten(self.f(*jax.tree.unflatten(self.treedef, leaves)))
        self.wanted = [_floating(o) for o in outs]
        return [o for o, w in zip(outs, self.wanted) if w], [o for o, w in zip(outs, self.wanted) if not w]

    def out(self, floats: list, others: list) -> Tree:
        """The function's value from both halves."""
        given, rest = iter(floats), iter(others)
        return jax.tree.unflatten(self.outs_def, [next(given if w else rest) for w in self.wanted])

    def tangents(self, dots: tuple) -> list:
        """Of the floating primals."""
        return [dot for dot, m in zip(self.treedef.flatten_up_to(dots), self.moving) if m]

    def cotangents(self, tree: Tree) -> list:
        """Of the floating outputs."""
        return [ct for ct, w in zip(self.outs_def.flatten_up_to(tree), self.wanted) if w]

    def gradients(self, found: Any) -> tuple:
        """Shaped like the primals; zero where there is no derivative."""
        given = iter(found)
        full = [next(given) if m else jnp.zeros_like(leaf) for leaf, m in zip(self.leaves, self.moving)]
        return jax.tree.unflatten(self.treedef, full)


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
        leaves, treedef = jax.tree.flatten(tree)
        flat, unravel_moving = ravel_pytree([leaf for leaf in leaves if _floating(leaf)])

        def unravel(vector: jax.Array) -> Tree:
            moving = iter(unravel_moving(vector))
            return jax.tree.unflatten(treedef, [next(moving) if _floating(leaf) else leaf for leaf in leaves])

        return flat, unravel

    # transforms
    def value_and_grad(self, f: Callable, argnums: Any = 0) -> Callable:
        one = isinstance(argnums, int)
        nums = (argnums,) if one else tuple(argnums)

        def evaluate(*args: Tree) -> tuple:
            def of_selected(*selected: Tree) -> Any:
                full = list(args)
                for i, s in zip(nums, selected):
                    full[i] = s
                return f(*full)

            value, pull = self.vjp(of_selected, *(args[i] for i in nums))
            grads = pull(jnp.ones_like(value))
            return value, grads[0] if one else grads

        return evaluate

    def vjp(self, f: Callable, *primals: Tree) -> tuple[Tree, Callable]:
        of_floats = _OfFloats(f, primals)
        values, pull, others = jax.vjp(of_floats, *of_floats.at, has_aux=True)
        return of_floats.out(values, others), lambda ct: of_floats.gradients(pull(of_floats.cotangents(ct)))

    def jvp(self, f: Callable, primals: Any, tangents: Any) -> tuple[Tree, Tree]:
        of_floats = _OfFloats(f, tuple(primals))
        dots = of_floats.tangents(tuple(tangents))
        values, moved, others = jax.jvp(of_floats, of_floats.at, dots, has_aux=True)
        return of_floats.out(values, others), of_floats.out(moved, [jnp.zeros_like(o) for o in others])

    def vmap(self, f: Callable, in_axes: Any = 0) -> Callable:
        return jax.vmap(f, in_axes)

    def scan(
        self, f: Callable, carry: Tree, xs: Tree, *, length: int | None = None, reverse: bool = False
    ) -> tuple[Tree, Tree]:
        return jax.lax.scan(f, carry, xs, length=length, reverse=reverse)

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
