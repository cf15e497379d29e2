"""A study with all its trials: read from its folder, or from the one file that keeps a finished study small.

    python -m analysis.results --logs /shared/me/lr --keep kept/lr

writes study.json, results.csv and trials.jsonl, a line a trial with its learning
curve in columns. All programs of analysis read such a folder as they read logs/.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from search.study import Study, StudyError
from search.trials import BrokenFile, Folder, Record, Trial, TrialName, read_records, to_line, write_whole

ARCHIVE = "trials.jsonl"
DIGITS = 5  # significant ones of what an epoch reported


@dataclass(frozen=True)
class Search:
    """A study and what its trials have told so far; each list in the order of the trials and attempts."""

    study: Study
    trials: list[Trial]  # those that are counted, the failed ones too
    in_hand: list[Trial] = field(default_factory=list)  # being trained, or waiting to be counted
    lost: list[Trial] = field(default_factory=list)  # attempts that ended without a result
    complaints: list[str] = field(default_factory=list)  # a line about each file that could not be read


def open_study(path: Path) -> tuple[Folder, Study]:
    """The folder and its study. Raises StudyError if there is none that can be read."""
    folder = Folder(path)
    try:
        folder.check_parts()
        record = folder.read_study()
    except (BrokenFile, OSError) as error:
        raise StudyError(str(error)) from None
    if record is None:
        raise StudyError(f"{path}: no study there (no study.json); start one with: python master.py --logs {path}")
    return folder, Study.from_record(record, str(folder.study))


def read_search(path: Path, *, epochs: bool = True) -> Search:
    """What lies in a study's folder, or in an archived one; without its `epochs` several times as fast.

    Raises StudyError if there is no study that can be read.
    """
    folder, study = open_study(path)
    if (path / ARCHIVE).is_file():
        return Search(study, **_read_archive(path / ARCHIVE))
    found: dict[str, list[Trial]] = {"seen": [], "lost": [], "taken": [], "done": []}
    complaints = []
    try:
        names = [*folder.names(), *folder.settled()]  # in this order: what is collected meanwhile is in one of them
    except OSError as error:
        raise StudyError(f"{error.filename or path}: {error.strerror}") from None
    for name in sorted(names, key=lambda name: (name.number, name.attempt)):
        if name.state != "pending":
            try:
                found[name.state].append(folder.read(name, epochs=epochs))
            except BrokenFile as error:
                complaints.append(str(error))
            except FileNotFoundError:
                continue  # it has moved on since the listing
            except OSError as error:
                complaints.append(f"{folder.locate(name)}: {error.strerror}")
    counted = {trial.name.number: trial for trial in reversed(found["seen"])}
    in_hand = [trial for trial in found["taken"] + found["done"] if trial.name.number not in counted]
    return Search(study, [counted[number] for number in sorted(counted)], in_hand, found["lost"], complaints)


def _read_archive(path: Path) -> dict[str, Any]:
    trials: dict[str, list[Trial]] = {"seen": [], "lost": []}
    try:
        for record in read_records(str(path), limit=2**30):
            name = TrialName.parse(str(record.get("name")))
            if name is None or name.state not in trials:
                raise BrokenFile(f"{path}: {record.get('name')!r} is no name of a trial that is seen or lost")
            trials[name.state].append(Trial.from_records(name, list(_unpack(record)), str(path)))
    except (BrokenFile, OSError) as error:
        raise StudyError(f"{error}; make it again with analysis.results --keep") from None
    return {"trials": trials["seen"], "lost": trials["lost"]}


def _unpack(record: Record) -> Iterable[Record]:
    yield {"settings": record.get("settings"), "lost": record.get("lost", [])}
    yield {"claimed": None, **(record.get("claim") or {})}
    columns = record.get("epochs") or {}
    for values in zip(*columns.values(), strict=True):
        yield {key: value for key, value in zip(columns, values, strict=True) if value is not None}
    for word in ("result", "error"):
        if word in record:
            yield {word: record[word], "time": record.get("finished")}


def _pack(trial: Trial) -> Record:
    keys = dict.fromkeys(key for epoch in trial.epochs for key in epoch)
    columns = {key: [_rounded(epoch.get(key)) for epoch in trial.epochs] for key in keys}
    record: Record = {"name": str(trial.name), "settings": trial.settings, "claim": trial.claim, "epochs": columns}
    if trial.lost:
        record["lost"] = trial.lost
    if trial.result is not None:
        record["result"] = trial.result
    if trial.error is not None:
        record["error"] = trial.error
    return {**record, "finished": trial.finished}


def _rounded(value: Any) -> Any:
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value


def write_archive(search: Search, table: str, out: Path) -> None:
    """Keep what is counted or lost; what is in hand is left out. Raises OSError."""
    kept: Sequence[Trial] = sorted([*search.trials, *search.lost], key=lambda t: (t.name.number, t.name.attempt))
    out.mkdir(parents=True, exist_ok=True)
    write_whole(out / ARCHIVE, b"".join(to_line(_pack(trial)) for trial in kept))
    write_whole(out / "results.csv", table.encode(errors="backslashreplace"))
    study = json.dumps(search.study.to_record(), ensure_ascii=False, indent=1) + "\n"
    write_whole(out / "study.json", study.encode())
