"""Checks whether several users can work in the folder: its rights, and those of what stands in it."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator

from foldertune.doctor.visit import Finding, Visit, lacking
from foldertune.protocol import is_anothers, lack_of_access, lack_of_rights


def check_people(visit: Visit) -> Iterator[Finding]:
    """Says who can work here, and names what belongs to others and is closed to us."""
    folder = visit.logs
    closed = [lack_of_rights(part) for part in (folder.path, folder.seen, folder.checkpoints) if part.is_dir()]
    closed += [lack_of_access(folder.locate(name)) for name in visit.names()]
    if lacks := [lack for lack in closed if lack]:
        yield lacking("note", lacks[0], f" (and {len(lacks) - 1} more)" if len(lacks) > 1 else "")
        return
    status = os.stat(folder.path)
    if status.st_mode & stat.S_ISVTX and status.st_mode & 0o022:
        what = "the folder has the sticky bit: nobody may claim what others have made"
        yield Finding("note", what, f"chmod -t {folder.path}, if several users search here")
    elif status.st_mode & stat.S_IWGRP and not status.st_mode & stat.S_ISGID:
        remedy = f"chmod g+s {folder.path}, so that what a person puts there belongs to the folder's group"
        yield Finding("note", "the folder is for its group, but lacks the setgid bit", remedy)
    elif status.st_mode & 0o022:
        yield Finding("ok", "the folder is for its group" if status.st_mode & 0o020 else "the folder is for everybody")
    else:
        others = " (but not yours)" if is_anothers(status) and os.geteuid() != 0 else ""
        remedy = f"chmod g+ws {folder.path}, before the search begins, if several users shall take part"
        yield Finding("ok", f"the folder is for one user{others}", remedy)
