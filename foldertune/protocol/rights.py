"""Several users, one folder: what is made in it gets the folder's rights, and what a user lacks is said in words.

A folder that its group may write (`chmod g+ws`) is meant for several users. What we make there is for all of them,
whatever our umask. In all other folders the umask decides, as always. In a folder with the sticky bit nobody may
rename what others have made, so nothing there is shared.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import stat
import time
from pathlib import Path

FOR_GROUP, FOR_OTHERS = 0o070, 0o007
LOOK_AGAIN = 5.0  # seconds after which a folder's rights are asked for again: a person may have repaired them


def share(descriptor: int, directory: str) -> None:
    """Give a new file (or directory) the rights that its `directory` gives to the group and to others."""
    bits, group = _shared(directory, int(time.monotonic() / LOOK_AGAIN))
    if not bits:
        return
    with contextlib.suppress(OSError):  # not every filesystem has modes and groups
        status = os.fstat(descriptor)
        if status.st_gid != group:  # the folder lacks the setgid bit
            with contextlib.suppress(OSError):
                os.fchown(descriptor, -1, group)
            if os.fstat(descriptor).st_gid != group:
                bits &= FOR_OTHERS
        if not stat.S_ISDIR(status.st_mode):
            bits &= 0o666
        if bits & ~status.st_mode:
            os.fchmod(descriptor, stat.S_IMODE(status.st_mode) | bits)


@functools.lru_cache(maxsize=64)
def _shared(directory: str, period: int) -> tuple[int, int]:
    """The rights of a shared directory for group and others, and its group; no rights if it is not shared."""
    try:
        status = os.stat(directory or ".")
    except OSError:
        return 0, 0
    bits = FOR_GROUP * bool(status.st_mode & stat.S_IWGRP) | FOR_OTHERS * bool(status.st_mode & stat.S_IWOTH)
    return 0 if status.st_mode & stat.S_ISVTX else bits & status.st_mode, status.st_gid


def make_directory(path: Path | str) -> None:
    """Make a directory, and those above it, with the rights of the directory around it. It may be there already."""
    try:
        _make(path)
    except FileNotFoundError:
        above = os.path.dirname(path)
        if above in ("", path):
            raise
        make_directory(above)
        _make(path)  # once: in /proc, for example, nothing can be made


def _make(path: Path | str) -> None:
    try:
        os.mkdir(path)
    except FileNotFoundError:
        raise
    except OSError as error:
        with contextlib.suppress(FileNotFoundError):  # a link that leads nowhere
            if stat.S_ISDIR(os.stat(path).st_mode):
                return
        raise error
    else:
        share_directory(path)


def share_directory(path: Path | str) -> None:
    """Give one of our directories the rights of the directory around it."""
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            share(descriptor, os.path.dirname(path))
        finally:
            os.close(descriptor)


# ---------------------------------------------------------------- in words


def lack_of_rights(folder: Path) -> str | None:
    """What this user lacks to work in that directory, and what to do; None if nothing, or if it can't be told.

    A directory of one's own that is closed for a while, and one that can't be asked, are trouble that passes.
    """
    folder = folder.absolute()
    with contextlib.suppress(OSError):
        place = _nearest(folder)
        status = os.stat(place)
        if not is_anothers(status) or os.geteuid() == 0:
            return None
        if place != folder and os.access(place, os.X_OK) and not _is_missing(folder):
            return None  # it is not for rights that we can't ask it
        if place != folder:
            if os.access(place, os.W_OK | os.X_OK):
                return None
            ask = f"ask {user_name(status.st_uid)} for {folder}, or use another --logs"
            return f"{place}: {_describe(status)}; {_me()} may not make or enter anything there; {ask}"
        if not os.access(place, os.R_OK | os.W_OK | os.X_OK):
            return f"{place}: {_describe(status)}; {_me()} may not write there; {_remedy(place, status, status)}"
        if status.st_mode & stat.S_ISVTX:
            why = "because of its sticky bit nobody may rename what others have made"
            return f"{place}: {why}; ask {user_name(status.st_uid)} for: chmod -t {place}"
    return None


def _nearest(path: Path) -> Path:
    """The path itself, or the nearest directory above it that lets us ask. Raises OSError if something else fails."""
    for place in (path, *path.parents):
        with contextlib.suppress(FileNotFoundError, PermissionError):
            os.stat(place)
            return place
    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))


def _is_missing(path: Path) -> bool:
    try:
        os.stat(path)
    except FileNotFoundError:
        return True
    except OSError:
        pass
    return False


def lack_of_access(path: str) -> str | None:
    """Why this user may not read or write another's file, and what to do; None if it is not for rights."""
    with contextlib.suppress(OSError):
        status = os.lstat(path)
        if is_anothers(status) and not os.access(path, os.R_OK | os.W_OK):
            folder = os.path.dirname(path)
            return f"{path}: {_describe(status)}; {_me()} may not write it; {_remedy(folder, status, os.stat(folder))}"
    return None


def is_anothers(status: os.stat_result) -> bool:
    """Does this file or directory belong to another user?"""
    return status.st_uid != os.geteuid()


def _remedy(folder: Path | str, closed: os.stat_result, status: os.stat_result) -> str:
    """What to ask the owner of something `closed` for, in this folder."""
    is_member = status.st_gid in (os.getegid(), *os.getgroups())
    group = group_name(status.st_gid) if is_member else "GROUP"
    which = "" if is_member else ", with a GROUP that you both belong to"
    commands = f"chgrp -R {group} {folder}; chmod -R g+rwX {folder}; chmod g+s {folder} {folder}/*/"
    return f"ask {user_name(closed.st_uid)} for: {commands}{which}; or use another --logs"


def _me() -> str:
    return user_name(os.geteuid())


def _describe(status: os.stat_result) -> str:
    """To whom something belongs, and its mode: `belongs to anna, group lab, drwxr-xr-x`."""
    owner, group = user_name(status.st_uid), group_name(status.st_gid)
    return f"belongs to {owner}, group {group}, {stat.filemode(status.st_mode)}"


def user_name(number: int) -> str:
    """The name of a user."""
    import pwd  # here, and below: Windows has none

    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return f"user {number}"


def group_name(number: int) -> str:
    """The name of a group."""
    import grp

    try:
        return grp.getgrgid(number).gr_name
    except KeyError:
        return str(number)
