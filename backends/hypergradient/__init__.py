"""The estimators, by the names that cells, commands and tables use."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from backends.hypergradient.cg import CG
from backends.hypergradient.fmd import FMD
from backends.hypergradient.krmd import KRMD, RMD
from backends.hypergradient.native import NativeCG, NativeFMD, NativeKRMD, NativeNeumann, NativeRMD
from backends.hypergradient.neumann import Neumann
from backends.hypergradient.protocol import Hypergrad, InvalidOption, Method, Problem, Sizes, Unsupported

__all__ = ["METHODS", "Hypergrad", "InvalidOption", "Method", "Problem", "Sizes", "Unsupported"]

METHODS: dict[str, Callable[..., Any]] = {
    "rmd": RMD,
    "krmd": KRMD,
    "fmd": FMD,
    "cg": CG,
    "neumann": Neumann,
    "native-rmd": NativeRMD,
    "native-krmd": NativeKRMD,
    "native-fmd": NativeFMD,
    "native-cg": NativeCG,
    "native-neumann": NativeNeumann,
}
"""Name → `Method` class whose keyword arguments are the method's options (`truncation`, `stash`, `chunk`)."""
