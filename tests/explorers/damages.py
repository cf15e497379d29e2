"""Everything that may stand in a shared folder: each function here puts one such thing there, by chance."""

from __future__ import annotations

import os
import re
import socket
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

OWNER = "gone-1-abcd"  # of no host that is here
PARTS = ("seen", "checkpoints", "output", "out", "aside", "workers")
VITAL = (
    *PARTS,
    "study.json",
    "study.json.done",
    "trials.jsonl",
    "report",
    "worker-1.log",
    ".master-00001.jsonl",
    ".master-999999999.jsonl",
)  # a person must put them back
HUGE, LARGE = 2**36, 3 * 2**30  # bytes of files without contents, both more than any file of ours may have

CONTENTS: dict[str, Callable[[bytes, Random], bytes]] = {
    "empty": lambda old, chance: b"",
    "newline": lambda old, chance: b"\n",
    "truncated": lambda old, chance: old[: chance.randrange(len(old) + 1)],
    "random bytes": lambda old, chance: chance.randbytes(1000) + b"\n",
    "NULs": lambda old, chance: b"\0" * 1000,
    "NULs at the end": lambda old, chance: old + b"\0" * 1000 + b"\n",
    "invalid UTF-8": lambda old, chance: old.replace(b"e", b"\xff\xfe", 1),
    "surrogates": lambda old, chance: old.replace(b'"', b'"\\ud800', 1),
    "other JSON": lambda old, chance: chance.choice([b"null", b"[]", b"7", b'"text"', b"{}", b"true", b"1e999"]) + b"\n",
    "a key of other type": lambda old, chance: re.sub(
        rb'("\w+": ?)("[^"]*"|[\d.]+)',
        lambda match: match[1] + chance.choice([match[2], match[2], b"null", b"[]", b"{}", b"-1", b'"\\u0000\\n"', b"[[1]]"]),
        old,
    ),
    "deep nesting": lambda old, chance: b"[" * 100_000 + b"\n",
    "deep settings": lambda old, chance: b'{"settings":' * 5000 + b"\n",
    "huge integers": lambda old, chance: re.sub(rb"\d+", b"9" * chance.choice([19, 400, 5000]), old, count=2),
    "no numbers": lambda old, chance: re.sub(
        rb"(?<=: )[\d.]+", lambda match: chance.choice([b"NaN", b"-Infinity", b"1e999", match[0]]), old
    ),
    "flipped bytes": lambda old, chance: _flip(old, chance),
    "no spaces": lambda old, chance: old.replace(b" ", b""),
    "twice": lambda old, chance: old + old,
}  # fmt: skip

NAMES = (
    b"\xff\xfe.jsonl", b"trial-00003-1.jsonl\n", b"\n", b"\x1b[2J\x1b]0;mine\x07", b"-rf", b"...", b"a" * 255,
    b"trial-00003-1.jsonl.bak", b"trial-0000\xd9\xa3-1.jsonl", b"trial-00003--1.jsonl", b"trial-00003-0.jsonl",
    b"trial-00003-01.jsonl", b"TRIAL-00003-1.JSONL", b"trial-00003-1.jsonl.a b.taken", b"trial-00003-1.jsonl.DONE",
    b"trial-00003-1.jsonl." + b"w" * 200 + b".taken", b"\xe2\x80\xae.checkpoint", b".doctor-", b".nfs0001", b"study.json~",
)  # fmt: skip
TEMPORARY = (
    ".notes.tmp", ".thesis.gone-1-1f0c93aa.tmp", ".results.csv.swp.tmp", ".x.{here}-999999-1f0c93aa.tmp", "..-1-x.tmp",
    ".trial-00003-1.checkpoint.tmp", ".trial-00003-1.jsonl.mine.tmp", ".~lock.results.csv#.{here}-999999-abcd.tmp",
)  # fmt: skip
NUMBERS = (
    "trial-999999999999-1.jsonl", "trial-9999999999999-1.jsonl", "trial-00003-999999999.jsonl", "trial-00003-1000000000.jsonl",
    "trial-00003-9999999999.jsonl", f"trial-00003-999999999.jsonl.{OWNER}.taken", "trial-00003-999999999.jsonl.done",
    "seen/trial-00003-999999999.jsonl.lost", "seen/trial-00003-999999998.jsonl.lost", "seen/trial-00003-1000000000.jsonl.lost",
    "seen/trial-00003-999999999.jsonl.seen", "seen/trial-999999999999-1.jsonl.seen", "trial-00003-0.jsonl",
    "seen/trial-00003-0.jsonl.lost", "seen/trial-2147483648-2147483648.jsonl.lost", "seen/trial-00003-99999999999.jsonl.seen",
    "checkpoints/trial-00003-999999999.checkpoint", "seen/trial-00003-1.jsonl", "trial-00003-1.jsonl.seen",
)  # fmt: skip
MODES = (0, 0o222, 0o111, 0o444, 0o555, 0o4755, 0o7777)


@dataclass(frozen=True)
class Damage:
    """What was done, and where what stood there before is kept: a person could put it back."""

    kind: str
    path: Path
    kept: Path | None = None
    mode: int | None = None

    def __str__(self) -> str:
        return (
            f"{self.path.name if self.path.parent.name not in PARTS else '/'.join(self.path.parts[-2:])!r}: {self.kind}"
        )


class Vandal:
    """Damages a folder, by chance.

    Args:
        logs: the folder.
        outside: a directory that has nothing to do with it, with files of the same names.
        kept: where this puts what it replaces.
        host: the name of this machine, as temporary names spell it.
    """

    def __init__(self, logs: Path, outside: Path, kept: Path, host: str, chance: Random) -> None:
        self.logs, self.outside, self.kept, self.host, self.chance = logs, outside, kept, host, chance

    def damage(self) -> Damage:
        """Do one damage."""
        kind = self.chance.choices(["place", "contents", "mode", "name", "temporary", "number"], [9, 6, 2, 2, 2, 2])[0]
        return getattr(self, f"_{kind}")()

    def target(self, *, files: bool = False) -> Path:
        """A path of ours, whether something is there or not."""
        there = sorted(path for path in self.logs.rglob("*") if not path.is_symlink())
        if files:
            there = [path for path in there if path.is_file()]
            trials = [path for path in there if "trial-" in path.name]
            return self.chance.choice(self.chance.choice([there, trials or there]))
        names = [*VITAL, "results.csv"]
        names += [f"trial-0000{n}-1.jsonl{end}" for n in range(4) for end in ("", ".done", f".{OWNER}.taken")]
        names += [f"seen/trial-0000{n}-1.jsonl.{end}" for n in range(4) for end in ("seen", "lost")]
        names += ["checkpoints/trial-00005-1.checkpoint", "output/trial-00005-1.txt", "out/trial-00005"]
        absent = [self.logs / name for name in names if (self.logs / name).parent.is_dir()]
        parts = [path for path in there if path.name in VITAL]
        return self.chance.choice(self.chance.choice([there, absent, parts or there]))

    def _place(self) -> Damage:
        """Put something of another kind in the place of a file or a directory."""
        path = self.target()
        kept = self._take_away(path)
        put = self.chance.choice(self.kinds)
        put(path)
        return Damage(put.__name__.removeprefix("put_").replace("_", " "), path, kept)

    @property
    def kinds(self) -> list[Callable[[Path], None]]:
        """Everything that may stand in the place of something else."""
        return [getattr(self, name) for name in dir(self) if name.startswith("put_")]

    def _take_away(self, path: Path) -> Path | None:
        if not os.path.lexists(path):
            return None
        self.kept.mkdir(exist_ok=True)
        kept = self.kept / f"{len(os.listdir(self.kept))}-{path.name}"
        os.rename(path, kept)
        return kept

    def _contents(self) -> Damage:
        path = self.target(files=True)
        old, kind = path.read_bytes(), self.chance.choice([*CONTENTS])
        kept = self._take_away(path)
        path.write_bytes(CONTENTS[kind](old, self.chance))
        return Damage(kind, path, kept)

    def _mode(self) -> Damage:
        path = self.target()
        if not os.path.lexists(path) or path.is_symlink():
            path = self.logs / "seen" if (self.logs / "seen").is_dir() else self.logs / "study.json"
        if not os.path.lexists(path) or path.is_symlink():
            path = self.target(files=True)
        mode, before = self.chance.choice(MODES), stat.S_IMODE(path.stat().st_mode)
        path.chmod(mode)
        return Damage(f"mode {mode:o}", path, mode=before)

    def _name(self) -> Damage:
        name, place = self.chance.choice(NAMES), self.chance.choice([self.logs, *self._parts()])
        path = os.fsencode(place) + b"/" + name
        if not os.path.lexists(path):
            with open(path, "wb") as file:
                file.write(b'{"settings": {"x": 0.5}}\n')
        return Damage("strange name", Path(os.fsdecode(path)))

    def _temporary(self) -> Damage:
        name = self.chance.choice(TEMPORARY).format(here=self.host)
        path = self.chance.choice([self.logs, *self._parts()]) / name
        if not os.path.lexists(path):
            put = self.chance.choice([self.put_text, self.put_text, self.put_full_directory, self.put_link_to_file])
            put(path)
        return Damage("foreign temporary file", path)

    def _number(self) -> Damage:
        path = self.logs / self.chance.choice(NUMBERS)
        if not path.parent.is_dir():
            path = self.logs / path.name
        kept = self._take_away(path)
        settings = b'{"settings": {"x": 0.5}}\n'
        path.write_bytes(settings + self.chance.choice([b"", b'{"result": {"validation_error": 0.5}}\n']))
        return Damage("number", path, kept)

    def _parts(self) -> list[Path]:
        return [
            self.logs / part for part in PARTS if (self.logs / part).is_dir() and not (self.logs / part).is_symlink()
        ]

    # ---- what may stand there

    def put_nothing(self, path: Path) -> None:
        pass

    def put_link_to_file(self, path: Path) -> None:
        path.symlink_to(self._alike(path))

    def put_link_to_directory(self, path: Path) -> None:
        path.symlink_to(self.outside / "directory")

    def put_link_to_a_directory_like_ours(self, path: Path) -> None:
        path.symlink_to(self.outside)

    def put_link_to_zeros(self, path: Path) -> None:
        path.symlink_to("/dev/zero")

    def put_link_to_nowhere(self, path: Path) -> None:
        path.symlink_to(self.outside / "nowhere")

    def put_link_to_itself(self, path: Path) -> None:
        path.symlink_to(path.name)

    def put_link_to_a_fifo(self, path: Path) -> None:
        path.symlink_to(self.outside / "fifo")

    def put_fifo(self, path: Path) -> None:
        os.mkfifo(path)

    def put_socket(self, path: Path) -> None:
        before = Path.cwd()
        os.chdir(path.parent)  # the path of a socket may have 107 characters
        try:
            with socket.socket(socket.AF_UNIX) as listener:
                listener.bind(path.name)
        finally:
            os.chdir(before)

    def put_empty_directory(self, path: Path) -> None:
        path.mkdir()

    def put_full_directory(self, path: Path) -> None:
        (path / "inside").mkdir(parents=True)
        (path / "mine").write_text("mine\n")

    def put_text(self, path: Path) -> None:
        path.write_text(f"mine: {path.name}\n")

    def put_hard_link(self, path: Path) -> None:
        os.link(self._alike(path), path)

    def put_hard_link_to_a_story(self, path: Path) -> None:
        os.link(self.outside / self.chance.choice(["pending", "story"]), path)

    def put_huge_file(self, path: Path) -> None:
        with open(path, "wb") as file:
            file.truncate(self.chance.choice([HUGE, LARGE]))

    def put_huge_file_with_a_result(self, path: Path) -> None:
        path.write_bytes((self.outside / "story").read_bytes())
        with open(path, "r+b") as file:
            file.truncate(LARGE)

    def _alike(self, path: Path) -> Path:
        """A file outside with this name, or any."""
        alike = self.outside / path.name
        return alike if alike.is_file() else self.outside / "file"


def furnish(outside: Path, trials: int) -> None:
    """Fill a directory that is nobody's but a person's with what a search would touch if it came here."""
    (outside / "directory" / "inside").mkdir(parents=True)
    (outside / "file").write_text("mine\n")
    os.mkfifo(outside / "fifo")
    pending = b'{"settings": {"x": 0.125}, "lease": 5.0}\n'
    story = pending + b'{"claimed": "gone-1-abcd", "host": "gone", "pid": 1}\n{"result": {"validation_error": 0.125}}\n'
    for directory in (outside, outside / "directory"):
        (directory / "pending").write_bytes(pending)
        (directory / "story").write_bytes(story)
        for name in ("study.json", "results.csv", "trials.jsonl", ".master.json", "study.json.1", "report.html"):
            (directory / name).write_text(f"my {name}\n")
        (directory / ".results.csv.gone-1-1f0c93aa.tmp").write_text("my table\n")
        for number in range(trials):
            for end in (".jsonl.seen", ".jsonl.lost", ".jsonl", ".jsonl.done", ".checkpoint", ".txt"):
                (directory / f"trial-{number:05d}-1{end}").write_bytes(story if "seen" in end else pending)


def look(place: Path) -> dict[str, tuple[object, ...]]:
    """Everything below a directory: kind and mode, contents, and the time, which a heartbeat to a hard link may change."""
    return {str(path.relative_to(place)): _describe(path) for path in place.rglob("*")}


def is_unchanged(before: tuple[object, ...] | None, after: tuple[object, ...] | None) -> bool:
    """Does something stand there as before? A file that had a hard link in the folder may have another time."""
    if before and after and None in (before[-1], after[-1]):
        return before[:-1] == after[:-1]
    return before == after


def _describe(path: Path) -> tuple[object, ...]:
    status = path.lstat()
    time = status.st_mtime_ns if status.st_nlink == 1 else None
    if stat.S_ISLNK(status.st_mode):
        return "link", os.readlink(path)
    if not stat.S_ISREG(status.st_mode):
        return (stat.filemode(status.st_mode),)
    return stat.filemode(status.st_mode), path.read_bytes(), time


def belongings(path: Path) -> Iterator[tuple[object, ...]]:
    """What a person has put at a path, in a form by which it can be found again somewhere else."""
    status = path.lstat()
    if stat.S_ISLNK(status.st_mode):
        yield "link", os.readlink(path)
    elif stat.S_ISDIR(status.st_mode):
        yield "directory", status.st_ino
        for child in path.iterdir():
            yield from belongings(child)
    elif not stat.S_ISREG(status.st_mode) or status.st_size > 2**24:
        yield "special", status.st_ino
    else:
        yield "file", path.read_bytes()


def is_inside(path: Path, logs: Path) -> bool:
    """Is it there, and in the folder itself, not behind a link?"""
    between = [parent for parent in path.parents if logs in parent.parents]
    return os.path.lexists(path) and not any(parent.is_symlink() for parent in between)


def touched(damage: Damage) -> int | None:
    """The trial whose file was damaged."""
    match = re.match(r"\.?trial-(\d+)-\d+\.(?:jsonl|checkpoint)", damage.path.name, re.ASCII)
    return int(match[1]) if match else None


def is_vital(damage: Damage, logs: Path) -> bool:
    """Is this one of the damages that a person has to repair, since no program may decide about it?"""
    return damage.kind == "nothing" or (damage.path.parent == logs and damage.path.name in VITAL)


def _flip(old: bytes, chance: Random) -> bytes:
    spoilt = bytearray(old)
    for _ in range(chance.randint(1, 5) if spoilt else 0):
        spoilt[chance.randrange(len(spoilt))] = chance.randrange(256)
    return bytes(spoilt)
