"""The doctor, as a real program, in healthy folders and in sick ones."""

from __future__ import annotations

import ctypes
import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest

from foldertune.doctor import probes, processes
from foldertune.doctor.visit import Visit
from foldertune.protocol import Folder, TrialName, describe_owner, host_name, new_owner, own_host
from tests.conftest import ROOT, wait_for

DOCTOR = ("-m", "foldertune", "doctor", "--logs")
USABLE, NOT_USABLE = "This folder can be used; lease:", "This folder can NOT be used because"


def examine(bench, *arguments, code=0, logs=None, others=0, **options):
    """Run the doctor and return its output as one line. It must leave nothing behind."""
    logs = logs or bench.logs
    said = bench.finish(bench.start(*DOCTOR, logs, "--wait", 0, *arguments, **options), code)
    assert code == 2 or max(map(len, said.splitlines())) <= 80
    assert len(list(logs.glob(".doctor-*"))) == others
    return " ".join(said.split())


def contents(path):
    """Everything in a folder, with the values that change if somebody touches it."""
    return {p: (p.lstat().st_ino, p.lstat().st_size, p.lstat().st_mtime_ns) for p in path.rglob("*")}


def broken(tmp_path, code):
    """The environment of a program in which `code` has broken the protocol."""
    (tmp_path / "sitecustomize.py").write_text(
        f"import os, time\nfrom foldertune import protocol\nfrom foldertune.protocol import files, folder\n{code}"
    )
    return os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}


@pytest.fixture
def mounted(tmp_path):
    """A function that mounts something, for as long as the test runs."""
    places = []

    def mount(*arguments):
        place = tmp_path / f"mount-{len(places)}"
        place.mkdir()
        done = subprocess.run(["mount", *arguments, str(place)], capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"mount: {done.stderr.strip()} (root with the right to mount is needed)")
        places.append(place)
        return place

    yield mount
    for place in places:
        subprocess.run(["umount", str(place)], check=True)


def without_privileges():
    """Make permissions count for root, too, in a new process. Other users have no privileges to give up."""
    drop, override, read_search = 24, 1, 2  # PR_CAPBSET_DROP, CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
    for capability in (override, read_search):
        ctypes.CDLL(None).prctl(drop, capability, 0, 0, 0)


def test_a_healthy_folder_is_usable_and_untouched(bench, folder, pending):
    folder.write_study({"name": "toy"})
    before = contents(folder.path)
    said = examine(bench)
    assert USABLE in said and " bad " not in said
    assert "leftovers none" in said and "toy" in said and "each went to one" in said
    assert contents(folder.path) == before


def test_a_folder_that_is_not_there(bench):
    said = examine(bench, code=1)
    assert NOT_USABLE in said and "no such folder" in said and "mkdir -p" in said
    assert not bench.logs.exists()


def test_a_file_is_no_folder(bench):
    bench.logs.write_text("")
    assert "it is not a directory" in examine(bench, code=1)


@pytest.mark.parametrize("mode", [0o555, 0o000])
def test_a_folder_without_permission(bench, mode):
    bench.logs.mkdir(mode=mode)
    said = examine(bench, code=1, preexec_fn=without_privileges)
    assert f"{NOT_USABLE}: permission denied" in said and "ask its owner" in said


def test_a_folder_mounted_read_only(bench, mounted):
    said = examine(bench, code=1, logs=mounted("-t", "tmpfs", "-o", "ro", "none"))
    assert "read-only" in said and "mount it for writing" in said


def test_a_full_disk(bench, mounted):
    logs = mounted("-t", "tmpfs", "-o", "size=64k", "none")
    with pytest.raises(OSError, match="space"):
        (logs / "ballast").write_bytes(bytes(2**20))
    said = examine(bench, code=1, logs=logs)
    assert "no space left on device" in said and "make room" in said


@pytest.mark.parametrize(
    ("code", "complaint"),
    [
        (
            "from foldertune.doctor import probes\nprobes.PATIENCE = 1.0\ndef link(a, b, *_): os.link(a, b); return True\nfolder.rename = link",
            "trials went to no process or to several",
        ),
        (
            "import shutil\ndef copy(a, b, *_):\n"
            "    try: shutil.copy(a, b); os.unlink(a)\n"
            "    except FileNotFoundError: return False\n"
            "    return True\n"
            "folder.rename = copy",
            "trials went to no process or to several",
        ),
        (
            "def slow(path, data, sync=False, inside=None):\n"
            "    with open(path, 'wb') as file:\n"
            "        for part in (data[:9], data[9:]): file.write(part); file.flush(); time.sleep(1e-4)\n"
            "protocol.write_whole = folder.write_whole = slow",
            "a file being replaced was torn",
        ),
        (
            "from foldertune.doctor import echoes, probes\nechoes.PATIENCE = echoes.COARSE = probes.COARSE = 0.2\nos.utime = lambda *_, **__: None",
            "did not change a file's time",
        ),
        (
            "from foldertune.doctor import echoes\nechoes.LONGEST_DOUBT = 0.3\nread, first = folder.Folder.read, {}\n"
            "def old(self, name, **o):\n"
            "    trial = read(self, name, **o)\n"
            "    now = time.monotonic()\n"
            "    if name.state == 'done' and now - first.setdefault(self.path, now) < 0.5: trial.result = None\n"
            "    return trial\n"
            "folder.Folder.read = old",
            "saw a trial handed in without its result for",
        ),
        (
            "from foldertune.protocol import masters\n"
            "masters.os = type('Os', (), {'__getattr__': lambda _, name: getattr(os, name), 'link': staticmethod(os.rename)})()",
            "masters start at once:",
        ),
    ],
    ids=["a link is no rename", "nor is copy and delete", "replace", "utime", "old lengths", "a name is made twice"],
)
def test_a_filesystem_that_breaks_a_promise(bench, folder, tmp_path, code, complaint):
    """The broken promise is simulated in the doctor's own processes: not every machine can mount such a filesystem."""
    said = examine(bench, code=1, env=broken(tmp_path, code))
    assert complaint in said and NOT_USABLE in said


def test_a_slow_filesystem_is_not_a_dead_one(tmp_path, monkeypatch):
    """No step takes long; all together take longer than one may."""
    rename = os.rename
    monkeypatch.setattr(processes, "STUCK", 1.5)
    monkeypatch.setattr(probes, "TRIALS", 20)
    monkeypatch.setattr(os, "rename", lambda *names, **options: (time.sleep(0.1), rename(*names, **options)))
    (tmp_path / "scratch").mkdir()
    findings = list(probes.check_claims(Visit(Folder(tmp_path), [tmp_path / "scratch"])))
    assert [finding.mark for finding in findings] == ["ok"], findings


def test_a_server_that_is_dead(bench, folder, tmp_path):
    hang = "from foldertune.doctor import processes, probes\nprobes.STUCK = processes.STUCK = 1\nprocesses.together.__defaults__ = (1,)\n"
    said = examine(bench, code=1, env=broken(tmp_path, f"{hang}os.listdir = lambda *_: time.sleep(999)"))
    assert "timed out" in said and "the file server is down" in said


def test_old_names_are_told_and_do_no_harm(bench, folder, tmp_path):
    """A client's cache goes on to answer the name that a file had."""
    code = (
        "has, first = folder.Folder.has, {}\n"
        "def old(self, name):\n"
        "    now = time.monotonic()\n"
        "    cached = name.state == 'taken' and now - first.setdefault(name, now) < 0.5\n"
        "    return cached or has(self, name)\n"
        "folder.Folder.has = old"
    )
    said = examine(bench, env=broken(tmp_path, code))
    assert "note a renamed file is found under its old name for" in said and USABLE in said


def test_leftovers_are_named_with_their_remedy(bench, folder):
    logs = folder.path
    gone = subprocess.run(
        [sys.executable, "-c", "import json, foldertune.protocol as s; print(json.dumps(s.describe_owner('gone-1-abcd')))"],
        cwd=ROOT, capture_output=True, text=True,
    ).stdout  # fmt: skip
    (logs / ".doctor-gone").mkdir()
    (logs / ".doctor-gone/who").write_text(gone)
    (logs / ".trial-00001-1.jsonl.gpu07-1-0badcafe.tmp").touch()
    (logs / "trial-7.jsonl").touch()
    (logs / "trial-00008-1.jsonl").mkdir()
    (logs / "trial-00009-1.jsonl").symlink_to("/etc/passwd")
    os.mkfifo(logs / "trial-00010-1.jsonl")
    (logs / "trial-00011-1.jsonl").write_text("nonsense\n")
    (logs / str(TrialName(12, 1, "seen"))).touch()
    (logs / ".master-00003.jsonl").symlink_to("/dev/zero")
    said = examine(bench, others=1)
    for part in (
        ".master-00003.jsonl can't be read → nothing: the next master follows it",
        ".doctor-gone: left by a doctor that was killed → rm -r it",
        ".trial-00001-1.jsonl.gpu07-1-0badcafe.tmp: half written → nothing",
        "trial-7.jsonl: is not a trial's name, so no worker takes it → mv it",
        "trial-00008-1.jsonl and 2 more: is not a plain file → move it away",
        "trial-00011-1.jsonl: broken or unreadable → nothing: the master",
        f"{TrialName(12, 1, 'seen')}: lies in the wrong directory → mv it to seen/",
    ):
        assert part in said, said


def test_a_folder_that_no_master_would_start_in(bench, folder, pending):
    assert folder.claim(new_owner(), iter([pending]))
    assert "study.json is missing while trials are there" in examine(bench, code=1)
    folder.study.write_text("{")
    assert "study.json is broken" in examine(bench, code=1)
    folder.study.write_text('{"name": "toy"}')
    folder.seen.rmdir()
    folder.seen.symlink_to("/tmp")
    assert "seen/ leads to another place" in examine(bench, code=1)


def test_workers_and_their_last_signs_of_life_are_named(bench, folder):
    folder.write_study({"name": "toy"})
    holder = {"claimed": "gpu07-1-abcd", "pid": 1, "host": "gpu07", "time": "2026"}
    (folder.path / ".master-00004.jsonl").write_text(f"{json.dumps(holder)}\n")
    dead = bench.start("-c", "from foldertune.protocol import *; import json; print(json.dumps(describe_owner('x')))")
    claims = [describe_owner("here-1-abcd"), json.loads(bench.finish(dead)), {"claimed": "away"}]
    for number, record in enumerate(claims):
        folder.publish(TrialName(number, 1), {}, lease=180)
        claim = folder.claim(f"host{number}-1-abcd", iter([TrialName(number, 1)]))
        claim.append(record)
    os.utime(claim.path, (1, 1))
    said = examine(bench)
    assert "process 1 on gpu07 (since 2026), silent for" in said
    assert "trial 0 by host0-1-abcd, silent for" in said
    assert "trial 1: its worker host1-1-abcd died → nothing: the master tries it again" in said
    assert "trial 2 by host2-1-abcd, silent for" in said and "longer than its lease" in said


def test_a_search_goes_on_while_a_doctor_looks(bench):
    master = bench.master(bench.study(trials=40, objective="brief"), "--workers", 2)
    wait_for(bench.folder.study.exists)
    assert USABLE in examine(bench)
    bench.finish(master)
    bench.assert_complete(40)


def test_the_master_is_named_while_it_runs(bench):
    master = bench.master(bench.study(objective="stuck"), "--workers", 1)
    wait_for(lambda: bench.folder.study.exists() and bench.names("taken"))
    said = examine(bench)
    assert f"process {master.pid} on {host_name()} (since" in said and "running trial " in said
    master.kill()
    wait_for(lambda: not bench.names("taken"))  # its worker goes with it
    assert re.search(rf"process {master.pid} on \S+ \(since \S+ has died → start it again", examine(bench))


def test_a_second_mount(bench, folder, mounted):
    said = examine(bench, "--second-mount", mounted("--bind", str(folder.path)))
    assert "second mount: name" in said and "lease: 180 s (the default)" in said


def test_a_second_mount_must_be_the_same_folder(bench, folder, tmp_path):
    assert f"error: --second-mount {tmp_path}: is not the folder" in examine(bench, "--second-mount", tmp_path, code=2)
    assert USABLE in examine(bench, "--second-mount", folder.path)


def test_a_partner_answers(bench, folder):
    partner = bench.start(*DOCTOR, folder.path, "--answer")
    (scratch,) = wait_for(lambda: list(folder.path.glob(".doctor-*.answers")))
    wait_for((scratch / "who").exists)
    for _ in range(2):
        said = examine(bench, others=1)
        assert f"{own_host()}-{partner.pid}" in said and "no other machine" not in said
        assert "lease: 180 s (the default)" in said  # another machine sees it: so it is no local disk
    partner.send_signal(signal.SIGINT)
    assert bench.finish(partner).count("a doctor came") == 2
    assert list(folder.path.iterdir()) == [folder.seen]


def test_to_answer_where_nothing_is(bench):
    said = bench.finish(bench.start(*DOCTOR, bench.logs, "--answer"), 2)
    assert said.count("\n") == 1 and "No such file" in said


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_whoever_stops_it_nothing_is_left(bench, folder, tmp_path, number, code):
    """The doctor is stopped in the middle of a check that never ends, while its own processes run."""
    env = broken(tmp_path, "os.sched_yield = lambda: time.sleep(999)")
    doctor = bench.start(*DOCTOR, folder.path, env=env, process_group=0)
    wait_for(lambda: list(folder.path.glob(".doctor-*/claims/*-1.jsonl")))
    os.killpg(doctor.pid, number)
    bench.finish(doctor, code)
    assert list(folder.path.iterdir()) == [folder.seen]
    with pytest.raises(ProcessLookupError):  # none of its processes is left
        os.killpg(doctor.pid, 0)


def test_the_lease_follows_the_slowest_cache(tmp_path, monkeypatch):
    from foldertune.doctor import verdict
    from foldertune.doctor.visit import Visit

    def lease(delay=0.0, far=True, kind="nfs4", options="rw"):
        monkeypatch.setattr(verdict, "mount_of", lambda path: (kind, "server:/export", options))
        return verdict.recommend(Visit(Folder(tmp_path), [tmp_path], delay=delay, far=far))

    assert lease(kind="ext4", far=False) == 30 and lease(kind="ext4") == 180 and lease() == 180
    assert (
        lease(delay=61) == 190
        and lease(options="rw,acregmax=600,hard") == 1800
        and lease(options="rw,actimeo=3") == 180
    )
