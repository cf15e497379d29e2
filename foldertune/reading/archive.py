"""A study with all its trials: read from its folder, or from the few files that keep a finished study small.

    python -m foldertune results --logs /shared/me/lr --keep kept/lr

writes study.json, results.csv and trials.jsonl, a line a trial with its learning
curve in columns. Programs of analysis read such a folder as they read logs/.
"""

from __future__ import annotations

import itertools
import json
import os
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foldertune.errors import StudyError
from foldertune.protocol import BrokenFile, Folder, Record, Trial, TrialName, read_records, to_line, write_whole
from foldertune.rows import Row, columns
from foldertune.study import Study, differences
from foldertune.study_file import study_from_record

if TYPE_CHECKING:
    from pandas import DataFrame

ARCHIVE = "trials.jsonl"
FILES = {"study.json", "results.csv", ARCHIVE, "report"}  # and what analysis.report puts beside them
LIMIT = 2**31  # bytes of trials.jsonl: some hundred thousand trials
DIGITS = 5  # significant ones of what an epoch reported


@dataclass(frozen=True)
class Search:
    """A study and what its trials have told so far; each list in the order of the trials and attempts."""

    study: Study
    trials: list[Trial]  # those that are counted, the failed ones too
    in_hand: list[Trial] = field(default_factory=list)  # being trained, or waiting to be counted
    lost: list[Trial] = field(default_factory=list)  # attempts that ended without a result
    surplus: list[Trial] = field(default_factory=list)  # attempts at a trial that is counted already
    complaints: list[str] = field(default_factory=list)  # a line about each file that could not be read


# ---------------------------------------------------------------- reading


def open_study(path: Path) -> tuple[Folder, Study]:
    """The folder and its study. Raises StudyError if there is none that can be read."""
    folder = Folder(path)
    try:
        folder.check_parts()
        record = folder.read_study()
    except BrokenFile as error:
        raise StudyError(str(error)) from None
    except OSError as error:
        raise StudyError(f"{error.filename or path}: {error.strerror}") from None
    if record is None:
        raise StudyError(f"{path}: no study there (no study.json); start one with: python master.py --logs {path}")
    return folder, study_from_record(record, str(folder.study))


def read_search(path: Path, *, epochs: bool = True) -> Search:
    """What lies in a study's folder, or in an archive; without its `epochs` several times as fast.

    Raises StudyError if there is no study that can be read.
    """
    folder, study = open_study(path)
    complaints: list[str] = []
    found = _read_archive(path / ARCHIVE) if is_archive(path) else _read_folder(folder, complaints, epochs=epochs)
    trials = sorted(found, key=lambda trial: (trial.name.number, trial.name.attempt))
    counted = {trial.name.number: trial for trial in reversed(trials) if trial.name.state == "seen"}
    return Search(
        study=study,
        trials=[counted[number] for number in sorted(counted)],
        in_hand=[t for t in trials if t.name.state in ("taken", "done") and t.name.number not in counted],
        lost=[t for t in trials if t.name.state == "lost"],
        surplus=[t for t in trials if t.name.state != "lost" and t is not counted.get(t.name.number, t)],
        complaints=complaints,
    )


def _read_folder(folder: Folder, complaints: list[str], *, epochs: bool) -> Iterator[Trial]:
    try:
        names = [*folder.names(), *folder.settled()]  # in this order: what is collected meanwhile is in one of them
    except OSError as error:
        raise StudyError(f"{error.filename or folder.path}: {error.strerror}") from None
    for name in sorted(names, key=lambda name: (name.number, name.attempt)):
        if name.state != "pending":
            try:
                yield folder.read(name, epochs=epochs)
            except BrokenFile as error:
                complaints.append(str(error))
            except FileNotFoundError:
                continue  # it has moved on since the listing
            except OSError as error:
                complaints.append(f"{folder.locate(name)}: {error.strerror}")


# ---------------------------------------------------------------- the archive


def is_archive(path: Path) -> bool:
    """Is it one of ours, and not a folder in which a search goes on?"""
    return (path / ARCHIVE).is_file() and not (path / "seen").exists()


def write_archive(search: Search, out: Path) -> None:
    """Keep what is counted or lost; what is in hand is left out. results.csv is the caller's to write.

    Raises OSError, and StudyError if `out` holds anything but an earlier archive of this study.
    """
    _check_target(search, out)
    kept = sorted([*search.trials, *search.lost], key=lambda trial: (trial.name.number, trial.name.attempt))
    study = json.dumps(search.study.to_record(), ensure_ascii=False, indent=1) + "\n"
    out.mkdir(parents=True, exist_ok=True)
    write_whole(out / ARCHIVE, b"".join(to_line(_pack(trial)) for trial in kept))
    write_whole(out / "study.json", study.encode(errors="backslashreplace"))


def _check_target(search: Search, out: Path) -> None:
    """Raise StudyError if anything would be lost that is in `out`."""
    try:
        names = {name for name in os.listdir(out) if not (name.startswith(".") and name.endswith(".tmp"))}
    except FileNotFoundError:
        return
    if not names:
        return
    if not names <= FILES or ARCHIVE not in names:
        raise StudyError(f"{out}: there is something else in it; choose a new folder, or one that --keep made")
    if "study.json" not in names:
        return  # --keep was stopped here before its end
    there = read_search(out, epochs=False)
    if differing := differences(there.study, search.study):
        raise StudyError(f"{out}: keeps another study; it differs in {', '.join(differing)}; choose another folder")
    missing = {trial.name.number for trial in there.trials} - {trial.name.number for trial in search.trials}
    if missing:
        raise StudyError(f"{out}: keeps trial {min(missing)}, which is not counted here; choose another folder")


def _read_archive(path: Path) -> Iterator[Trial]:
    try:
        with open(path, "rb") as file:
            if file.seek(0, os.SEEK_END) and file.seek(-1, os.SEEK_END) and file.read() != b"\n":
                raise BrokenFile(f"{path}: is cut off")
        for number, record in enumerate(read_records(str(path), limit=LIMIT), start=1):
            name = TrialName.parse(str(record.get("name")))
            if name is None or name.state not in ("seen", "lost"):
                raise BrokenFile(f"{path}: line {number}: its 'name' must be that of a trial that is seen or lost")
            try:
                records = list(_unpack(record))
            except (TypeError, ValueError, AttributeError):
                raise BrokenFile(f"{path}: line {number}: its learning curve is broken") from None
            yield Trial.from_records(name, records, f"{path}: line {number}")
    except BrokenFile as error:
        raise StudyError(f"{error}; make the archive again, in a new folder") from None
    except OSError as error:
        raise StudyError(f"{path}: {error.strerror}") from None


def _pack(trial: Trial) -> Record:
    """A trial as one line; what it has not got is left out."""
    story: Record = {
        "settings": trial.settings,
        "lease": trial.lease,
        "timeout": trial.timeout,
        "lost": trial.lost or None,
        "claim": trial.claim or None,
        "epochs": _pack_epochs(trial.epochs) or None,
        "result": trial.result,
        "error": trial.error,
        "finished": trial.finished,
    }
    return {"name": str(trial.name), **{key: value for key, value in story.items() if value is not None}}


def _pack_epochs(epochs: Iterable[Record]) -> list[dict[str, list[Any]]]:
    """The learning curve as columns: one object for all epochs in a row that report the same (mostly there is one)."""
    blocks = []
    for keys, group in itertools.groupby(epochs, key=tuple):
        members = list(group)
        blocks.append({key: [_rounded(epoch[key]) for epoch in members] for key in keys})
    return blocks


def _rounded(value: Any) -> Any:
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value


def _unpack(record: Record) -> Iterable[Record]:
    """The lines of a trial's file again."""
    yield {key: record[key] for key in ("settings", "lease", "timeout", "lost") if key in record}
    if record.get("claim"):
        yield {"claimed": None, **record["claim"]}
    for block in record.get("epochs", []):
        for values in zip(*block.values(), strict=True):
            yield dict(zip(block, values, strict=True))
    for word in ("result", "error"):
        if word in record:
            yield {word: record[word], "time": record.get("finished")}


def read_rows(folder: Folder, known: Iterable[Row] = ()) -> tuple[list[Row], list[str]]:
    """The counted trials, in their order, and a line about each file that could not be read.

    Those `known` from an earlier look are not read again.
    """
    rows = {row.trial: row for row in known}
    complaints = []
    for name in sorted(folder.settled(), key=lambda name: (name.number, name.attempt)):
        if name.state != "seen" or name.number in rows:
            continue
        try:
            rows[name.number] = Row.from_trial(folder.read(name, epochs=False))
        except BrokenFile as error:
            complaints.append(str(error))
        except OSError as error:
            complaints.append(f"{folder.locate(name)}: {error.strerror}")
    return [rows[number] for number in sorted(rows)], complaints


def load(logs: Path | str) -> DataFrame:
    """The counted trials as a pandas DataFrame: a row a trial, all columns of results.csv, times as timestamps.

    Warns of files that could not be read. Raises StudyError if there is no study in `logs`, or no pandas here.
    """
    try:
        import pandas
    except ImportError:
        raise StudyError("a DataFrame needs pandas: pip install pandas") from None
    search = read_search(Path(logs), epochs=False)
    for complaint in search.complaints:
        warnings.warn(f"left out: {complaint}", stacklevel=2)
    rows = [Row.from_trial(trial) for trial in search.trials]
    table = pandas.DataFrame([row.cells() for row in rows], columns=columns(rows))
    for key in ("claimed", "finished"):
        texts = [time if isinstance(time, str) else None for time in table[key]]
        table[key] = pandas.to_datetime(pandas.Series(texts, dtype="str"), utc=True, errors="coerce", format="ISO8601")
    return table
