"""Memory of a call in eager PyTorch: the peak of live storages.

JAX plans its memory when it compiles, on every device; on a GPU PyTorch's allocator counts.
"""

from __future__ import annotations

import weakref
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves as dispatched_leaves


class LiveStorages(TorchDispatchMode):
    """`peak`: the largest number of bytes alive at one time in storages born under the mode, whoever keeps them: a
    variable, a stash, an autograd graph.  Never time a call under it."""

    def __init__(self) -> None:
        super().__init__()
        self.live = self.peak = 0
        self._known: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        arguments = {t.untyped_storage()._cdata for t in dispatched_leaves((args, kwargs)) if torch.is_tensor(t)}
        out = func(*args, **(kwargs or {}))
        for t in dispatched_leaves(out):
            # A view shares the storage of an argument: nothing is born.  A symbolic zero tangent has no storage.
            if torch.is_tensor(t) and not t._is_zerotensor() and t.untyped_storage()._cdata not in arguments:
                self._born(t.untyped_storage())
        return out

    def _born(self, storage: Any) -> None:
        if storage in self._known:
            return
        size = storage.nbytes()
        self._known[storage] = size
        self.live += size
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self._died, size)

    def _died(self, size: int) -> None:
        self.live -= size
