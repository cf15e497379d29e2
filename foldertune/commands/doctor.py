"""Is this folder fit for a search? And which lease should the master give?

    {program} --logs /shared/me/lr
    {program} --logs /shared/me/lr --answer
                on another machine, and then the first here: how soon does one
                machine see what another did?
    {program} --logs /shared/me/lr --second-mount /mnt/lr

It tries what a search does (claim, append, hand in, …) with trials of its own,
in a hidden folder inside yours that it removes again. `echo` is the time until
a change (a new name, a rename, a file's time, a line) is seen and answered.
Your trials are only looked at: it may run while a search does. It ends with a
verdict and with exit code 0 if the folder can be used, 1 if not, 2 for bad
usage.

What it can't know: how machines that do not --answer see the folder, whether
claims of two machines exclude each other (only those of this machine and its
--second-mount are raced), your quota, and what the file server does with what
it says is on its disk when the power fails.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import functools
import json
import math
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from foldertune.commands.options import add_logs, seconds
from foldertune.doctor.echoes import answer, check_visibility
from foldertune.doctor.probes import (
    Finding,
    Visit,
    check_claims,
    check_hand_ins,
    check_lines,
    check_locks,
    check_replacing,
    check_sync,
    check_times,
    in_words,
    is_left_over,
    scratch_in,
    together,
)
from foldertune.errors import UserError
from foldertune.protocol import DEFAULT_LEASE, BrokenFile, Folder, LeaseLost, TrialName, has_died, host_name, printable

LOCAL = {"ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "f2fs", "bcachefs", "jfs", "reiserfs"}
NETWORK = {"nfs", "nfs4", "cifs", "smb3", "ceph", "lustre", "gpfs", "beegfs", "9p", "virtiofs", "afs", "orangefs"}
LOCAL_LEASE, DELAYS_PER_LEASE = 30.0, 3  # see `recommend`
SHOWN, LOOKED_INTO = 3, 1000  # trials: in lines of their own; whose files are read


# ---------------------------------------------------------------- the folder


def mount_of(path: Path) -> tuple[str, str, str]:
    """Type, device and options of the filesystem that `path` is on; empty where /proc does not say."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        number = Path(f"/proc/self/fdinfo/{descriptor}").read_text().partition("mnt_id:")[2].split()[0]
        for line in Path("/proc/self/mountinfo").read_text().splitlines():
            if line.split()[0] == number:
                kind, device, options = line.partition(" - ")[2].split(" ", 2)
                return kind, device, options
    except (OSError, IndexError, ValueError):
        pass
    finally:
        os.close(descriptor)
    return "", "", ""


def check_folder(logs: Path) -> Iterator[Finding]:
    """Is it there, can we write, and what is it on? A process of its own looks first: a dead server never answers."""
    try:
        together([functools.partial(os.listdir, logs)])
        with scratch_in(logs):
            pass
    except FileNotFoundError:
        yield Finding("bad", "there is no such folder", f"if nothing is to be mounted there: mkdir -p {logs}")
        return
    except NotADirectoryError:
        yield Finding("bad", "it is not a directory", "choose another --logs")
        return
    kind, device, _ = mount_of(logs)
    where = f"{kind} on {device}"
    if kind in LOCAL:
        yield Finding("ok", f"writable; {where}, a disk of this machine")
    elif kind in NETWORK:
        yield Finding("ok", f"writable; {where}, on the network")
    elif kind == "tmpfs":
        remedy = "good for trying out; to keep results, choose a folder on a disk"
        yield Finding("note", "writable; tmpfs, memory of this machine: gone when it restarts", remedy)
    elif kind == "overlay":
        remedy = "mount a folder of the host into the container, and use that"
        yield Finding("note", "writable; overlay, a container's own: perhaps gone with it", remedy)
    elif kind.startswith("fuse"):
        remedy = "what it does for other machines, only --second-mount and --answer can show"
        yield Finding("note", f"writable; {where}, a program plays filesystem", remedy)
    else:
        yield Finding("note", f"writable; {where if kind else 'its filesystem'} is unknown to this doctor")
    seen = logs / "seen"
    if os.path.lexists(seen) and (seen.is_symlink() or not seen.is_dir() or os.path.ismount(seen)):
        yield Finding("bad", "seen/ leads to another place", "put a plain directory there: renames must reach it")


def check_space(visit: Visit) -> Iterator[Finding]:
    """Room for files. A quota can't be seen from here."""
    status = os.statvfs(visit.logs.path)
    free, inodes = status.f_bavail * status.f_frsize, status.f_favail if status.f_files else None
    what = f"{free / 2**30:,.1f} GiB" + (f" and {inodes:,} inodes free" if inodes is not None else " free")
    scarce = free < 100 * 2**20 or (inodes is not None and inodes < 10_000)
    yield (
        Finding("note", what, "make room: a trial needs some kilobytes, and an inode")
        if scarce
        else Finding("ok", what)
    )


# ---------------------------------------------------------------- the search that is there


def check_master(visit: Visit) -> Iterator[Finding]:
    """Who is the master? Its lock is not touched, for a master that starts just now would stumble over us."""
    holder, lock = visit.logs.path / ".master.json", visit.logs.path / ".master.lock"
    try:
        who = json.loads(holder.read_text())
        what, host = f"process {who['pid']} on {who['host']} since {who['since']}", who["host"]
    except FileNotFoundError:
        yield Finding("ok", "none has been here yet")
        return
    except (ValueError, KeyError, TypeError):
        yield Finding("note", ".master.json can't be read", "nothing: the next master writes it again")
        return
    if host != host_name():
        yield Finding("ok", f"{what}, or has ended: only there it can be seen")
    elif _is_locked(lock):
        yield Finding("ok", f"{what}")
    elif visit.logs.is_complete() or not visit.names():
        yield Finding("ok", "none runs on this machine, and none is needed")
    else:
        yield Finding("note", f"none runs on this machine; the last was {what}", "start it again with the same command")


def _is_locked(path: Path) -> bool:
    """Does a process of this machine hold a lock on that file? Asked of the kernel, without trying it."""
    try:
        inode = path.stat().st_ino
        return any(f":{inode} " in line for line in Path("/proc/locks").read_text().splitlines())
    except OSError:
        return False


def check_running(visit: Visit) -> Iterator[Finding]:
    """Who works on what, and when did they last show a sign of life? By the clock that stamps the files."""
    now, running = visit.server_time(), []
    for name in visit.names():
        if name.state == "taken":
            with contextlib.suppress(OSError):  # it has moved on
                running.append((now - os.lstat(visit.logs.locate(name)).st_mtime, name))
    for silence, name in sorted(running, key=lambda pair: -pair[0])[:SHOWN]:
        yield _judge(visit, name, max(silence, 0.0))
    if len(running) != 0 and len(running) <= SHOWN:
        return
    yield Finding("ok", f"and {len(running) - SHOWN} more, heard of since" if running else "no trial")


def _judge(visit: Visit, name: TrialName, silence: float) -> Finding:
    what = f"trial {name.label} by {name.owner}, silent for {in_words(silence)}"
    try:
        trial = visit.logs.read(name)
    except (OSError, BrokenFile):
        return Finding("ok", what)  # gone, or one of the leftovers
    if has_died(trial.claim):
        return Finding(
            "note", f"trial {name.label}: its worker {name.owner} died", "nothing: the master tries it again"
        )
    if silence > (trial.lease or DEFAULT_LEASE):
        return Finding("note", f"{what}, longer than its lease", "nothing: the master, when it runs, tries it again")
    return Finding("ok", what)


def check_leftovers(visit: Visit) -> Iterator[Finding]:
    """What lies in the folder that no program will touch, or that a person wonders about."""
    found: dict[tuple[str, str], list[str]] = {}
    for parent in (visit.logs.path, visit.logs.seen):
        with contextlib.suppress(FileNotFoundError), os.scandir(parent) as entries:
            for entry in entries:
                if complaint := _complain(entry, visit):
                    found.setdefault(complaint, []).append(entry.name)
    for name in visit.names()[:LOOKED_INTO]:
        try:
            visit.logs.read(name)
        except (BrokenFile, PermissionError):
            if Path(visit.logs.locate(name)).is_file() and not Path(visit.logs.locate(name)).is_symlink():
                remedy = "nothing: the master sets it aside and tries the trial again"
                found.setdefault(("broken or unreadable", remedy), []).append(str(name))
        except OSError:
            continue
    for (what, remedy), names in found.items():
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        yield Finding("note", f"{printable(min(names))}{more}: {what}", remedy)
    if not found:
        yield Finding("ok", "none")


def _complain(entry: os.DirEntry[str], visit: Visit) -> tuple[str, str] | None:
    name, place = TrialName.parse(entry.name), Path(entry.path).parent
    if name is None:
        if entry.name.startswith(".") and entry.name.endswith(".tmp"):
            return "half written", "nothing: the master removes it when it starts"
        if entry.name.startswith(".doctor-") and is_left_over(Path(entry.path)):
            return "of a doctor that was killed", "rm -r it"
        if entry.name.lower().startswith("trial-"):
            return "is no trial's name, so nobody takes it", "mv it to a name such as trial-00007-1.jsonl"
        return None
    if not entry.is_file(follow_symlinks=False):
        return "is no plain file", "move it away; the master, when it meets it, sets it aside"
    if Path(visit.logs.locate(name)).parent != place:
        return "lies in the wrong directory", f"mv it to {os.path.relpath(visit.logs.locate(name), visit.logs.path)}"
    return None


def check_study(visit: Visit) -> Iterator[Finding]:
    """The study's definition must be there as soon as a trial has left the state in which a person may queue it."""
    try:
        study = visit.logs.read_study()
    except BrokenFile:
        remedy = "put a good copy back; or, to begin anew, use another --logs"
        yield Finding("bad", "study.json is broken: no master starts", remedy)
        return
    if study is not None:
        name = printable(str(study.get("name", "")))
        yield Finding("ok", f"{name}: complete" if visit.logs.is_complete() else name)
    elif any(name.state != "pending" for name in (*visit.names(), *visit.logs.settled())):
        yield Finding("bad", "study.json is missing while trials are there", "put it back; or use another --logs")
    else:
        yield Finding("ok", "none yet: the first master brings it")


# ---------------------------------------------------------------- the verdict


def is_local(visit: Visit) -> bool:
    """Is the folder on a disk (or in the memory) of this machine, and nobody far away has answered?"""
    return mount_of(visit.logs.path)[0] in LOCAL | {"tmpfs"} and not visit.far


def recommend(visit: Visit) -> float:
    """The lease in seconds.

    A worker shows signs of life twelve times a lease, at least every 15 s, and the master sees each after the delay of
    the filesystem's caches. So it may see silence for delay + lease/12 though all is well. With a lease of three
    delays that is less than half of it, and the rest is for pauses: a server that restarts, a machine that swaps.
    The default, 180 s, is three times the 60 s for which an NFS client caches what seems not to change. A measured
    delay can be shorter than that (what is new is cached for 3 s only), so it can lengthen the lease but not shorten
    it; so can a mount option. On a disk of this machine nothing is cached, and a dead worker is known at once by its
    process: 30 s are for one that hangs, or is stopped.
    """
    caches = [float(n) for n in re.findall(r"\b(?:actimeo|ac(?:reg|dir)max)=(\d+)", mount_of(visit.logs.path)[2])]
    least = LOCAL_LEASE if is_local(visit) else DEFAULT_LEASE
    return max(least, math.ceil(DELAYS_PER_LEASE * max([visit.delay, *caches]) / 10) * 10)


def verdict(visit: Visit) -> str:
    """What to do, for a folder that can be used."""
    lease = recommend(visit)
    if lease == DEFAULT_LEASE:
        return f"This folder can be used; lease: {lease:g} s (the default)."
    text = f"This folder can be used; lease: {lease:g} s (master.py --lease {lease:g})"
    return text + (
        f" if all workers run on this machine, else {DEFAULT_LEASE:g} s (the default)." if is_local(visit) else "."
    )


CHECKS: list[tuple[str, Callable[[Visit], Iterator[Finding]]]] = [
    ("space", check_space),
    ("claims", check_claims),
    ("hand-ins", check_hand_ins),
    ("replacing", check_replacing),
    ("lines", check_lines),
    ("storage", check_sync),
    ("times", check_times),
    ("locks", check_locks),
    ("echo", check_visibility),
    ("study", check_study),
    ("master", check_master),
    ("running", check_running),
    ("leftovers", check_leftovers),
]


class Report:
    """Shows findings as they come, and remembers the bad ones."""

    def __init__(self) -> None:
        from rich.console import Console

        self._console = Console(highlight=False, soft_wrap=False)
        self.reasons: list[str] = []

    def add(self, title: str, check: Callable[[], Iterator[Finding]]) -> None:
        """Make a check and show what it finds. Trouble with the filesystem is a finding, too."""
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
        """A paragraph."""
        from rich.text import Text

        self._console.print(Text(printable(text)))


def _explain(error: Exception) -> Finding:
    if isinstance(error, LeaseLost | BrokenFile):
        return Finding("bad", "a trial was lost or broken though nobody touched it", "use another filesystem")
    number = error.errno if isinstance(error, OSError) else None
    remedies = {
        errno.EACCES: "ask its owner for the right to read, write and enter it",
        errno.EPERM: "ask its owner for the right to read, write and enter it",
        errno.EROFS: "mount it for writing",
        errno.ENOSPC: "make room",
        errno.EDQUOT: "make room, or ask for more: your quota is used up",
        errno.ETIMEDOUT: "is the file server down? Then ls hangs, too; ask who runs it",
        errno.EXDEV: "put plain directories where others are mounted: renames must reach all of it",
    }
    what = os.strerror(number) if number else str(error)
    return Finding("bad", what[:1].lower() + what[1:], remedies.get(number or 0, "ask who runs the file server"))


# ---------------------------------------------------------------- the program


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options."""
    add_logs(parser)
    parser.add_argument(
        "--second-mount", type=Path, metavar="DIR", help="where this machine mounts the same folder again"
    )
    parser.add_argument("--answer", action="store_true", help="answer a doctor on another machine")
    parser.add_argument(
        "--wait", type=seconds(0), default=2.0, metavar="SECONDS", help="for others to turn up who answer (default: 2)"
    )


def main(arguments: argparse.Namespace) -> int:
    """Examine the folder, or answer one who does."""
    if arguments.wait > 3600:
        raise UserError("--wait: must be 0 to 3600 seconds")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    return answer(arguments.logs) if arguments.answer else examine(arguments)


def examine(arguments: argparse.Namespace) -> int:
    """All checks, and the verdict. Exit code 0 if the folder can be used, 1 if not."""
    logs, second, report = arguments.logs, arguments.second_mount, Report()
    report.say(f"{logs}, seen from {host_name()}")
    report.add("folder", lambda: check_folder(logs))
    if not report.reasons:
        with scratch_in(logs) as scratch:
            if second and not (second / scratch.name).is_dir():
                raise UserError(f"--second-mount {second}: is not the folder {logs}, mounted once more")
            mounts = [scratch, second / scratch.name] if second else [scratch]
            visit = Visit(Folder(logs), mounts, arguments.wait)
            for title, check in CHECKS:
                report.add(title, functools.partial(check, visit))
            if not report.reasons:
                report.say(verdict(visit))
                return 0
    report.say(f"This folder can NOT be used because: {'; '.join(report.reasons)}.")
    return 1
