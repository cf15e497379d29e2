"""A checkup makes every check in turn, shows the findings as they come, and gives the verdict."""

from __future__ import annotations

import errno
import functools
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from foldertune.doctor.echoes import check_visibility
from foldertune.doctor.folder import check_folder, check_space
from foldertune.doctor.people import check_people
from foldertune.doctor.probes import (
    check_claims,
    check_hand_ins,
    check_lines,
    check_masters,
    check_replacing,
    check_sync,
    check_times,
)
from foldertune.doctor.study import check_leftovers, check_master, check_requests, check_running, check_study
from foldertune.doctor.verdict import verdict
from foldertune.doctor.visit import Finding, Visit, scratch_in
from foldertune.errors import UserError
from foldertune.protocol import BrokenFile, Folder, LeaseLost, host_name
from foldertune.text import printable

CHECKS: list[tuple[str, Callable[[Visit], Iterator[Finding]]]] = [
    ("space", check_space),
    ("people", check_people),
    ("claims", check_claims),
    ("hand-ins", check_hand_ins),
    ("replacing", check_replacing),
    ("lines", check_lines),
    ("storage", check_sync),
    ("times", check_times),
    ("masters", check_masters),
    ("echo", check_visibility),
    ("study", check_study),
    ("master", check_master),
    ("requests", check_requests),
    ("running", check_running),
    ("leftovers", check_leftovers),
]


def examine(logs: Path, second_mount: Path | None = None, wait: float = 0.0) -> bool:
    """Make every check and print the verdict. True if the folder can be used.

    Raises UserError if --second-mount is not the same folder.
    """
    checkup = Checkup()
    checkup.say(f"{logs}, seen from {host_name()}")
    checkup.make("folder", lambda: check_folder(logs))
    if not checkup.reasons:
        with scratch_in(logs) as scratch:
            if second_mount and not (second_mount / scratch.name).is_dir():
                raise UserError(f"--second-mount {second_mount}: is not the folder {logs}, mounted once more")
            mounts = [scratch, second_mount / scratch.name] if second_mount else [scratch]
            visit = Visit(Folder(logs), mounts, wait)
            for title, check in CHECKS:
                checkup.make(title, functools.partial(check, visit))
            if not checkup.reasons:
                checkup.say(verdict(visit))
                return True
    checkup.say(f"This folder can NOT be used because: {'; '.join(checkup.reasons)}.")
    return False


class Checkup:
    """Makes checks, shows their findings as they come, and keeps the reasons why the folder can't be used."""

    def __init__(self) -> None:
        from rich.console import Console  # here, so that --help is quick

        self._console = Console(highlight=False, soft_wrap=False)
        self.reasons: list[str] = []

    def make(self, title: str, check: Callable[[], Iterator[Finding]]) -> None:
        """Make one check and show its findings. An error of the filesystem is also a finding."""
        if self._console.is_terminal:
            self._console.print(f"  …     {title}", end="\r")
        try:
            findings = list(check())
        except (OSError, LeaseLost, BrokenFile) as error:
            findings = [_explain(error)]
        for finding in findings:
            self._show(title, finding)
            title = ""
        self.reasons += [finding.what for finding in findings if finding.mark == "bad"]

    def _show(self, title: str, finding: Finding) -> None:
        from rich.table import Table
        from rich.text import Text

        row = Table.grid(padding=(0, 2))
        row.add_column(width=4)
        row.add_column(width=9)
        row.add_column(overflow="fold")
        color = {"ok": "green", "note": "yellow", "bad": "bold red"}[finding.mark]
        row.add_row(Text(finding.mark, style=color), title, Text(finding.what))
        if finding.remedy:
            row.add_row("", "", Text(f"→ {finding.remedy}", style="dim"))
        self._console.print(row)

    def say(self, text: str) -> None:
        """Show a paragraph of text."""
        from rich.text import Text

        self._console.print(Text(printable(text)))


def _explain(error: Exception) -> Finding:
    if isinstance(error, LeaseLost | BrokenFile):
        return Finding("bad", "a trial was lost or broken although nobody touched it", "use another filesystem")
    number = error.errno if isinstance(error, OSError) else None
    remedies = {
        errno.EACCES: "ask its owner for the right to read, write and enter it",
        errno.EPERM: "ask its owner for the right to read, write and enter it",
        errno.EROFS: "mount it for writing",
        errno.ENOSPC: "make room",
        errno.EDQUOT: "make room, or ask for more: your quota is used up",
        errno.ETIMEDOUT: "see whether the file server is down (then ls hangs, too), and ask its administrator",
        errno.EXDEV: "replace mounts inside the folder by plain directories: renames must work across all of it",
    }
    what = os.strerror(number) if number else str(error)
    return Finding("bad", what[:1].lower() + what[1:], remedies.get(number or 0, "ask the file server's administrator"))
