"""Finds several studies, and gives them distinct names."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foldertune.reading.archive import is_study
from foldertune.reading.reader import read_results
from foldertune.reading.results import Results


@dataclass(frozen=True)
class Entry:
    """One of several studies."""

    name: str  # the folder's name, with a number if two folders have the same name
    results: Results

    @property
    def title(self) -> str:
        """The study's heading on a page of several studies."""
        study = self.results.study.name
        return study if study == self.name else f"{study} ({self.name})"


def read_all(paths: Sequence[Path]) -> list[Entry]:
    """All studies in these folders and directly below them. Raises StudyError and OSError."""
    entries: list[Entry] = []
    for path in find_studies(paths):
        name, number = path.resolve().name, 1
        while any(entry.name == name for entry in entries):
            number += 1
            name = f"{path.resolve().name} {number}"
        entries.append(Entry(name, read_results(path)))
    return entries


def prefixes_of(entries: Sequence[Entry]) -> list[str]:
    """The prefix of the file names of each study's figures; empty if there is only one study."""
    if len(entries) == 1:
        return [""]
    stems = [re.sub(r"[^A-Za-z0-9_-]+", "-", entry.name) for entry in entries]
    return [f"{stem}-{k}-" if stems.count(stem) > 1 else f"{stem}-" for k, stem in enumerate(stems, start=1)]


def find_studies(paths: Sequence[Path]) -> list[Path]:
    """The folders of studies. Any other directory stands for the studies directly below it, in natural order."""
    found: list[Path] = []
    for path in paths:
        below = [child for child in path.iterdir() if is_study(child)] if path.is_dir() and not is_study(path) else []
        found += sorted(below, key=_natural) or [path]
    return found


def _natural(path: Path) -> list[Any]:
    """A key for the natural order, in which `lr-10` follows `lr-9`."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", path.name)]
