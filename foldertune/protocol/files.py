"""Safe bytes: files are opened without following links, read up to a limit, written whole, and renamed with care.

A path may lead through one of the folder's directories, such as `seen/`. Somebody may exchange that directory for a
link while we work. So it is `opened` first, and the descriptor is passed as `inside`: then only the last part of the
path is looked up, in that directory.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import math
import os
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, ParamSpec, TypeVar

from foldertune.errors import UserError
from foldertune.protocol.names import temporary_name
from foldertune.protocol.rights import is_anothers, lack_of_access, share

MAX_BYTES = 16 * 2**20  # of a trial's file that are read; workers stay far below: see `MAX_REPORTS`
MAX_REPORTS = MAX_BYTES // 2  # the size of a trial's file up to which reports are added to it
SAFE = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # no way out of the folder by a symlink, no waiting at a FIFO
LONGEST_STALE = 4.0  # seconds for which ESTALE may come from a cache; two were seen on GlusterFS


class Extent(NamedTuple):
    """A file, and how far it went when it was written last."""

    inode: int | None
    size: int  # bytes


NOTHING = Extent(None, 0)  # known of a file that was never written to
P = ParamSpec("P")
T = TypeVar("T")


class BrokenFile(UserError):
    """A file does not hold what its name promises. The message gives the path, what is wrong and the remedy."""


class NotOurs(BrokenFile):
    """A file belongs to another user, who does not let us read or write it. The message says what to ask for."""


def again_if_stale(action: Callable[P, T]) -> Callable[P, T]:
    """On ESTALE, do it again: another machine has replaced the file since we, or a cache, found its name."""

    @functools.wraps(action)
    def patient(*args: P.args, **kwargs: P.kwargs) -> T:
        pause, end = 0.001, math.inf
        while True:
            try:
                return action(*args, **kwargs)
            except OSError as error:
                if error.errno != errno.ESTALE or time.monotonic() > end:
                    raise
                end = min(end, time.monotonic() + LONGEST_STALE)
            time.sleep(pause)
            pause = min(2 * pause, 0.1)

    return patient


@contextlib.contextmanager
def opened(directory: Path | str) -> Iterator[int]:
    """A descriptor of one of the folder's directories. Raises NotADirectoryError if it is a link, or anything else."""
    try:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.ENOTDIR, errno.ELOOP):
            text = "is not a directory of this folder; move it away"
            raise NotADirectoryError(errno.ENOTDIR, text, os.fspath(directory)) from None
        raise
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _open(path: str, flags: int, inside: int | None) -> int:
    return os.open(_last(path, inside), flags | SAFE, 0o666, dir_fd=inside)


def _last(path: Path | str, inside: int | None) -> Path | str:
    """What is looked up: the whole path, or its last part in the directory with that descriptor."""
    return path if inside is None else os.path.basename(path)


def read_tail(path: str, most: int, inside: int | None = None) -> bytes:
    """The last bytes of a regular file; empty if it is no such file, or can't be read."""
    with contextlib.suppress(OSError):
        descriptor = _open(path, os.O_RDONLY, inside)
        try:
            status = os.fstat(descriptor)
            if stat.S_ISREG(status.st_mode):
                return os.pread(descriptor, most, max(0, status.st_size - most))
        finally:
            os.close(descriptor)
    return b""


@again_if_stale
def read_bytes(
    path: str,
    limit: int | None = None,
    *,
    last_words: tuple[bytes, ...] = (),
    inside: int | None = None,
    is_ours: bool = False,
) -> bytes:
    """The contents of a regular file of at most `limit` bytes (default: MAX_BYTES).

    Of a larger file whose last line begins with one of the `last_words`, the first and the last lines. Otherwise, and
    if it is not a regular file, this raises BrokenFile; OSError if it can't be read. If the file `is_ours` to write
    into, it must not have a second name either: that may be a file of somebody else's, outside the folder. Raises
    NotOurs if it is another user's, and we may not read it, or not write into it.
    """
    limit = limit or MAX_BYTES
    try:
        descriptor = _open(path, os.O_RDONLY, inside)
    except OSError as error:
        error.filename = path
        if error.errno in (errno.ELOOP, errno.ENXIO):
            raise BrokenFile(f"{path}: not a regular file") from None
        if isinstance(error, PermissionError) and (lack := lack_of_access(path)):
            raise NotOurs(lack) from None
        # If we have all rights in the directory, it is only this file that we may not read.
        if error.errno == errno.EACCES and os.access(os.path.dirname(path), os.R_OK | os.W_OK | os.X_OK):
            raise BrokenFile(f"{path}: can't be read ({error.strerror})") from None
        raise
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise BrokenFile(f"{path}: not a regular file")
        if is_ours and is_anothers(status) and (lack := lack_of_access(path)):
            raise NotOurs(lack)
        if is_ours and status.st_nlink > 1:
            raise BrokenFile(f"{path}: has a second name (a hard link), so nothing is written into it")
        if status.st_size > limit:
            first, last = _first_and_last_lines(descriptor, status.st_size, limit // 2)
            if not first or not last[:-1].rpartition(b"\n")[2].startswith(last_words or b"\n"):
                raise BrokenFile(f"{path}: {status.st_size:,} bytes, more than the {limit:,} allowed here")
            return first + last
        parts, left = [], limit
        chunk = min(max(status.st_size + 1, 4096), 2**20)  # a buffer much larger than the file would cost its making
        while left > 0 and (part := os.read(descriptor, min(left, chunk))):  # it may grow while we read
            parts.append(part)
            left -= len(part)
        return b"".join(parts)
    finally:
        os.close(descriptor)


def _first_and_last_lines(descriptor: int, size: int, limit: int) -> tuple[bytes, bytes]:
    """The whole lines in the first and in the last `limit` bytes."""
    head, tail = os.pread(descriptor, limit, 0), os.pread(descriptor, limit, size - limit)
    return head[: head.rfind(b"\n") + 1], tail[tail.find(b"\n") + 1 : tail.rfind(b"\n") + 1]


@again_if_stale
def append_lines(path: str, lines: bytes, before: Extent = NOTHING, *, sync: bool = False) -> Extent:
    """Append whole lines with one write, to a file that exists. With `sync`, return when it is on stable storage.

    Returns the extent of the file, which comes `before` the next append: a file of the same size ends with a whole
    line, and another file that has a second name is not ours. Raises OSError if they could not be written whole.
    A part of a line does no harm: readers ignore a line without its newline, and the next append cuts it off first.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | SAFE)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise FileNotFoundError(errno.ENOENT, "not a regular file any more", path)
        if status.st_nlink > 1 and before.inode not in (None, status.st_ino):
            raise FileNotFoundError(errno.ENOENT, "another file, which has a second name elsewhere", path)
        size = status.st_size
        if size and size != before.size and os.pread(descriptor, 1, size - 1) != b"\n":
            start = max(0, size - MAX_BYTES)
            size = start + os.pread(descriptor, MAX_BYTES, start).rfind(b"\n") + 1
            os.ftruncate(descriptor, size)
        if os.write(descriptor, lines) != len(lines):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
        if sync:
            os.fsync(descriptor)
        return Extent(status.st_ino, size + len(lines))
    finally:
        os.close(descriptor)


def append_data(path: str, data: bytes, inside: int | None = None) -> None:
    """Append to a regular file, which is made if it is not there. Raises OSError."""
    descriptor = _open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, inside)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EEXIST, "is not a regular file; move it away", path)
        share(descriptor, os.path.dirname(path))
        write_all(descriptor, data)
    finally:
        os.close(descriptor)


@again_if_stale
def sync(path: str) -> None:
    """Return when the contents of that file are on stable storage."""
    descriptor = os.open(path, os.O_RDONLY | SAFE)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_whole(path: Path | str, data: bytes, *, sync: bool = False, inside: int | None = None) -> None:
    """Make `path` appear whole, or be replaced whole: write under a temporary name in the same folder, then rename.

    The temporary name says which process writes, so that nobody removes the file while that process lives.
    """
    folder, slash, name = os.fspath(path).rpartition("/")
    temporary = f"{folder}{slash}{temporary_name(name)}"
    try:
        descriptor = _open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, inside)
        try:
            share(descriptor, folder)
            write_all(descriptor, data)
            if sync:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.rename(_last(temporary, inside), _last(path, inside), src_dir_fd=inside, dst_dir_fd=inside)
    except BaseException as error:
        remove(temporary, inside)
        if isinstance(error, OSError):
            error.filename, error.filename2 = os.fspath(path), None  # not the temporary name, or none as of a full disk
        raise


def write_all(descriptor: int, data: bytes) -> None:
    """Write all of it, however many writes that takes. Raises OSError."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def is_there(path: Path | str, inside: int | None = None) -> bool:
    """Is there anything with this name? Raises OSError if that can't be told: only ENOENT means "not there"."""
    try:
        status_of(path, inside)
    except FileNotFoundError:
        return False
    return True


def status_of(path: Path | str, inside: int | None = None) -> os.stat_result:
    """What `lstat` says. Raises OSError."""
    return os.lstat(_last(path, inside), dir_fd=inside)


def rename(source: str, target: str, source_in: int | None = None, target_in: int | None = None) -> bool:
    """Change a state. True if `target` exists now and we made it, False if `source` was gone.

    On a network, the reply to a successful rename can be lost; when the client repeats it, the source is gone. So we
    look for the target before we believe the error: nobody else would have made it. But a directory is none of ours.
    """
    try:
        os.rename(_last(source, source_in), _last(target, target_in), src_dir_fd=source_in, dst_dir_fd=target_in)
    except (IsADirectoryError, NotADirectoryError):
        raise
    except OSError as error:
        error.filename, error.filename2 = source, target
        if is_there(target, target_in):
            return True
        if error.errno in (errno.ENOENT, errno.ESTALE):
            return False
        raise
    return True


def remove(path: str, inside: int | None = None) -> None:
    """Remove a file; if that fails, leave it."""
    with contextlib.suppress(OSError):
        os.unlink(_last(path, inside), dir_fd=inside)


def list_if_there(path: Path) -> list[str]:
    """The names in one of the folder's directories; none if there is no such directory. Raises OSError."""
    try:
        with opened(path) as inside:
            return os.listdir(inside)
    except FileNotFoundError:
        return []
