"""Checks the folder itself: whether it exists, its filesystem, and the room in it."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from pathlib import Path

from foldertune.doctor.processes import together
from foldertune.doctor.visit import Finding, Visit, lacking, scratch_in
from foldertune.protocol import is_there, lack_of_rights

LOCAL = {"ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "f2fs", "bcachefs", "jfs", "reiserfs"}
NETWORK = {"nfs", "nfs4", "cifs", "smb3", "ceph", "lustre", "gpfs", "beegfs", "9p", "virtiofs", "afs", "orangefs"}


def mount_of(path: Path) -> tuple[str, str, str]:
    """Type, device and options of the filesystem that `path` is on. They are empty where /proc does not say."""
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
    """Checks that the folder exists and is writable, and names its filesystem.

    Another process looks first, because a dead server never answers.
    """
    try:
        together([functools.partial(os.listdir, logs)])
        with scratch_in(logs):
            pass
    except FileNotFoundError:
        yield Finding("bad", "there is no such folder", f"mount it, or if it is not a mount: mkdir -p {logs}")
        return
    except NotADirectoryError:
        yield Finding("bad", "it is not a directory", "choose another --logs")
        return
    except PermissionError:
        if (lack := lack_of_rights(logs)) is None:
            raise
        yield lacking("bad", lack)
        return
    kind, device, _ = mount_of(logs)
    where = f"{kind} on {device}"
    if kind in LOCAL:
        yield Finding("ok", f"writable; {where}, a disk of this machine")
    elif kind in NETWORK:
        yield Finding("ok", f"writable; {where}, on the network")
    elif kind == "tmpfs":
        remedy = "fine to try things out; to keep results, choose a folder on a disk"
        yield Finding("note", "writable; tmpfs, memory of this machine: lost when it restarts", remedy)
    elif kind == "overlay":
        remedy = "mount a folder of the host into the container, and use that"
        yield Finding("note", "writable; overlay, inside a container: may vanish with it", remedy)
    elif kind.startswith("fuse"):
        remedy = "try --second-mount and --answer: only they show what other machines see"
        yield Finding("note", f"writable; {where}, a filesystem made by a program", remedy)
    else:
        yield Finding("note", f"writable; {where if kind else 'its filesystem'} is unknown to this doctor")
    seen = logs / "seen"
    if is_there(seen) and (seen.is_symlink() or not seen.is_dir() or seen.is_mount()):
        yield Finding(
            "bad", "seen/ leads to another place", "replace it by a plain directory: files are renamed into it"
        )


def check_space(visit: Visit) -> Iterator[Finding]:
    """Checks that there is room for files. It can't see a quota."""
    status = os.statvfs(visit.logs.path)
    free, inodes = status.f_bavail * status.f_frsize, status.f_favail if status.f_files else None
    what = f"{free / 2**30:,.1f} GiB" + (f" and {inodes:,} inodes free" if inodes is not None else " free")
    scarce = free < 100 * 2**20 or (inodes is not None and inodes < 10_000)
    yield (
        Finding("note", what, "make room: a trial needs some kilobytes, and an inode")
        if scarce
        else Finding("ok", what)
    )
