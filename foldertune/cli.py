"""The command `foldertune`."""

from __future__ import annotations

import importlib
import sys

COMMANDS = ("master", "worker", "status", "results", "report", "doctor")


def main() -> int:
    """Run one of the commands."""
    name = sys.argv[1]
    sys.argv[:2] = [f"foldertune {name}"]
    return int(importlib.import_module(f"foldertune.commands.{name}").main())
