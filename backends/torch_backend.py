"""The protocol in PyTorch: classic autograd where it can be, `torch.func` inside the backend's own `vmap` and `jvp`.

Classic autograd keeps no graph that a pull-back does not need: outside every other transform, `vjp` runs on detached
leaves and returns a detached value, so a scan of steps is as light as a loop under `no_grad`.  Inside another transform
of this backend, or where a primal itself requires a gradient (a user differentiates through us), the graph is recorded.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import array_api_compat.torch as xp
import numpy as np
import optree
import torch
from torch.overrides import TorchFunctionMode

from backends.hypergradient.protocol import Problem
from backends.memory import LiveStorages
from backends.protocol import Tree, Unavailable

NAMESPACE = "hypergrad-bench"


def _flatten(tree: Tree) -> tuple[list, Any]:
    """The leaves of a tree and its structure."""
    return optree.tree_flatten(tree, namespace=NAMESPACE)


def _like(x: Any, other: Any) -> Any:
    """A Python float that meets a 0-d tensor, as such a tensor."""
    if isinstance(x, float) and torch.is_tensor(other) and other.ndim == 0 and other.is_floating_point():
        return torch.full((), x, dtype=other.dtype, device=other.device)
    return x


class _KeepScalarDtype(TorchFunctionMode):
    """In forward mode a 0-d float32 tensor times a Python float gets a float64 tangent; times a tensor it does not."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if len(args) == 2:
            args = (_like(args[0], args[1]), _like(args[1], args[0]))
        return func(*args, **(kwargs or {}))


def _transforming() -> bool:
    """Is a `torch.func` transform open?  Classic autograd does not see through its wrappers."""
    return torch._C._functorch.peek_interpreter_stack() is not None  # pyright: ignore[reportAttributeAccessIssue] - there is no public way to ask


class TorchBackend:
    """Eager PyTorch on one device."""

    name = "torch"
    lane = "eager"
    xp: Any = xp

    def __init__(self, dtype: str = "float32", device: str = "cpu") -> None:
        self.dtype, self.device = dtype, device
        self._float: torch.dtype = getattr(torch, dtype)
        if device.startswith("cuda"):
            if not torch.cuda.is_available():
                raise Unavailable(f"torch {torch.__version__} has no device {device!r} here")
            index = int(device.partition(":")[2] or 0)
            if index >= torch.cuda.device_count():
                raise Unavailable(f"torch has no device {device!r} here: {torch.cuda.device_count()} CUDA devices")
            # A float32 product is a float32 product in both frameworks: no TF32.
            torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
        self._device = torch.device(device)
        self._depth = 0  # of this backend's own vjp and value_and_grad whose function is running now

    # arrays and trees
    def asarray(self, x: Tree) -> Tree:
        return optree.tree_map(self._asarray, x, namespace=NAMESPACE)

    def _asarray(self, x: Any) -> torch.Tensor:
        t = x if torch.is_tensor(x) else torch.as_tensor(np.array(x))
        return t.to(device=self._device, dtype=self._float if t.is_floating_point() else t.dtype)

    def to_numpy(self, x: Tree) -> Tree:
        return optree.tree_map(lambda t: t.detach().cpu().numpy(), x, namespace=NAMESPACE)

    def map(self, f: Callable, *trees: Tree) -> Tree:
        return optree.tree_map(f, *trees, namespace=NAMESPACE)

    def leaves(self, tree: Tree) -> list:
        return optree.tree_leaves(tree, namespace=NAMESPACE)

    def dot(self, a: Tree, b: Tree) -> torch.Tensor:
        pairs = zip(self.leaves(a), self.leaves(b), strict=True)
        products = [torch.dot(x.reshape(-1), y.reshape(-1)) for x, y in pairs]
        return (
            sum(products[1:], start=products[0])
            if products
            else torch.zeros((), dtype=self._float, device=self._device)
        )

    def ravel(self, tree: Tree) -> tuple[torch.Tensor, Callable]:
        leaves, treedef = _flatten(tree)
        moving = [leaf for leaf in leaves if leaf.is_floating_point()]
        sizes = [leaf.numel() for leaf in moving]

        def unravel(flat: torch.Tensor) -> Tree:
            parts = iter(torch.split(flat, sizes) if sizes else [])
            return treedef.unflatten(
                [next(parts).reshape(leaf.shape) if leaf.is_floating_point() else leaf for leaf in leaves]
            )

        flat = (
            torch.cat([leaf.reshape(-1) for leaf in moving])
            if moving
            else torch.zeros(0, dtype=self._float, device=self._device)
        )
        return flat, unravel

    # transforms
    def _linearise(self, f: Callable, primals: tuple) -> tuple[Tree, Callable]:
        """f's value and its pull-back by classic autograd."""
        flat, treedef = _flatten(primals)
        recording = self._depth > 0 or (torch.is_grad_enabled() and any(p.requires_grad for p in flat))
        # An alias keeps a recorded primal's history and is still a point of its own to differentiate at.
        leaves = [
            p.view_as(p) if recording and p.requires_grad else p.detach().requires_grad_(p.is_floating_point())
            for p in flat
        ]
        self._depth += 1
        try:
            with torch.enable_grad():
                out = f(*treedef.unflatten(leaves))
        finally:
            self._depth -= 1
        outs, out_def = _flatten(out)
        active = [o for o in outs if o.requires_grad]
        wanted = [p for p in leaves if p.requires_grad]

        def pull(cotangent: Tree, keep: bool = True) -> tuple:
            cts = self.leaves(cotangent)
            if len(cts) != len(outs):
                raise ValueError(f"the cotangent has {len(cts)} arrays, the function's value has {len(outs)}")
            cts = [c for c, o in zip(cts, outs) if o.requires_grad]
            again = recording or (torch.is_grad_enabled() and any(c.requires_grad for c in cts))
            found: Any = (None,) * len(wanted)
            if active:
                found = torch.autograd.grad(
                    active, wanted, cts, retain_graph=keep or again, create_graph=again, allow_unused=True
                )
            rest = iter(found)
            grads = [next(rest) if p.requires_grad else None for p in leaves]
            return treedef.unflatten([torch.zeros_like(p) if g is None else g for p, g in zip(flat, grads)])

        return (out if recording else out_def.unflatten([o.detach() for o in outs])), pull

    def value_and_grad(self, f: Callable, argnums: Any = 0) -> Callable:
        one = isinstance(argnums, int)
        nums = (argnums,) if one else tuple(argnums)

        def evaluate(*args: Tree) -> tuple:
            def of_selected(*selected: Tree) -> Any:
                full = list(args)
                for i, s in zip(nums, selected):
                    full[i] = s
                return f(*full)

            selected = tuple(args[i] for i in nums)
            if _transforming():
                value, pull = self._vjp_transformed(of_selected, selected)
                grads = pull(torch.ones_like(value))
            else:
                value, pull = self._linearise(of_selected, selected)
                grads = pull(torch.ones_like(value), keep=False)
            return value, grads[0] if one else grads

        return evaluate

    def vjp(self, f: Callable, *primals: Tree) -> tuple[Tree, Callable]:
        return self._vjp_transformed(f, primals) if _transforming() else self._linearise(f, primals)

    def _vjp_transformed(self, f: Callable, primals: tuple) -> tuple[Tree, Callable]:
        flat, treedef = _flatten(primals)
        out_def: Any = None

        def of_leaves(*leaves: torch.Tensor) -> tuple:
            nonlocal out_def
            outs, out_def = _flatten(f(*treedef.unflatten(leaves)))
            return tuple(outs)

        outs, pull = torch.func.vjp(of_leaves, *flat)  # pyright: ignore[reportAssignmentType] - the stub has `has_aux`'s three values, too

        def pull_tree(cotangent: Tree) -> tuple:
            return treedef.unflatten(pull(tuple(self.leaves(cotangent))))

        return out_def.unflatten(outs), pull_tree

    def jvp(self, f: Callable, primals: Any, tangents: Any) -> tuple[Tree, Tree]:
        flat, treedef = _flatten(tuple(primals))
        dots = self.leaves(tuple(tangents))
        moving = [i for i, p in enumerate(flat) if p.is_floating_point()]
        out_def: Any = None

        def of_leaves(*leaves: torch.Tensor) -> tuple:
            nonlocal out_def
            full = list(flat)
            for i, leaf in zip(moving, leaves):
                full[i] = leaf
            outs, out_def = _flatten(f(*treedef.unflatten(full)))
            return tuple(outs)

        with _KeepScalarDtype():
            outs, out_dots = torch.func.jvp(  # pyright: ignore[reportAssignmentType] - as with vjp
                of_leaves, tuple(flat[i] for i in moving), tuple(dots[i].to(flat[i].dtype) for i in moving)
            )
        return out_def.unflatten(outs), out_def.unflatten(out_dots)

    def vmap(self, f: Callable, in_axes: Any = 0) -> Callable:
        def mapped(*args: Tree) -> Tree:
            axes = in_axes if isinstance(in_axes, tuple) else (in_axes,) * len(args)
            flat, treedef = _flatten(args)
            flat_axes = [a for arg, axis in zip(args, axes) for a in self._axes(arg, axis)]
            out_def: Any = None

            def of_leaves(*leaves: torch.Tensor) -> tuple:
                nonlocal out_def
                outs, out_def = _flatten(f(*treedef.unflatten(leaves)))
                return tuple(outs)

            outs = torch.func.vmap(of_leaves, in_dims=tuple(flat_axes))(*flat)
            return out_def.unflatten(outs)

        return mapped

    def _axes(self, arg: Tree, axis: Any) -> list:
        n = len(self.leaves(arg))
        if axis is None or isinstance(axis, int):
            return [axis] * n
        return optree.tree_leaves(axis, none_is_leaf=True, namespace=NAMESPACE)

    def scan(
        self, f: Callable, carry: Tree, xs: Tree, *, length: int | None = None, reverse: bool = False
    ) -> tuple[Tree, Tree]:
        """A loop.  With no steps there are no ys to know the shape of: they are None, an empty tree."""
        rows, xs_def = _flatten(xs)
        n = length if length is not None else int(rows[0].shape[0])
        if any(row.shape[0] != n for row in rows):
            raise ValueError(f"scan over arrays of different lengths: {[row.shape[0] for row in rows]}, expected {n}")
        slices = [row.unbind() for row in rows]
        stash: list[Any] = []
        ys_def: Any = None
        for done, i in enumerate(reversed(range(n)) if reverse else range(n)):
            new, y = f(carry, xs_def.unflatten([row[i] for row in slices]))
            if not done:
                self._check_carry(carry, new)
                ys, ys_def = _flatten(y)
                stash = [self._stash(leaf, n) for leaf in ys]
            if stash:
                for s, leaf in zip(stash, self.leaves(y)):
                    s[i] = leaf
            carry = new
        stacked = [torch.stack(s) if isinstance(s, list) else s for s in stash]
        return carry, ys_def.unflatten(stacked) if ys_def is not None else None

    def _stash(self, leaf: torch.Tensor, n: int) -> Any:
        """Where n values of a scan's output go.  Preallocated: a list stacked at the end would double the peak."""
        if _transforming() or leaf.requires_grad:
            return [None] * n
        return torch.empty((n, *leaf.shape), dtype=leaf.dtype, device=leaf.device)

    def _check_carry(self, before: Tree, after: Tree) -> None:
        paths, old, before_def = optree.tree_flatten_with_path(before, namespace=NAMESPACE)
        new, after_def = _flatten(after)
        if before_def != after_def:
            raise TypeError(f"the scanned function changes the carry's structure from {before_def} to {after_def}")
        for path, a, b in zip(paths, old, new):
            if a.shape != b.shape or a.dtype != b.dtype:
                raise TypeError(
                    f"the scanned function changes the carry's leaf {list(path)} from "
                    f"{tuple(a.shape)} {a.dtype} to {tuple(b.shape)} {b.dtype}"
                )

    def compile(self, f: Callable) -> Callable:
        return f

    def prepare(self, f: Callable, *args: Tree) -> None:
        """Nothing: eager PyTorch compiles nothing."""

    def shapes(self, f: Callable, *args: Tree) -> Tree:
        return f(*args)

    def wait(self, tree: Tree) -> Tree:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return tree

    def memory_plan(self, f: Callable, *args: Tree) -> int | None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
            torch.cuda.reset_peak_memory_stats(self._device)
            before = torch.cuda.memory_allocated(self._device)
            self.wait(f(*args))
            return torch.cuda.max_memory_allocated(self._device) - before
        with LiveStorages() as tracker:
            f(*args)
        return tracker.peak

    # pieces
    def relu(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(x)

    def logsumexp(self, x: torch.Tensor, axis: int = -1) -> torch.Tensor:
        return torch.logsumexp(x, dim=axis)


class CompiledTorchBackend(TorchBackend):
    """PyTorch with Φ compiled by `torch.compile`; the loops over its steps stay eager.

    Inside `vmap` and `jvp` (FMD) Φ runs as it is: `torch.compile` does not work under `torch.func`.
    """

    name = "torch:compiled"
    lane = "compiled"

    def compile(self, f: Callable) -> Callable:
        """`f` is `partial(method, bk, problem)`: the same with the problem's `step` compiled."""
        if not isinstance(f, partial):
            return f
        args = [self._with_compiled_step(a) if isinstance(a, Problem) else a for a in f.args]
        return partial(f.func, *args, **f.keywords)

    def _with_compiled_step(self, problem: Problem) -> Problem:
        compiled = torch.compile(problem.step, dynamic=False)

        def step(w: Tree, theta: Tree, data: Tree, x: Tree) -> Tree:
            return (problem.step if _transforming() else compiled)(w, theta, data, x)

        return problem.replace(step=step)
