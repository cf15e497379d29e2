"""The shared folder, with every rename of the protocol. Read this file first; the rules are in `__init__.py`.

                    Folder.publish                        the master
                         │
┌──────────────►      pending
│                        │  Folder.claim                  a worker
│  Claim.give_back       ▼
└───────────────       taken ───────────────┐
                         │  Claim.finish    │             its owner
                         ▼                  │
                       done                 │
       Folder.collect    │    Folder.lose   │             the master: a taken trial only if its owner
                ┌────────┴────────┐◄────────┘             died or its lease expired
                ▼                 ▼
              seen ────────────► lost  ──► the master publishes the next attempt
                   Folder.retry              (retry: only a trial that has failed for good)

    pending ──► withdrawn  by Folder.withdraw: the master, when the budget is spent. If it is raised, the next attempt

    trial-N-A.jsonl.stop   beside a taken trial: the master asks its owner to end the training, see Folder.ask_to_stop
"""

from __future__ import annotations

import contextlib
import errno
import functools
import itertools
import json
import math
import os
import random
import stat
import time
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import NoReturn

from foldertune.nesting import flatten
from foldertune.protocol import checkpoints
from foldertune.protocol.files import (
    NOTHING,
    BrokenFile,
    NotOurs,
    append_data,
    append_lines,
    is_there,
    list_if_there,
    opened,
    read_bytes,
    remove,
    rename,
    status_of,
    sync,
    write_whole,
)
from foldertune.protocol.names import DROPPED, END, HALTS, LAST_ATTEMPT, TrialName, writer_of
from foldertune.protocol.proposal import Parent, Proposal, Record
from foldertune.protocol.rights import lack_of_access, make_directory, share_directory
from foldertune.protocol.trial import (
    Trial,
    read_object,
    read_records,
    to_line,
    utc_now,
)

LOOKS_FOR_OURS = (0.0, 0.1, 0.4, 1.5)  # seconds before each look for a file that has moved: a cache may hide it
A_TICK = 0.05  # seconds: longer than a tick of the clock by which a file server stamps changes
FRESH = 3.0  # seconds for which a worker claims from one listing, before it looks again what a person asks for
A_MOMENT = 1.0  # seconds: nobody can have put a file by hand beside a trial that was claimed so shortly ago
IN_HAND = ("pending", "taken", "done")  # the states of trials that are in the folder itself, and not in `seen/`
SETTLED = ("seen", "lost", "withdrawn")  # those of the others
MAX_REQUEST = 2**14  # bytes of a request to stop that are read
BY_HAND = "by hand"  # why a trial is stopped, if the request does not say


class LeaseLost(Exception):
    """The trial's file no longer has the name that this worker gave it: somebody else decided what becomes of it."""


class Folder:
    """The shared folder of one study.

    Every method raises OSError while the filesystem is in trouble, also when the whole folder is away (renamed,
    unmounted). The same call can then be made again later.

    Attributes:
        is_complete: had the study ended, by the last listing? Nobody asks for study.json by its name: it has become
            study.json.done, and a client's cache may go on to answer the old name for as long as it is asked for.
        requests: the requests to single attempts to stop early that the last `names` has found.
        halt: "pause", "drain" or "stop" if a person asks that of all by the last look, or "". See `requests.py`.
        is_ended: does a person ask to end the study, by the last listing?
        has_drops: has a person ever dropped a trial, by the last listing? See `drops.py`.
        is_wary: was a claimed file another user's, and closed to us? From then on we look before we claim.
        fill: completes the settings of each trial that is read, if its study had fewer of them at that time.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.seen = self.path / "seen"
        self._path, self._seen = str(self.path), str(self.seen)  # every call needs one of them
        self.is_complete = self.is_wary = False
        self.names_listed = 0
        self.requests: list[TrialName] = []
        self.halt, self.is_ended, self.has_drops, self._listed = "", False, False, -math.inf
        self.fill: Callable[[Record], Record] | None = None
        self._seen_descriptor: int | None = None
        self.checkpoints = self.path / "checkpoints"
        self.output = self.path / "output"
        self.out = self.path / "out"
        self.aside = self.path / "aside"
        self.launch = self.path / "launch"
        self.workers = self.path / "workers"
        self.dropped = self.path / DROPPED
        self.study = self.path / "study.json"
        self.study_done = self.path / "study.json.done"
        self.results = self.path / "results.csv"
        self.kept = self.path / "trials.jsonl"  # all trials in one file: a kept study

    def locate(self, name: TrialName) -> str:
        """The path of the file with this name."""
        return f"{self._seen if name.state in SETTLED else self._path}/{name}"

    def checkpoint(self, name: TrialName) -> str:
        """The path of that attempt's checkpoint."""
        return checkpoints.checkpoint_path(self.checkpoints, name.number, name.attempt)

    def output_of(self, name: TrialName) -> Path:
        """The file with what the training printed in that attempt. There is none if it printed nothing."""
        return self.output / f"trial-{name.number:05d}-{name.attempt}.txt"

    # ---- anyone

    def names(self) -> list[TrialName]:
        """The work in hand: pending, taken and done. This is one listing: a name missing from it may still exist."""
        names = [name for text in self._list() if (name := TrialName.parse(text)) is not None]
        self.requests = [name for name in names if name.state == "stop"]
        return [name for name in names if name.state in IN_HAND]

    def settled(self) -> list[TrialName]:
        """The attempts that the master has dealt with: seen and lost."""
        return self._names_in_seen("seen", "lost")

    def withdrawn(self) -> list[TrialName]:
        """The trials that the master has withdrawn before anyone claimed them."""
        return self._names_in_seen("withdrawn")

    def _names_in_seen(self, *states: str) -> list[TrialName]:
        names = map(TrialName.parse, list_if_there(self.seen))
        return [name for name in names if name is not None and name.state in states]

    def read(self, name: TrialName, *, epochs: bool = True) -> Trial:
        """The trial in that file, with or without its `epochs`. Raises BrokenFile, or OSError if the file is gone."""
        path = self.locate(name)
        with self._inside(name) as inside:
            records = read_records(path, epochs=epochs, inside=inside)
        trial = Trial.from_records(name, records, path)
        if self.fill:
            trial.settings = self.fill(trial.settings)
        return trial

    def has(self, name: TrialName) -> bool:
        """Is there a file (or anything else) with this name?"""
        with self._inside(name) as inside:
            return is_there(self.locate(name), inside)

    def has_gone_on(self, claim: TrialName) -> bool:
        """Has somebody decided what becomes of this claim? A name of another kind, or the end of the study, shows it.

        GlusterFS, while one of its servers is away, says of a file there that it does not exist.
        """
        rest = [name for name in (*self.names(), *self.settled()) if name.number == claim.number and name != claim]
        same = TrialName(claim.number, claim.attempt)  # an old listing may still show that
        return self.is_complete or any(name.attempt >= claim.attempt and name != same for name in rest)

    def signature(self, name: TrialName) -> tuple[int, ...]:
        """A value that changes with every heartbeat of the file's owner. Raises OSError if the file is gone."""
        with self._inside(name) as inside:
            return signature_of(self.locate(name), inside)

    def read_study(self) -> Record | None:
        """The study's definition; None before a master has come. Raises BrokenFile."""
        for path in (self.study, self.study_done, self.study):
            try:
                return read_object(path)
            except FileNotFoundError:
                continue
        with contextlib.suppress(OSError):  # NFS: a client that is asked for a listing asks the server,
            os.listdir(self.path.parent)  # and so will not go on to answer for a minute that nothing is there
        with contextlib.suppress(OSError):
            self.look_for_requests()
        return None

    def study_file(self) -> Path:
        """Where the study's definition stands, for an error to name it."""
        return self.study_done if is_there(self.study_done) and not is_there(self.study) else self.study

    def write_results(self, table: str) -> None:
        """Replace results.csv. The master does this, and any reader that finds it gone."""
        data = table.encode(errors="backslashreplace")
        try:
            write_whole(self.results, data)
        except IsADirectoryError:
            self.set_aside(str(self.results))
            write_whole(self.results, data)

    def is_kept(self) -> bool:
        """Is this a kept study, and not the folder of a search? Also if it can't be read."""
        try:
            return is_there(self.kept) and not is_there(self.seen)
        except NotADirectoryError:  # the folder is none
            return False

    def check_presence(self) -> None:
        """Raise OSError if the folder is away: then a missing name proves nothing."""
        with opened(self.seen):
            pass

    def check_parts(self) -> None:
        """Raise BrokenFile if a directory of the folder leads out of it or is none, or a directory is in the way."""
        for part in self._parts:
            if part.is_symlink() or (part.exists() and not part.is_dir()):
                raise BrokenFile(f"{part}: is not a directory of this folder; move it away")
        if is_there(self.study_done) and (self.study_done.is_symlink() or not self.study_done.is_file()):
            raise BrokenFile(f"{self.study_done}: is not a file; move it away")

    @property
    def _parts(self) -> tuple[Path, ...]:
        return self.seen, self.checkpoints, self.output, self.out, self.dropped, self.aside, self.workers, self.launch

    def _list(self) -> list[str]:
        texts = os.listdir(self.path)
        self.names_listed = len(texts)
        self._note_requests(texts)
        self.is_complete = self.study_done.name in texts and self.study.name not in texts
        if "seen" not in texts:  # an empty mount point, or a folder that no master has prepared yet
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self.seen))
        return texts

    def _note_requests(self, texts: list[str]) -> None:
        self._listed, there = time.monotonic(), {*HALTS, END, DROPPED}.intersection(texts)
        self.halt, self.is_ended = next((halt for halt in HALTS if halt in there), ""), END in there
        self.has_drops = DROPPED in there

    def look_for_requests(self) -> None:
        """See what a person asks of all. Raises OSError."""
        self._note_requests(os.listdir(self.path))

    def look_for(self, *names: str) -> None:
        """List the folder if there is one of these names, such as a person's request, unless we just have.

        Raises OSError.

        This is no listing, which may be long: to open the directory makes NFS ask the server whether what it knows of
        missing names is out of date. If the name is there, it may be an old one in a cache: then a listing decides.
        """
        if time.monotonic() - self._listed < FRESH:
            return
        descriptor = os.open(self._path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            if any(is_there(name, descriptor) for name in names):
                self._list()
        finally:
            os.close(descriptor)

    def _move(self, name: TrialName, target: TrialName) -> bool:
        """Change a trial's state. True if it is done, False if the name was gone. Raises OSError."""
        if name.state in IN_HAND and target.state in IN_HAND:  # as for most: no directory is to be opened
            if rename(self.locate(name), self.locate(target)):
                return True
        else:
            with self._inside(name) as source_in, self._inside(target) as target_in:
                if rename(self.locate(name), self.locate(target), source_in, target_in):
                    return True
        self.check_presence()
        return False

    def _inside(self, name: TrialName) -> AbstractContextManager[int | None]:
        """A descriptor of `seen/` for the names there; None for those in the folder itself. See `files`."""
        return self._open_seen() if name.state in SETTLED else nullcontext()

    def _open_seen(self) -> AbstractContextManager[int]:
        return opened(self._seen) if self._seen_descriptor is None else nullcontext(self._seen_descriptor)

    @contextlib.contextmanager
    def keeping_seen_open(self) -> Iterator[None]:
        """Open `seen/` once for many files: the master deals with all that have come since its last look."""
        with opened(self._seen) as self._seen_descriptor:
            try:
                yield
            finally:
                self._seen_descriptor = None

    def make_way(self, target: TrialName, path: str) -> None:
        """Set aside what a person has put where the file at `path` goes: no rename replaces a file."""
        try:
            there = os.lstat(self.locate(target)).st_ino
        except FileNotFoundError:
            return
        with contextlib.suppress(FileNotFoundError):
            if os.lstat(path).st_ino != there:  # if it is the same file, our own rename was done without a reply
                self.set_aside(self.locate(target))

    # ---- the master

    def prepare(self) -> None:
        """Make the folder ready for workers. Raises BrokenFile if a part of it leads elsewhere."""
        self.check_parts()
        for directory in (self.seen, self.checkpoints, self.workers):
            make_directory(directory)
        for part in self._parts:
            share_directory(part)  # a person may have opened the folder to others since

    def publish(
        self,
        name: TrialName,
        proposal: Proposal | Record,
        *,
        lease: float,
        timeout: float | None = None,
        lost: Sequence[str] = (),
        sync: bool = False,
    ) -> bool:
        """Offer a trial to the workers. Use `sync` if its settings can't be computed again after a power failure.

        False if there is such a file: a person has queued it, and it is not replaced.
        """
        if self.has(name):
            return False
        first: Record = {**_told(proposal), "lease": lease}
        if timeout is not None:
            first["timeout"] = timeout
        if lost:
            first["lost"] = list(lost)
        write_whole(self.locate(name), to_line(first), sync=sync)
        return True

    def collect(self, name: TrialName) -> TrialName | None:
        """Count a trial that has a result. None if its file went elsewhere meanwhile."""
        if name.state == "taken":  # its worker died between the result and `.done`, perhaps before the sync
            sync(self.locate(name))
        return self._settle(name, name.to("seen"))

    def lose(self, name: TrialName) -> TrialName | None:
        """Set aside an attempt that has no result to count. Its file is kept as it is."""
        return self._settle(name, name.to("lost"))

    def withdraw(self, name: TrialName) -> TrialName | None:
        """Take back a pending trial: the budget is spent. None if a worker has claimed it, or its file is gone."""
        return self._settle(name, name.to("withdrawn"))

    def ask_to_stop(self, name: TrialName, why: str) -> None:
        """Make a request of this name: the owner of the taken trial is to end it; what it has reported is its result.

        The request names the attempt, so it never stops a later one. It changes no state: if it is lost, hidden by a
        cache or comes too late, the training goes on to its end.
        """
        write_whole(self.locate(name), to_line({"stop": why, "time": utc_now()}))

    def drop_request(self, name: TrialName) -> None:
        """Remove a request to stop: that attempt has ended."""
        remove(self.locate(name))

    def record_failure(self, name: TrialName, proposal: Proposal | Record, lost: Sequence[str]) -> TrialName:
        """Count a trial that has used up its attempts: a file of its own, beside the lost ones, says why."""
        seen = name.to("seen")
        lines = to_line({**_told(proposal), "lost": list(lost)})
        lines += to_line({"error": lost[-1] if lost else "lost", "time": utc_now()})
        with self._inside(seen) as inside:
            write_whole(self.locate(seen), lines, sync=True, inside=inside)
        return seen

    def retry(self, name: TrialName) -> TrialName | None:
        """Count a failed trial no longer: its file becomes one more lost attempt. None if the file is gone."""
        if name.attempt >= LAST_ATTEMPT:
            return None
        lost = name.next_attempt().to("lost")
        while self.has(lost):  # a person put it there
            lost = lost.next_attempt().to("lost")
        return lost if self._move(name, lost) else None

    def _settle(self, name: TrialName, target: TrialName) -> TrialName | None:
        source, path = self.locate(name), self.locate(target)
        with self._open_seen() as seen:
            if is_there(path, seen):  # a person put it there: otherwise only the master writes there
                self.set_aside(source)
                return None
            if rename(source, path, None if name.state in IN_HAND else seen, seen):
                return target
        self.check_presence()
        return None

    def set_aside(self, path: str) -> None:
        """Move anything that is in the way to `aside/`. Nothing is overwritten."""
        make_directory(self.aside)
        places = (f"{self.aside}/{os.path.basename(path)}.{number}" for number in itertools.count(1))
        with opened(self.aside) as inside:
            rename(path, next(place for place in places if not is_there(place, inside)), target_in=inside)

    def write_study(self, definition: Record) -> None:
        """Write study.json. A study that was complete is open again."""
        if is_there(self.study_done):
            rename(str(self.study_done), str(self.study))
        text = json.dumps(definition, ensure_ascii=False, indent=1, allow_nan=False) + "\n"
        write_whole(self.study, text.encode(), sync=True)

    def complete_study(self, definition: Record) -> None:
        """Tell the workers that no more trials will come, and ask them for nothing else.

        Raises BrokenFile if something stands in the way.
        """
        if not is_there(self.study):  # a person has moved it: without it there would be no mark of the end
            self.write_study(definition)
        if not stat.S_ISREG(status_of(self.study).st_mode):
            raise BrokenFile(f"{self.study}: is not a file; move it away and start the master again")
        try:
            rename(str(self.study), str(self.study_done))
        except IsADirectoryError:
            self.set_aside(str(self.study_done))
            rename(str(self.study), str(self.study_done))
        if self.halt:
            for halt in HALTS:
                with contextlib.suppress(OSError):  # `foldertune resume` says what is in its way
                    path = f"{self._path}/{halt}"
                    os.rmdir(path) if stat.S_ISDIR(status_of(path).st_mode) else os.unlink(path)
        time.sleep(A_TICK)
        self.stir()

    def stir(self) -> None:
        """Change the folder's time once more, at least A_TICK seconds after its last change.

        By this time an NFS 3 client knows whether its listing is out of date. One that has listed the folder between
        two changes in the same tick of the server's clock would never see the second one.
        """
        with contextlib.suppress(OSError):
            os.utime(self.path)

    def temporary_files(self, directory: Path) -> dict[str, str]:
        """Path -> writer of the temporary files in `directory`, including those of writers that died."""
        texts = os.listdir(directory) if directory == self.path else list_if_there(directory)
        return {f"{directory}/{text}": writer for text in texts if (writer := writer_of(text))}

    def remove_temporary(self, path: str) -> None:
        """Remove a temporary file. Its writer must certainly be gone: see `Leftovers`."""
        directory = os.path.dirname(path)
        with opened(directory) if directory != self._path else nullcontext() as inside:
            remove(path, inside)

    def remove_checkpoints(self, numbers: Container[int]) -> None:
        """Remove the checkpoints of these trials, whole or half written: they are counted and need none."""
        checkpoints.remove_checkpoints(self.checkpoints, numbers)

    def checkpoint_sizes(self) -> dict[int, int]:
        """Bytes of the checkpoints of each trial, by its number."""
        return checkpoints.checkpoint_sizes(self.checkpoints)

    # ---- the worker

    def candidates(self, owner: str) -> Iterator[TrialName]:
        """One worker's share of the pending trials, drawn at random: so two workers seldom try the same one.

        Trials that already bear the worker's own token come first: it claimed them while the folder was in trouble,
        and could not see that the claim had succeeded. A trial beside whose file a `.done` stands is the master's.
        While a person halts all workers there are no others, and what was listed some seconds ago is not offered any
        more: by then a person may have done so.
        """
        texts = self._list()
        done = {text.removesuffix(".done") for text in texts if text.endswith(".done")}
        until = time.monotonic() + FRESH
        own = [text for text in texts if text.endswith(f".{owner}.taken")]
        pending = [] if self.halt else [text for text in texts if text.endswith(".jsonl") and text not in done]
        share = math.ceil(len(pending) / (1 + sum(text.endswith(".taken") for text in texts)))
        names = map(TrialName.parse, own + random.sample(pending, share))  # parsed one by one, when asked for
        return (name for name in names if name and (time.monotonic() < until or name.state == "taken"))

    def claim(self, owner: str, candidates: Iterator[TrialName]) -> Claim | None:
        """Claim the first candidate that no other worker has claimed before us. None if there is none."""
        for name in candidates:
            taken = name.to("taken", owner)
            if self.is_wary and name != taken and lack_of_access(self.locate(name)):
                continue
            if name == taken or self._move(name, taken):
                return Claim(self, taken)
        return None


class Claim:
    """One worker's hold on one trial. Only its owner appends. Every method raises LeaseLost if the claim is gone."""

    def __init__(self, folder: Folder, name: TrialName) -> None:
        self.folder = folder
        self.name = name
        self.path = folder.locate(name)
        self._since = time.monotonic()
        self.written = NOTHING  # the file, when we wrote to it last
        self._unwritten = b""  # lines that wait for the next one
        self._said_last_word = self._is_safe = False
        self._first = name.number  # the trial with which this training has begun

    def read(self) -> Trial:
        """The trial to train. Raises BrokenFile, also if what we append would be in another person's file, too.

        Raises NotOurs if the file is another user's, who does not let us write it.
        """
        try:
            trial = Trial.from_records(self.name, read_records(self.path, is_ours=True), self.path)
            self._first = trial.parent.first if trial.parent else self.name.number
            return trial
        except NotOurs:
            self.folder.is_wary = True
            raise
        except FileNotFoundError:
            self._gone()

    def append(self, record: Record, *, sync: bool = False) -> None:
        """Add a line to the story, after those that wait for it."""
        try:
            self.written = append_lines(self.path, self._unwritten + to_line(record), self.written, sync=sync)
            self._unwritten = b""
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ELOOP, errno.EISDIR):
                raise
            if self.folder.has(self.name):  # something else stands there
                raise LeaseLost(self.path) from None
            self._gone()

    def append_with_next(self, record: Record) -> None:
        """Add a line to the story together with the next one, which comes at once. One write costs less than two."""
        self._unwritten += to_line(record)

    def why_stop(self) -> str | None:
        """Why we are asked to end this training; None if we are not. A person may have made that file with `touch`."""
        try:
            data = read_bytes(self.folder.locate(self.name.to("stop")), MAX_REQUEST)
        except (OSError, BrokenFile):
            return None  # also if something else stands there, or we may not read it: to look is not essential
        with contextlib.suppress(ValueError, RecursionError, AttributeError):
            if isinstance(why := json.loads(data).get("stop"), str):
                return why
        return BY_HAND

    def beat(self) -> None:
        """Give a heartbeat: change the file's time."""
        try:
            os.utime(self.path, follow_symlinks=False)
        except FileNotFoundError:
            self._gone()

    def say_last_word(self, record: Record) -> None:
        """Append the last word (a result or an error). From now on it counts, even if we die before the hand-in.

        After an error, it is said again. It may have been there, and the master may have collected it meanwhile.
        """
        try:
            self.append(record)
        except LeaseLost:
            if not self._is_handed_in():
                raise
        self._said_last_word = True

    def finish(self, record: Record) -> None:
        """Append the last word, unless it is said; wait until it is on stable storage, and only then hand in.

        May be called again after an OSError. A last word that is safe is not appended again, because the file may
        already be the master's by then.
        """
        if not self._is_safe:
            self._make_safe(record)
            self._is_safe = True
        self.hand_in()

    def _make_safe(self, record: Record) -> None:
        if not self._said_last_word:
            return self.append(record, sync=True)
        self._said_last_word = False  # if this fails, the system may have dropped it
        with contextlib.suppress(FileNotFoundError):  # somebody has moved the file, which may be well: `hand_in` looks
            sync(self.path)

    def hand_in(self) -> None:
        """Give the file to the master, as it is."""
        done = self.name.to("done")
        if time.monotonic() - self._since >= A_MOMENT:
            self.folder.make_way(done, self.path)
        if self.folder._move(self.name, done):
            return
        # It is gone. Perhaps our own rename succeeded, and the master collected the file before the reply came.
        for pause in LOOKS_FOR_OURS:
            time.sleep(pause)
            if self._is_handed_in():
                return
            if self.folder.has(self.name.to("lost")):
                break
        self._gone()

    def _is_handed_in(self) -> bool:
        """Is our file where a hand-in brings it?"""
        for state in ("done", "seen"):
            with contextlib.suppress(FileNotFoundError, BrokenFile):
                if self.folder.read(self.name.to(state)).claim.get("claimed") == self.name.owner:
                    return True
        return False

    def give_back(self, reason: str) -> None:
        """Offer the trial to other workers at once, as the next attempt: this attempt's name never comes back."""
        with contextlib.suppress(OSError):  # the reason is for people; a full disk must not keep the trial here
            self.append({"given_back": reason, "time": utc_now()})
        if self.name.attempt >= LAST_ATTEMPT:
            return self.hand_in()
        after = self.name.next_attempt()
        self.folder.make_way(after, self.path)
        if not self.folder._move(self.name, after):
            self._gone()

    def save_checkpoint(self, settings: Record, data: bytes, study: Record | None = None) -> None:
        """Keep what this attempt has learnt, whole and on stable storage, for a later attempt of the same study."""
        try:
            os.lstat(self.path)
        except FileNotFoundError:
            self._gone()
        with opened(self.folder.checkpoints) as inside:
            checkpoints.save_checkpoint(self.folder.checkpoint(self.name), _origin(settings, study), data, inside)

    @property
    def out(self) -> str:
        """The directory in which a command may keep files of its own.

        All attempts at this trial share it, and all trials that go on with it.
        """
        return f"{self.folder.out}/trial-{self._first:05d}"

    def make_out(self) -> None:
        """Make that directory. Raises BrokenFile if something else stands there."""
        for path in (str(self.folder.out), self.out):
            try:
                make_directory(path)
                with opened(path):
                    pass
            except NotADirectoryError as error:
                raise BrokenFile(f"{path}: {error.strerror}") from None

    def keep_output(self, data: bytes) -> None:
        """Add to the file that holds what the training prints. It is for people: nothing is ever read from it."""
        make_directory(self.folder.output)
        with opened(self.folder.output) as inside:
            append_data(str(self.folder.output_of(self.name)), data, inside)

    def load_checkpoints(
        self, settings: Record, study: Record | None = None, parent: Parent | None = None
    ) -> Iterator[tuple[str, bytes]]:
        """Path and contents of the checkpoints from which this trial can go on, the latest first.

        They are its own, with the same settings and study, and then its parent's, with whose training it goes on.
        """
        directory, differing = self.folder.checkpoints, functools.partial(_differing, study=study)
        yield from checkpoints.load_checkpoints(directory, self.name, _origin(settings, study), differing)
        if parent:
            name, before = TrialName(parent.number, parent.attempt), {**settings, **parent.settings}
            yield from checkpoints.load_checkpoints(directory, name, _origin(before, study), differing)

    def _gone(self) -> NoReturn:
        """Our name is not there. Raises LeaseLost if the folder shows why; if not, a file server may be away."""
        self.folder.check_presence()
        if self.folder.has_gone_on(self.name):
            raise LeaseLost(self.path)
        text = "is not there, and nothing shows what became of it"
        raise FileNotFoundError(errno.ENOENT, text, self.path)


def _origin(settings: Record, study: Record | None) -> Record:
    """Where a checkpoint comes from: only trainings with the same settings, of the same study, may resume from it.

    A setting that has the value of the trials from before it was there makes no difference: it is left out.
    """
    if not study:
        return {"settings": settings}
    told = {key: study.get(key) for key in ("name", "objective", "metric")}
    return {"settings": _differing(settings, study), "study": told}


def _differing(settings: Record, study: Record | None) -> Record:
    """The settings without those that have the value of [before]."""
    before = flatten((study or {}).get("before") or {}, values=[*settings])
    return {name: value for name, value in settings.items() if name not in before or before[name] != value}


def _told(proposal: Proposal | Record) -> Record:
    """What the first line of a trial's file says of a proposal, or of mere settings."""
    return (proposal if isinstance(proposal, Proposal) else Proposal(proposal)).to_record()


def signature_of(path: str, inside: int | None = None) -> tuple[int, ...]:
    """A value that changes when the file is written or touched. Raises OSError if the file is gone."""
    status = status_of(path, inside)
    return status.st_ino, status.st_size, status.st_mtime_ns
