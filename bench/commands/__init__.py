"""The commands, a file for those of one purpose.  Each has an example in its help; the work is done elsewhere.

group       what they share
run         compute records
look        status, report, claims, compare
publish     readme, targets, golden
crosscheck  PyTorch against JAX
lists       methods, tasks, data
"""

from __future__ import annotations

from bench.commands import crosscheck, lists, look, publish, run
from bench.commands.group import cli

__all__ = ["cli", "crosscheck", "lists", "look", "publish", "run"]
