"""The folder protocol: a trial is one file, its name is its state, its lines are its story.

    logs/trial-00007-1.jsonl                         pending   written whole by the master
    logs/trial-00007-1.jsonl.gpu07-4711-k3f9.taken   running   claimed by one worker (host-pid-random)
    logs/trial-00007-1.jsonl.stop                    the master asks that worker to stop early; says why
    logs/trial-00007-1.jsonl.done                    finished  result inside
    logs/seen/trial-00007-1.jsonl.seen               collected by the master, in the results table
    logs/seen/trial-00007-1.jsonl.lost               an attempt that ended without a result; -2 is its next (one that
                                                     no worker claimed: the trial had failed, and is tried anew)
    logs/seen/trial-00007-1.jsonl.withdrawn          never begun: the budget is spent
    logs/checkpoints/trial-00007-1.checkpoint        what attempt 1 had learnt; a later attempt continues from it,
                                                     or the trial that goes on with this one
    logs/output/trial-00007-1.txt                    what the training printed in that attempt, for people
    logs/out/trial-00007/                            what a command keeps for its later attempts at the trial
    logs/launch/gpu07-2.log, .json                   what gpu07's second worker printed, and how a launcher started it
    logs/workers/gpu07-4711-k3f9.json                what a worker says of itself, for people
    logs/aside/…                                     what stood in the way of a name, moved, never deleted
    logs/study.json, logs/study.json.done            the study's definition; with .done it is complete
    logs/pause, drain, stop, end                     what a person asks of all, also by `touch`: see `requests.py`
    logs/dropped/trial-00007.json                    a person has taken trial 7 out of the ranking: see `drops.py`
    logs/.master-00003.jsonl                         the third master of this folder, and the last: it leads
    logs/.NAME.gpu07-4711-1f0c93aa.tmp               NAME, while that process writes it; of a master's file,
                                                     .master-00003.gpu07-4711-1f0c93aa-tmp

`00007` is the trial, `-1` the attempt. Each line is one JSON object:

    {"settings": {"rate": 0.1, …}, "lease": 180}               the master: what to train
                                                               (with "values": […] if a setting is itself a table,
                                                               "parent": {…} if it goes on with another trial, and
                                                               "why": {"strategy": "random", …}, for people)
    {"claimed": "gpu07-4711-k3f9", "host": "gpu07", …}         the worker: who trains it
    {"resumed": "trial-00003-1.checkpoint", …}                 the worker, if the training goes on from there
    {"epoch": 1, "loss": 0.91, …}                              the worker, after every epoch
    {"result": {"loss": 0.031, …}, "time": …}                  the worker, last; or {"error": …, "traceback": …}
                                                               (with "stopped": … if it was stopped early)

**Why a rename suffices.** A rename within a folder is atomic: only one of several competing renames of a name
succeeds, and a reader sees the file under its old name or under its new one, whole. Every change of state is one
rename. So a trial has one owner without any lock: the claim takes the pending name away, and puts the owner's own
token into the new one. If the master takes a trial from a worker that seems dead, the name that this worker knows
is gone. Whatever it tries next begins with that name, and fails. Its successor has another attempt number, so the
old name never comes back.

The rules (`docs/protocol.md` is the full argument, and says how each is tested):

 1. Every change of state is one rename. All of them are in `folder.py`, all names in `names.py`.
 2. A name appears whole: write under a temporary name in the same folder, then rename. The temporary name says who
    writes. It is removed when that process is gone, as far as can be told. Nothing is edited in place.
 3. To claim is to rename to a name that holds your own token. The reply to a rename can be lost on a network: on an
    error, look for your own name before you try the next file.
 4. Only the owner appends, one `write` a line. A line without its newline does not exist. An append never creates
    a file: if the name is gone, the lease is lost, and the worker lets the trial go and touches nothing more.
 5. The result is on stable storage before the file becomes `.done`. The master checks a `.done` before it believes
    it. If it is broken it becomes `.lost`, and the trial is run again: a broken file costs only its own attempt.
 6. The next attempt at a lost trial has a new name (`-2`), so a worker that comes back from the dead can't touch it.
 7. The observer judges a lease by its own monotonic clock, watching the file change. The clocks of two machines are
    never compared. One glance proves nothing: a missing name in a listing, a short file or an old name may come
    from a cache. Only ENOENT means "not there".
 8. Each trial is counted once. There are exactly as many results as trials were asked for.
 9. Nobody uses locks. One master leads, by a lease like a trial's: each makes the next number's file, which only one
    can make. Before each change it makes sure that it still leads; for a moment, two masters do no harm.
10. The files hold everything that the master knows. If it is killed and started again, it continues from them.
11. Files from the folder are data: no pickle, no eval, no code named by a trial.
12. A worker needs the Python standard library, and what its objective imports.

Where to read on: `folder.py` has every rename and says which process makes it; `names.py` has the names; `trial.py`
the lines; `files.py` writes bytes safely and reads them back; `leases.py` and `owners.py` find out who is alive;
`masters.py` says who leads; `checkpoints.py` keeps the checkpoints; `workers.py` what workers say of themselves;
`requests.py` and `drops.py` what a person asks; `rights.py` lets several users share a folder.
"""

from foldertune.protocol.checkpoints import MAX_CHECKPOINT, MAX_LOOK_BACK
from foldertune.protocol.drops import Drops, drop, undo_drop
from foldertune.protocol.files import (
    MAX_BYTES,
    MAX_REPORTS,
    SAFE,
    BrokenFile,
    NotOurs,
    append_lines,
    is_there,
    opened,
    read_bytes,
    read_tail,
    sync,
    write_whole,
)
from foldertune.protocol.folder import A_TICK, Claim, Folder, LeaseLost
from foldertune.protocol.hosts import host_name, own_host
from foldertune.protocol.leases import (
    DEFAULT_LEASE,
    LONGEST_DOUBT,
    SHORTEST_LEASE,
    SIGNS_PER_LEASE,
    Heartbeat,
    Leases,
    Leftovers,
)
from foldertune.protocol.masters import Holder, LedFolder, Masters, Mastership, MastershipLost
from foldertune.protocol.names import (
    DRAIN,
    END,
    LAST_ATTEMPT,
    PAUSE,
    STOP,
    TrialName,
    is_here,
    new_owner,
    temporary_name,
    writer_of,
)
from foldertune.protocol.owners import describe_owner, has_died, identify_process, owner_has_died
from foldertune.protocol.proposal import SECONDS, Parent, Proposal, Record, settings_record
from foldertune.protocol.requests import (
    REQUESTS,
    Request,
    make_request,
    read_request,
    remove_request,
)
from foldertune.protocol.rights import is_anothers, lack_of_access, lack_of_rights, make_directory, share, user_name
from foldertune.protocol.trial import YEAR, Trial, parse_time, read_object, read_records, to_line, utc_now
from foldertune.protocol.workers import MOST_RECORDS, SIGN_EVERY, SILENT, WorkerRecords
from foldertune.text import printable

__all__ = [
    "A_TICK",
    "DEFAULT_LEASE",
    "DRAIN",
    "END",
    "LAST_ATTEMPT",
    "LONGEST_DOUBT",
    "MAX_BYTES",
    "MAX_CHECKPOINT",
    "MAX_LOOK_BACK",
    "MAX_REPORTS",
    "MOST_RECORDS",
    "PAUSE",
    "REQUESTS",
    "SAFE",
    "SECONDS",
    "SHORTEST_LEASE",
    "SIGNS_PER_LEASE",
    "SIGN_EVERY",
    "SILENT",
    "STOP",
    "YEAR",
    "BrokenFile",
    "Claim",
    "Drops",
    "Folder",
    "Heartbeat",
    "Holder",
    "LeaseLost",
    "Leases",
    "LedFolder",
    "Leftovers",
    "Masters",
    "Mastership",
    "MastershipLost",
    "NotOurs",
    "Parent",
    "Proposal",
    "Record",
    "Request",
    "Trial",
    "TrialName",
    "WorkerRecords",
    "append_lines",
    "describe_owner",
    "drop",
    "has_died",
    "host_name",
    "identify_process",
    "is_anothers",
    "is_here",
    "is_there",
    "lack_of_access",
    "lack_of_rights",
    "make_directory",
    "make_request",
    "new_owner",
    "opened",
    "own_host",
    "owner_has_died",
    "parse_time",
    "printable",
    "read_bytes",
    "read_object",
    "read_records",
    "read_request",
    "read_tail",
    "remove_request",
    "settings_record",
    "share",
    "sync",
    "temporary_name",
    "to_line",
    "undo_drop",
    "user_name",
    "utc_now",
    "write_whole",
    "writer_of",
]
