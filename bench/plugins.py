"""Methods and tasks by name: built in, from entry points, or `FILE.py:CLASS`."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from importlib.metadata import entry_points
from inspect import Parameter, signature
from pathlib import Path
from typing import Any

from backends.hypergradient import METHODS
from bench.errors import UserError
from tasks import TASKS

MANY = (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)  # *args and **kwargs need not be given


def method_class(name: str) -> Callable[..., Any]:
    """The class of a method."""
    of_file = ":" in name or name.endswith(".py")
    cls = _from_file(name) if of_file else _named(name, METHODS, "hypergrad_bench.methods", "method")
    missing = [what for what in ("__call__", "check", "estimand") if what not in dir(cls)]
    if missing or not isinstance(cls, type):
        raise UserError(
            f"method {name}: not a method class: it lacks {', '.join(missing) or 'being a class'}; "
            "a method has estimand, check(problem, horizon) and __call__(bk, problem, hparams, data, xs)"
        )
    return cls


def task_class(name: str) -> Callable[..., Any]:
    """The class of a task."""
    return _named(name, TASKS, "hypergrad_bench.tasks", "task")


def installed(group: str, name: str) -> list[Path]:
    """The file that an entry point's class is from, found without importing anything."""
    found = []
    for entry in entry_points(group=group, name=name):
        package, *inner = entry.module.split(".")
        spec = importlib.util.find_spec(package)
        if spec is not None and not inner:
            found += [Path(spec.origin)] if spec.origin else []
        for folder in spec.submodule_search_locations or [] if spec is not None and inner else []:
            module = Path(folder, *inner)
            found += [file for file in (module.with_suffix(".py"), module / "__init__.py") if file.is_file()]
    return found


def options(cls: Any) -> list[str]:
    """The names of a method's or task's options."""
    return [f.name for f in fields(cls)] if is_dataclass(cls) else []


def build(cls: Any, given: dict[str, Any], what: str) -> Any:
    """An instance; a wrong option is one line."""
    known = options(cls)
    for name in given:
        if known and name not in known:
            raise UserError(f"{what} has no option {name!r}; allowed are {', '.join(known) or 'none'}")
    wanted = [p.name for p in signature(cls).parameters.values() if p.default is p.empty and p.kind not in MANY]
    if lacking := [name for name in wanted if name not in given]:
        raise UserError(f"{what} needs the option {lacking[0]!r}; its options are {', '.join(known or wanted)}")
    try:
        return cls(**given)
    except TypeError as error:
        raise UserError(f"{what}: options {given} do not fit: {error}; its options are {', '.join(known)}") from error
    except ValueError as error:
        raise UserError(str(error)) from error


def _named(name: str, builtin: dict, group: str, what: str) -> Callable[..., Any]:
    if name in builtin:
        return builtin[name]
    extra = {e.name: e for e in entry_points(group=group)}
    if name in extra:
        return extra[name].load()
    raise UserError(f"unknown {what} {name!r}; allowed are {', '.join([*builtin, *extra])}")


def _from_file(name: str) -> Callable[..., Any]:
    path, _, cls = name.rpartition(":") if ":" in name else (name, "", "")
    file = Path(path)
    if not file.is_file():
        raise UserError(f"--method {name}: there is no file {path!r}; expected FILE.py:CLASS")
    module_name = "hypergrad_bench_method_" + hashlib.sha256(str(file.resolve()).encode()).hexdigest()[:12]
    spec = importlib.util.spec_from_file_location(module_name, file)
    if spec is None or spec.loader is None:
        raise UserError(f"--method {name}: {path!r} is not a Python file; expected FILE.py:CLASS")
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise UserError(f"--method {name}: importing {path!r} raised {type(error).__name__}: {error}") from error
    if not cls or not hasattr(module, cls):
        classes = [n for n, v in vars(module).items() if isinstance(v, type) and v.__module__ == module_name]
        wrong = f"{path!r} has no class {cls!r}" if cls else "which class? expected FILE.py:CLASS"
        raise UserError(f"--method {name}: {wrong}; the file has {', '.join(classes) or 'none'}")
    return getattr(module, cls)
