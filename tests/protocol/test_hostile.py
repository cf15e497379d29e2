"""Torn and hostile files under every name. Each costs at most its own attempt, and reaches nothing outside."""

from __future__ import annotations

import ctypes
import json
import os
import random
import resource
import subprocess
import sys

import pytest

from foldertune.errors import StudyError
from foldertune.protocol import BrokenFile, TrialName, to_line
from foldertune.reading.archive import open_study
from foldertune.running.master import Master
from foldertune.running.mastership import open_folder
from foldertune.study_file import load_study
from tests.conftest import ROOT
from tests.pages import make

OWNER = "gone-1-abcd"  # of no host that is here


def story(number, value=0.25):
    """The contents of a finished trial's file."""
    lines = [
        {"settings": {"x": 0.5, "seed": number}, "lease": 5.0},
        {"claimed": OWNER, "host": "gone", "pid": 1, "process": None, "time": "2026-01-01T00:00:00.000Z"},
        {"epoch": 1, "validation_error": value},
        {"result": {"validation_error": value}, "time": "2026-01-01T00:00:01.000Z"},
    ]
    return b"".join(map(to_line, lines))


def begin(bench, trials, **study):
    """Begin a study in the folder. Returns the command line that resumes it."""
    file = bench.study(trials=trials, **study)
    bench.folder.prepare()
    bench.folder.write_study(load_study(file).to_record())
    return file, "--workers", 2, "--lease", 2


def path_of(bench, number, state, attempt=1):
    return bench.folder.locate(TrialName(number, attempt, state, OWNER if state == "taken" else ""))


def kept(bench, name):
    """The bytes of a file that was set aside."""
    with open(bench.folder.locate(name), "rb") as file:
        return file.read()


def read(bench):
    """Read the folder in every way that there is. The report, which imports most, is made in this process."""
    for program in ("results", "status"):
        bench.finish(bench.start("-m", "foldertune", program, "--logs", bench.logs))
    make(bench, bench.logs)


@pytest.mark.parametrize("state", ["pending", "taken", "done", "seen", "lost"])
def test_a_file_cut_at_every_byte(bench, state):
    """Trial k has the first k bytes of a finished file, so that one search meets every possible cut."""
    whole = story(7)
    command = begin(bench, trials=len(whole) + 1)
    for number in range(len(whole) + 1):
        with open(path_of(bench, number, state), "wb") as file:
            file.write(whole[:number])
    bench.search(*command)
    bench.assert_complete(len(whole) + 1)
    rows = {row.trial: row for row in bench.rows()}
    assert all(row.status == "succeeded" for row in rows.values())
    believed = [number for number, row in rows.items() if row.worker == OWNER]
    assert believed == ([len(whole)] if state in ("taken", "done", "seen") else [])
    if state != "pending":  # those are trained, where there is enough in them
        for name in bench.names("lost"):
            assert kept(bench, name) == whole[: name.number]


def mutations(seed):
    """A finished trial's bytes, damaged in many ways."""
    chance, whole = random.Random(seed), story(seed)
    spoilt = [
        b"",
        b"\n",
        b"\0" * 100,
        chance.randbytes(1000),
        chance.randbytes(1000) + b"\n",
        whole.replace(b"gone", b"\xff\xfe"),
        b"\xef\xbb\xbf" + whole,
        whole.replace(b"\n", b"\r"),
        b"[" * 100_000 + b"\n",
        b'{"settings":' * 5_000 + b"\n",
        *(kind + b"\n" for kind in (b"null", b"[]", b"7", b'"text"', b'{"settings": []}', b'{"settings": null}')),
        whole + b"null\n",
        b'{"settings": {"x": NaN, "y": -Infinity, "z": 1e999}, "lease": 1e999, "timeout": NaN, "lost": 7}\n',
        b'{"settings": {"x": 1}, "lease": ' + b"9" * 400 + b"}\n",
        b'{"settings": {"x": ' + b"9" * 5_000 + b"}}\n",
        *(
            whole.replace(b'{"result": {"validation_error": 0.25}', b'{"result": ' + result)
            for result in (
                b"null",
                b"[]",
                b"{}",
                b'{"validation_error": "low"}',
                b'{"validation_error": [1]}',
                b'{"validation_error": {"x": {"x": 1}}}',
            )
        ),
    ]
    for _ in range(20):
        bytes_ = bytearray(whole)
        for _ in range(chance.randint(1, 5)):
            bytes_[chance.randrange(len(bytes_))] = chance.randrange(256)
        spoilt.append(bytes(bytes_))
    return spoilt


@pytest.mark.parametrize("seed", range(4))
def test_spoilt_contents(bench, seed):
    print("seed", seed)
    contents = mutations(seed)
    command = begin(bench, trials=len(contents), objective="unpretentious")
    chance = random.Random(seed)
    for number, content in enumerate(contents):
        with open(path_of(bench, number, chance.choice(["pending", "taken", "done", "seen", "lost"])), "wb") as file:
            file.write(content)
    bench.search(*command)
    bench.assert_complete(len(contents))
    read(bench)


def test_numbers_that_are_none_and_too_large(bench):
    """JSON allows numbers that no float can hold. A trial with a value that is not finite has no value."""
    values = ["NaN", "Infinity", "-Infinity", "1e999", "1" + "0" * 400, "true", "null"]
    command = begin(bench, trials=len(values))
    for number, value in enumerate(values):
        with open(path_of(bench, number, "done"), "wb") as file:
            file.write(story(number).replace(b"0.25", value.encode()))
    bench.search(*command)
    bench.assert_complete(len(values))
    read(bench)


def test_a_line_of_100_megabytes_takes_no_memory(bench):
    command = begin(bench, trials=5)
    for number, state in enumerate(["pending", "taken", "done", "seen", "lost"]):
        with open(path_of(bench, number, state), "wb") as file:
            file.write(story(number) + b'{"epoch": "')
            for _ in range(100):
                file.write(b"x" * 2**20)
            file.write(b'"}\n')
    limit = 700 * 2**20  # of address space; a program that reads even one of them twice needs more
    said = bench.search(*command, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)))
    bench.assert_complete(5)
    assert "more than" in said


@pytest.mark.parametrize("state", ["pending", "taken", "done", "seen", "lost"])
def test_what_is_no_file(bench, state):
    """Nothing follows or waits for directories, FIFOs, and symbolic links to files and FIFOs elsewhere."""
    outside = bench.path / "outside"
    outside.mkdir()
    (outside / "result").write_bytes(story(3, value=0.0))
    os.mkfifo(outside / "fifo")
    before = os.stat(outside / "result").st_mtime_ns
    command = begin(bench, trials=7)
    paths = [path_of(bench, number, state) for number in range(6)]
    os.mkdir(paths[0])
    os.mkdir(paths[1])
    os.mkdir(paths[1] + "/inside")
    os.mkfifo(paths[2])
    os.symlink(outside / "result", paths[3])
    os.symlink(outside / "fifo", paths[4])
    os.symlink("/nowhere/at/all", paths[5])
    bench.search(*command)
    bench.assert_complete(7)
    assert all(row.status == "succeeded" and row.metrics["validation_error"] > 0 for row in bench.rows())
    assert (outside / "result").read_bytes() == story(3, value=0.0) and len(os.listdir(outside)) == 2
    assert os.stat(outside / "result").st_mtime_ns == before
    read(bench)


def test_names_that_are_no_trials(bench):
    command = begin(bench, trials=5)
    names = ["trial-00001-1.jsonl\n", "trial-1-1.jsonl", "trial-00001-1.jsonl.a b.taken", "\x1b[2J", "..."]
    names += ["trial-00001--1.jsonl", "trial-000001-1.jsonl", "trial-00001-1.jsonl.DONE", "-rf", "a" * 255]
    places = [os.fsencode(bench.logs), os.fsencode(bench.folder.seen)]
    names_in_bytes = [*(name.encode() for name in names), b"\xff\xfe.jsonl"]
    for place in places:
        for name in names_in_bytes:
            with open(place + b"/" + name, "wb") as file:
                file.write(story(1))
    bench.search(*command)
    bench.assert_complete(5)
    for place in places:
        assert set(names_in_bytes) <= set(os.listdir(place)), "they are not ours: nobody touches them"


def respect_permissions():
    """Make permissions count in a child process of root: give up the capabilities that override them."""
    for capability in (1, 2):  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
        ctypes.CDLL(None).prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP; fails, and need not, for other users


def test_files_without_permission(bench):
    command = begin(bench, trials=6)
    for number, state in enumerate(["pending", "taken", "done", "seen", "lost"]):
        with open(path_of(bench, number, state), "wb") as file:
            file.write(story(number))
    for number, state in enumerate(["pending", "taken", "done", "seen", "lost"]):
        os.chmod(path_of(bench, number, state), 0)
    said = bench.search(*command, preexec_fn=respect_permissions)
    bench.assert_complete(6)
    assert said.count("Permission denied") >= 3


# ---- the files that are no trials


def test_study_json_cut_at_every_byte(bench):
    file, *_ = begin(bench, trials=5)
    study, whole = load_study(file), bench.folder.study.read_bytes()
    for cut in range(len(whole) - 2):  # at least the last bracket is missing
        bench.folder.study.write_bytes(whole[:cut])
        with pytest.raises(BrokenFile, match=r"study\.json"):
            open_folder(bench.folder, study)
        with pytest.raises(StudyError, match=r"study\.json"):
            open_study(bench.logs)
    bench.folder.study.unlink()
    bench.folder.study_done.write_text('{"name": "toy"}')
    for action in (lambda: open_folder(bench.folder, study), lambda: open_study(bench.logs)):
        with pytest.raises(StudyError, match=r"study\.json\.done: "):
            action()


@pytest.mark.parametrize("seed", range(3))
def test_study_json_spoilt_by_chance(bench, seed):
    file, *_ = begin(bench, trials=5, extra='direction = "minimize"')
    study, whole = load_study(file), bench.folder.study.read_bytes()
    chance = random.Random(seed)
    values = [None, [], {}, 7, -1, 1e999, "text", True, [[]], {"type": "float"}, 10**400]
    for _ in range(300):
        record = json.loads(whole)
        place = record if chance.random() < 0.6 else chance.choice([v for v in record.values() if isinstance(v, dict)])
        key = chance.choice([*place, "unknown"])
        place[key] = chance.choice(values)
        bench.folder.study.write_bytes(json.dumps(record).encode())
        for action in (lambda: open_folder(bench.folder, study), lambda: open_study(bench.logs)):
            try:
                action()
            except (BrokenFile, StudyError) as error:
                assert "\n" not in str(error)


@pytest.mark.parametrize(
    "name",
    [
        "study.json",
        "study.json.done",
        "results.csv",
        "seen",
        "checkpoints",
        ".master-00001.jsonl",
        "worker-1.log",
    ],
)
@pytest.mark.parametrize("kind", ["directory", "fifo", "link"])
def test_something_else_under_a_name_of_ours(bench, name, kind):
    """The search continues, or names the file at fault in one line. It never touches the target of a link."""
    outside = bench.path / "outside"
    outside.mkdir()
    (outside / "file").write_text("mine\n")
    bench.logs.mkdir()
    path = bench.logs / name
    if kind == "directory":
        (path / "inside").mkdir(parents=True)
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        path.symlink_to(outside if name in ("seen", "checkpoints") else outside / "file")
    process = bench.master(bench.study(trials=3), "--workers", 1)
    said, _ = process.communicate(timeout=60)
    assert "Traceback" not in said
    if process.returncode == 0:
        bench.assert_complete(3)
    else:
        assert process.returncode == 2 and said.count("\n") <= 2 and str(path) in said, said
    assert (outside / "file").read_text() == "mine\n" and os.listdir(outside) == ["file"]


def test_a_broken_table_of_results_is_written_again(bench):
    study = bench.study(trials=5)
    bench.search(study, "--workers", 1)
    whole = bench.folder.results.read_bytes()
    for content in (b"", whole[:50], b"\xff\xfe\0", whole + b"another\n"):
        bench.folder.results.write_bytes(content)
        bench.search(study)
        assert bench.folder.results.read_bytes() == whole


# ---- what is set aside is not overwritten


def test_nothing_that_was_set_aside_is_overwritten(folder):
    """Somebody brings a lost attempt's name back, and it is claimed and lost again: both files are kept."""
    name = TrialName(1, 1)
    for text in ("first", "second", "third"):
        folder.publish(name, {"text": text}, lease=1.0)
        folder.lose(name)
    assert folder.read(name.to("lost")).settings == {"text": "first"}
    texts = [json.loads(path.read_text())["settings"]["text"] for path in sorted(folder.aside.iterdir())]
    assert texts == ["second", "third"]


def test_a_result_put_there_by_hand_is_not_overwritten_by_ours(bench):
    study = load_study(bench.study(trials=1))
    folder = open_folder(bench.folder, study)
    master = Master(folder, study, lease=0.01, max_attempts=3)
    master.step()
    for state, value in (("seen", 0.1), ("done", 0.2)):
        with open(path_of(bench, 0, state), "wb") as file:
            file.write(story(0, value))
    os.unlink(path_of(bench, 0, "pending"))
    master.step()
    assert folder.read(TrialName(0, 1, "seen")).result["validation_error"] == 0.1
    [aside] = folder.aside.iterdir()
    assert aside.read_bytes() == story(0, 0.2)


def test_a_search_over_many_broken_files_says_one_line_each(bench):
    command = begin(bench, trials=30)
    for number in range(30):
        with open(path_of(bench, number, "done"), "wb") as file:
            file.write(b"\xff nonsense\n")
    said = bench.search(*command)
    lines = [line for line in said.splitlines() if "is not JSON" in line]
    assert len(lines) == 30 and all(f"trial {n}: " in said for n in range(30))


def test_analysis_survives_without_any_file(tmp_path):
    for program in ("results", "status", "report"):
        done = subprocess.run(
            [sys.executable, "-m", "foldertune", program, "--logs", tmp_path], cwd=ROOT, capture_output=True, text=True
        )
        assert done.returncode == 2 and "no study there" in done.stderr and "Traceback" not in done.stderr
