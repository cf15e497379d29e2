"""A kept study, the small form of a finished one: study.json, results.csv, and trials.jsonl with one line per trial.

`foldertune results --logs /shared/me/lr --keep kept/lr` writes it, with each learning curve in columns. All programs
that read a study's folder also read this form.
"""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from foldertune.definitions import differences
from foldertune.errors import StudyError
from foldertune.protocol import (
    END,
    BrokenFile,
    Folder,
    Record,
    Trial,
    TrialName,
    is_there,
    read_records,
    read_request,
    read_tail,
    to_line,
    write_whole,
)
from foldertune.reading.results import Results
from foldertune.rows import Row, results_csv
from foldertune.shipped import command
from foldertune.spending import cost, spent
from foldertune.study import Study
from foldertune.study_file import study_from_record
from foldertune.tables import finite

COMPLETE = "complete"  # an empty file: the study had ended when it was kept
FILES = {"study.json", "results.csv", "trials.jsonl", END, COMPLETE, "report"}  # `report` is the folder of a report
LIMIT = 2**31  # bytes of trials.jsonl: some hundred thousand trials
MOST_BELOW = 5  # studies that an error names
_FIRST = ("settings", "values", "parent", "why", "lease", "timeout", "lost")  # what stands in a file's first line
DIGITS = 5  # significant digits of an epoch's metrics


def open_study(path: Path) -> tuple[Folder, Study]:
    """The folder and its study. Raises StudyError if there is no study, or if it can't be read."""
    folder = Folder(path)
    try:
        folder.check_parts()
        record = folder.read_study()
    except BrokenFile as error:
        raise StudyError(str(error)) from None
    except NotADirectoryError:
        raise StudyError(f"{path}: is not a directory; give a study's folder with --logs") from None
    except OSError as error:
        raise StudyError(f"{error.filename or path}: {error.strerror}") from None
    if record is None:
        raise StudyError(f"{path}: {_why_there_is_none(path)}")
    return folder, study_from_record(record, str(folder.study_file()))


def is_study(path: Path) -> bool:
    """Is this the folder of a study?"""
    return any((path / name).exists() for name in ("study.json", "study.json.done"))


def _why_there_is_none(path: Path) -> str:
    """What is there instead of a study, and what to do."""
    start = f"start one with: {command('master', '--logs', path)}"
    if not path.exists():
        return f"no study there, because there is no such folder; give another one with --logs, or {start}"
    below = sorted(str(child) for child in path.iterdir() if is_study(child)) if path.is_dir() else []
    if below:
        return f"no study there, but below it; give one of these with --logs: {', '.join(below[:MOST_BELOW])}"
    return f"no study there (no study.json); give another folder with --logs, or {start}"


def read_archive(path: Path) -> Results:
    """The results of the kept study at `path`. Raises StudyError if they can't be read."""
    _, study = open_study(path)
    ended = read_request(path, END) if is_there(path / END) else None
    heard = dict[TrialName, float]()
    results = Results.of(study, _read_trials(Folder(path).kept, heard), kept=True, ended_by=ended, heard=heard)
    return replace(results, complete=bool(ended) or is_there(path / COMPLETE) or _seems_complete(results))


def _seems_complete(results: Results) -> bool:
    """Had the study ended when it was kept, by a version that did not say so? With epochs: was no trial left?"""
    study, trials = results.study, results.trials
    if not results.confirmation.is_settled:
        return False
    if results.why_over or not results.is_open_ended:
        return bool(results.why_over) or len(results.search) >= results.asked_of_search
    dearest = max((cost(study, trial.proposal) for trial in trials), default=0.0)
    return study.budget.epochs is not None and spent(study, trials) + dearest > study.budget.epochs


def write_archive(results: Results, out: Path) -> None:
    """Save the counted trials and the lost attempts. Trials in hand are left out.

    Raises OSError, and StudyError if `out` holds anything but an earlier archive of this study.
    """
    _check_target(results, out)
    kept = sorted([*results.trials, *results.lost], key=lambda trial: (trial.name.number, trial.name.attempt))
    study = json.dumps(results.study.to_record(), ensure_ascii=False, indent=1) + "\n"
    out.mkdir(parents=True, exist_ok=True)
    write_whole(Folder(out).kept, b"".join(to_line(_pack(trial, results.heard)) for trial in kept))
    write_whole(out / "study.json", study.encode(errors="backslashreplace"))
    ended = to_line(results.ended_by.to_record()) if results.ended_by else None
    for mark, content in ((END, ended), (COMPLETE, b"" if results.complete else None)):
        if content is None:
            (out / mark).unlink(missing_ok=True)  # of an earlier time
        else:
            write_whole(out / mark, content)
    write_whole(
        out / "results.csv",
        results_csv([Row.from_trial(trial) for trial in results.trials]).encode(errors="backslashreplace"),
    )


def _check_target(results: Results, out: Path) -> None:
    """Raise StudyError if writing to `out` would destroy anything."""
    try:
        names = {name for name in os.listdir(out) if not (name.startswith(".") and name.endswith(".tmp"))}
    except FileNotFoundError:
        return
    if not names:
        return
    if not names <= FILES or Folder(out).kept.name not in names:
        raise StudyError(f"{out}: holds other files; choose a new folder, or one that --keep made")
    if "study.json" not in names:
        return  # --keep was stopped here before its end
    there = read_archive(out)
    if differing := differences(there.study, results.study):
        raise StudyError(f"{out}: keeps another study; it differs in {', '.join(differing)}; choose another folder")
    missing = {trial.name.number for trial in there.trials} - {trial.name.number for trial in results.trials}
    if missing:
        raise StudyError(f"{out}: keeps trial {min(missing)}, which is not counted here; choose another folder")


def _read_trials(path: Path, heard: dict[TrialName, float]) -> Iterator[Trial]:
    """The trials. Notes when the workers of lost ones were heard last."""
    try:
        if read_tail(str(path), 1) not in (b"", b"\n"):
            raise BrokenFile(f"{path}: is cut off")
        for number, record in enumerate(read_records(str(path), limit=LIMIT), start=1):
            name = TrialName.parse(str(record.get("name")))
            if name is None or name.state not in ("seen", "lost"):
                raise BrokenFile(f"{path}: line {number}: its 'name' must be that of a trial that is seen or lost")
            try:
                records, dropped = list(_unpack(record)), record.get("dropped")
            except (TypeError, ValueError, AttributeError):
                raise BrokenFile(f"{path}: line {number}: its learning curve is broken") from None
            trial = Trial.from_records(name, records, f"{path}: line {number}")
            trial.dropped = dropped if isinstance(dropped, str) else None
            trial.is_verdict &= name.state == "seen"  # those that were tried again are not kept
            if (time := finite(record.get("heard"))) is not None:
                heard[name] = time
            yield trial
    except BrokenFile as error:
        raise StudyError(f"{error}; make the archive again, in a new folder") from None
    except OSError as error:
        raise StudyError(f"{path}: {error.strerror}") from None


def _pack(trial: Trial, heard: Mapping[TrialName, float]) -> Record:
    """A trial as one line. Missing values are left out."""
    story: Record = {
        **trial.proposal.to_record(),
        "lease": trial.lease,
        "timeout": trial.timeout,
        "lost": trial.lost or None,
        "earlier": trial.earlier or None,
        "claim": trial.claim or None,
        "resumed": trial.resumed,
        "epochs": _pack_epochs(trial.epochs) or None,
        "result": trial.result,
        "error": trial.error,
        "traceback": trial.traceback,
        "finished": trial.finished,
        "stopped": trial.stopped,
        "dropped": trial.dropped,
        "heard": heard.get(trial.name) if trial.name.state == "lost" else None,
    }
    return {"name": str(trial.name), **{key: value for key, value in story.items() if value is not None}}


def _pack_epochs(epochs: Iterable[Record]) -> list[dict[str, list[Any]]]:
    """The learning curve as columns: one object for each series of epochs with the same metrics (usually one)."""
    blocks = []
    for keys, group in itertools.groupby(epochs, key=tuple):
        members = list(group)
        blocks.append({key: [_rounded(epoch[key]) for epoch in members] for key in keys})
    return blocks


def _rounded(value: Any) -> Any:
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value


def _unpack(record: Record) -> Iterable[Record]:
    """The lines of a trial's file, from its packed line."""
    yield {key: record[key] for key in _FIRST if key in record}
    for claim in record.get("earlier", ()):
        yield {"claimed": None, **claim}
        yield {"given_back": claim.get("given_back"), "time": claim.get("until")}
    if record.get("claim"):
        yield {"claimed": None, **record["claim"]}
    if record.get("resumed"):
        yield {"resumed": record["resumed"]}
    for block in record.get("epochs", []):
        for values in zip(*block.values(), strict=True):
            yield dict(zip(block, values, strict=True))
    for word in ("result", "error"):
        if word in record:
            more: Record = {key: record[key] for key in ("stopped", "traceback") if key in record}
            yield {word: record[word], **more, "time": record.get("finished")}
