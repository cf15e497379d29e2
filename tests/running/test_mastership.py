"""One master leads: on filesystems without locks, in races, after deaths on this host and others, and on standby."""

from __future__ import annotations

import ast
import errno
import inspect
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest

from foldertune.protocol import (
    Folder,
    LeaseLost,
    LedFolder,
    Masters,
    Mastership,
    MastershipLost,
    TrialName,
    new_owner,
)
from foldertune.protocol import masters as masters_module
from foldertune.running.mastership import Vigil
from tests.conftest import ROOT, Bench, wait_for

WITHOUT_LOCKS = r"""
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

static int fail(const char *name) { errno = atoi(getenv(name)); return -1; }
int flock(int fd, int operation) { return fail("LOCK_ERRNO"); }
int lockf(int fd, int command, off_t length) { return fail("LOCK_ERRNO"); }
int lockf64(int fd, int command, off64_t length) { return fail("LOCK_ERRNO"); }
int fcntl(int fd, int command, ...) {
    va_list list;
    va_start(list, command);
    long argument = va_arg(list, long);
    va_end(list);
    if (command == F_SETLK || command == F_SETLKW || command == F_OFD_SETLK || command == F_OFD_SETLKW)
        return fail("LOCK_ERRNO");
    return syscall(SYS_fcntl, fd, command, argument);
}
int fcntl64(int, int, ...) __attribute__((alias("fcntl")));
int linkat(int from, const char *source, int to, const char *target, int flags) {
    return getenv("LINK_ERRNO") ? fail("LINK_ERRNO") : syscall(SYS_linkat, from, source, to, target, flags);
}
int link(const char *source, const char *target) { return linkat(AT_FDCWD, source, AT_FDCWD, target, 0); }
"""
NO_LOCKS = ("ENOLCK", "EOPNOTSUPP", "EINVAL", "ENOTTY", "ENOSYS")
TRY = "import fcntl, os; f = open(os.devnull); {}(f, fcntl.LOCK_EX)"


@pytest.fixture(scope="module")
def without_locks(tmp_path_factory):
    """Makes the environment of a program whose locks fail with an errno, and perhaps its hard links, too."""
    if not (compiler := shutil.which("cc")):
        pytest.skip("cc is missing: apt-get install gcc")
    source = tmp_path_factory.mktemp("shim") / "locks.c"
    source.write_text(WITHOUT_LOCKS)
    library = source.with_suffix(".so")
    subprocess.run([compiler, "-shared", "-fPIC", "-w", "-o", library, source], check=True)

    def environment(lock, link=None):
        numbers = {"LOCK_ERRNO": str(getattr(errno, lock))}
        return {**os.environ, **numbers, **({"LINK_ERRNO": str(link)} if link else {}), "LD_PRELOAD": str(library)}

    for call in ("fcntl.flock", "fcntl.lockf"):
        done = subprocess.run(
            [sys.executable, "-c", TRY.format(call)], env=environment("ENOLCK"), capture_output=True, text=True
        )
        assert "No locks available" in done.stderr, done
    return environment


def test_a_search_needs_no_locks(tmp_path, without_locks):
    """Locks fail in five ways; in the last two, the filesystem has no hard links either."""
    benches = []
    for number, lock in enumerate(NO_LOCKS):
        bench = Bench(tmp_path / lock)
        bench.path.mkdir()
        environment = without_locks(lock, errno.EPERM if number >= 3 else None)
        benches.append(bench)
        bench.env, bench.first = environment, bench.master(bench.study(trials=2), env=environment)
    for bench in benches:
        wait_for(lambda bench=bench: bench.names("pending"), "the first master")
        second = bench.master(bench.study(trials=2), env=bench.env)
        assert f"process {bench.first.pid} on" in bench.finish(second, code=2)
        worker = bench.worker(env=bench.env)
        bench.finish(bench.first)
        bench.finish(worker)
        bench.assert_complete(2)
        bench.close()


# ---- races

RACE = """
import os, pathlib, random, sys, time
from foldertune.errors import UserError
from foldertune.protocol import Folder, Masters
from foldertune.running.mastership import only_master

def say(text):
    os.write(1, f"{text}\\n".encode())

def run(logs, ready, end):
    os.read(ready, 1)  # all at once
    try:
        with only_master(logs) as folder:
            say(f"leads {os.getpid()} {folder.mastership.number}")
            os.read(end, 1)
            folder.mastership.check()
    except UserError as error:
        say(f"refused {os.getpid()} {error}")
    os._exit(0)

seed, logs = int(sys.argv[1]), pathlib.Path(sys.argv[2])
chance, crowd = random.Random(seed), 4
Folder(logs).seen.mkdir(parents=True)
for number in range(seed % 3):  # masters that have ended, or died
    if os.fork() == 0:
        with only_master(logs) as folder:
            if seed % 2:
                os._exit(0)
        os._exit(0)
    os.wait()
ready, begin = os.pipe()
end, finish = os.pipe()
for _ in range(crowd):
    if os.fork() == 0:
        os.close(begin), os.close(finish)
        run(logs, ready, end)
time.sleep(chance.random() / 20)
os.write(begin, b"x" * crowd)
for _ in range(crowd - 1):
    os.wait()
os.close(finish)
os.wait()
"""


def test_of_masters_that_start_at_the_same_moment_one_leads(bench):
    """Twenty races of four processes. Those who are refused name the one that leads."""
    for first in range(0, 20, 5):  # five folders at a time
        races = [bench.start("-c", RACE, seed, bench.path / str(seed)) for seed in range(first, first + 5)]
        for seed, race in enumerate(races, start=first):
            said = bench.finish(race)
            leading = re.findall(r"^leads (\d+) (\d+)$", said, re.MULTILINE)
            refused = re.findall(r"^refused (\d+) (.*)$", said, re.MULTILINE)
            assert len(leading) == 1 and len(refused) == 3 == said.count("\n") - 1, (seed, said)
            assert all(f"process {leading[0][0]} on" in text for _, text in refused), (seed, refused)
            assert Masters(Folder(bench.path / str(seed))).newest() == int(leading[0][1])


def test_masters_that_start_at_once_make_one_search(bench):
    study = bench.study(trials=4)
    masters = [bench.master(study) for _ in range(3)]
    wait_for(lambda: sum(master.poll() == 2 for master in masters) == 2, "two to be refused")
    worker = bench.worker()
    said = [master.communicate(timeout=60)[0] for master in masters]
    assert sorted(master.returncode for master in masters) == [0, 2, 2], said
    leading = next(master.pid for master in masters if not master.returncode)
    assert sum(f"process {leading} on" in text for text in said) == 2 and "Traceback" not in "".join(said)
    bench.finish(worker)
    bench.assert_complete(4)


# ---- slow is not dead


def test_a_master_stopped_past_its_lease_is_followed_and_ends_in_words(bench):
    study = bench.study(trials=30, objective="brief")
    first = bench.master(study, "--lease", 1)
    worker = bench.worker("brief")
    wait_for(lambda: len(bench.names("seen")) > 3, "some results")
    first.send_signal(signal.SIGSTOP)
    second = bench.master(study, "--lease", 1, "--trials", 34)
    said = bench.finish(second)
    bench.finish(worker)
    table = bench.folder.results.read_bytes()
    first.send_signal(signal.SIGCONT)
    refused = bench.finish(first, code=2)
    assert f"process {second.pid} on" in refused and "has followed it, and leads now" in refused, refused
    assert "error: " in refused.splitlines()[-1]
    assert "34 of 34" in said and len(bench.folder.names()) <= 1, "it may have been stopped while it published one"
    bench.search(study, "--trials", 34)
    bench.assert_complete(34)
    assert bench.folder.results.read_bytes() == table and not bench.folder.aside.exists()


def test_of_a_master_that_gives_a_sign_of_life_and_its_follower_one_sees_the_other(folder):
    """The newcomer has judged the first master dead, and then it lives: whatever comes first, only one leads."""
    masters, clock = Masters(folder), [0.0]
    first = masters.follow(0, new_owner(), 1.0)
    first._clock = lambda: clock[0]
    first._renewed = 0.0
    vigil = Vigil(masters, 1, 1.0, lambda line: None)
    vigil._watch._clock = lambda: clock[0]
    assert vigil.look() is None
    for clock[0] in (0.4, 0.8, 1.2):
        vigil.look()
    assert "no sign of life for 1 s" in vigil.look()
    first.check()  # between the look and the claim
    second = masters.follow(1, new_owner(), 1.0)
    assert vigil.look() is None, "the follower sees that the first lives, and waits"
    first.check()  # its lease has just begun
    clock[0] = 1.8
    with pytest.raises(MastershipLost, match=r"process \d+ on .* has followed it"):
        first.check()
    for clock[0] in (1.8, 2.2, 2.6, 3.0):
        vigil.look()
    vigil.see_off(second)
    assert "followed" in masters.holder(1).last_word
    with pytest.raises(LeaseLost):
        first.beat()
    with pytest.raises(MastershipLost):
        first.check()
    second.check()


def test_a_master_that_is_followed_while_it_lives_says_that_it_has_ended(folder):
    """Its follower, on another host, waits for that."""
    masters, follower = Masters(folder), new_owner()
    first = masters.follow(0, new_owner(), 600.0)
    masters.follow(1, follower, 600.0)
    with pytest.raises(LeaseLost):
        first.beat()
    first.end()
    assert "ended" in masters.holder(1).last_word
    first.end()
    masters.tell(1, follower)
    assert len(open(masters.locate(1)).readlines()) == 2


def test_the_lease_of_a_master_begins_before_its_file_is_seen(folder, monkeypatch):
    """It may be suspended in between."""
    made, masters = [], Masters(folder)
    monkeypatch.setattr(masters_module, "own_clock", lambda: float(len(made)))
    monkeypatch.setattr(Mastership.__init__, "__defaults__", (masters_module.own_clock,))
    monkeypatch.setattr(masters, "_make", lambda *_: made.append(1) or True)
    assert masters.follow(0, new_owner(), 1.0)._renewed == 0.0


def test_a_slow_newcomer_leads_nothing(folder):
    """It wants to be the second; meanwhile eleven masters have come and gone, and the second's file is removed."""
    masters = Masters(folder)
    for number in range(12):
        assert masters.follow(number, new_owner(), 1.0).number == number + 1
        assert masters.follow(number, new_owner(), 1.0) is None
    assert not os.path.exists(masters.locate(2)) and masters.follow(1, new_owner(), 1.0) is None
    assert masters.newest() == 12


def test_before_each_change_a_master_makes_sure_that_it_leads(folder):
    """No method of the master's part of `Folder` is forgotten; none does anything when another master leads."""
    code = inspect.getsource(Folder)
    part = code[code.index("# ---- the master") : code.index("# ---- the worker")]
    methods = [*re.findall(r"^    def ([a-z]\w*)", part, re.MULTILINE), "write_results", "names"]
    assert {"publish", "collect", "lose", "complete_study"} <= set(methods)
    masters = Masters(folder)
    led = LedFolder(folder.path, masters.follow(0, new_owner(), 1.0))
    masters.follow(1, new_owner(), 1.0)
    led.mastership._renewed -= 1.0
    before = sorted(os.listdir(folder.path))
    for method in set(methods) - {"temporary_files"}:
        count = len(inspect.signature(getattr(Folder, method)).parameters) - 1
        with pytest.raises(MastershipLost):
            getattr(led, method)(*[None] * count) if method != "publish" else led.publish(TrialName(1, 1), {}, lease=1)
    assert sorted(os.listdir(folder.path)) == before
    assert ast.parse(code)


def test_a_master_that_can_not_read_the_file_of_its_follower_still_names_it(folder, monkeypatch):
    """The follower has written its token into the file of the master before it, which another server may keep."""
    masters, follower = Masters(folder), new_owner()
    first = masters.follow(0, new_owner(), 1.0)
    masters.follow(1, follower, 1.0)
    masters.tell(1, follower)
    read = masters.holder

    def holder(number):
        if number == 2:
            raise OSError(errno.ENOTCONN, "not connected")
        return read(number)

    monkeypatch.setattr(masters, "holder", holder)
    with pytest.raises(LeaseLost):
        first.beat()
    with pytest.raises(MastershipLost, match=f"{follower} has followed it, and leads now"):
        first.check()


def test_the_last_deed_of_a_master_that_comes_late_does_no_harm(bench):
    """Each deed is one that it may have begun when it was followed; a newer master is at work, or comes later."""
    study = bench.study(trials=3)
    master = bench.master(study, "--lease", 1)
    wait_for(lambda: bench.names("pending"), "the trials")
    seen, verdict = bench.folder.seen, '{"settings": {"x": 1}}\n{"error": "late"}\n'
    (bench.logs / "study.json").rename(bench.logs / "study.json.done")  # it says that the study is complete
    wait_for((bench.logs / "study.json").exists, "the study to be opened again")
    first = bench.logs / "trial-00000-1.jsonl"
    shutil.copy(first, bench.path / "copy")
    worker = bench.worker()
    wait_for(lambda: bench.names("seen"), "a result")
    (bench.logs / ".copy").write_bytes((bench.path / "copy").read_bytes())
    (bench.logs / ".copy").rename(first)  # it publishes a trial that is claimed, or counted
    (seen / "trial-00001-7.jsonl.seen").write_text(verdict)  # it records a failure
    bench.finish(master)
    bench.finish(worker)
    bench.assert_complete(3)
    (seen / "trial-00002-1.jsonl.seen").rename(seen / "trial-00002-3.jsonl.seen")
    (seen / "trial-00002-1.jsonl.seen").write_text(verdict)
    bench.folder.results.write_text("trial\n")  # it writes an older table
    assert "3 succeeded" in bench.search(study)
    bench.assert_complete(3)
    assert all(row.status == "succeeded" for row in bench.rows())


# ---- the dead, here and elsewhere


ELSEWHERE = ("unshare", "--pid", "--fork", "--kill-child", "--uts", "--mount-proc", "sh", "-c")


def elsewhere(bench, *arguments):
    """Start a master as on another machine: with a host name and process numbers of its own."""
    command = [sys.executable, "master.py", *map(str, arguments), "--workers", "0", "--logs", str(bench.logs)]
    if subprocess.run([*ELSEWHERE, "hostname gpu99"], capture_output=True).returncode:
        pytest.skip("unshare may not make namespaces here: run as root")
    process = subprocess.Popen(
        [*ELSEWHERE, 'hostname gpu99; exec "$@"', "sh", *command],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    bench.processes.append(process)
    return process


def test_a_master_on_another_host_is_refused_while_it_lives_and_followed_when_it_is_dead(bench):
    study = bench.study(trials=3)
    first = elsewhere(bench, study, "--lease", 4)
    wait_for(lambda: bench.names("pending"), "the first master")
    assert re.search(r"process \d+ on gpu99 \(since .*--standby", bench.search(study, code=2))
    first.kill()  # and its child with it
    first.wait()
    token = json.loads((bench.logs / ".master-00001.jsonl").read_text())["claimed"]
    (bench.logs / f".results.csv.{token[:-4]}12345678.tmp").write_text("tri")  # it was writing this when it died
    worker = bench.worker()
    said = bench.search(study)
    bench.finish(worker)
    assert re.search(r"no sign of life from process \d+ on gpu99 .*follows after 4 s of silence", said), said
    assert "has given no sign of life for 4 s; this master leads now" in said
    bench.assert_complete(3)


def test_a_dead_master_of_this_host_is_followed_at_once(bench):
    study = bench.study(trials=3)
    first = bench.master(study, "--lease", 600)
    wait_for(lambda: bench.names("pending"), "the first master")
    first.kill()
    first.wait()
    worker = bench.worker()
    assert "leads" not in bench.search(study)
    bench.finish(worker)
    bench.assert_complete(3)
    stories = [(bench.logs / f".master-0000{k}.jsonl").read_text().splitlines() for k in (1, 2)]
    (first_claim, followed), (claim, ended) = [[json.loads(line) for line in story] for story in stories]
    assert first_claim["pid"] == first.pid and followed["followed"] == claim["claimed"] and "ended" in ended


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_master_on_standby_takes_over(bench, number):
    study = bench.study(trials=6)
    first = bench.master(study, "--lease", 600)
    wait_for(lambda: bench.names("pending"), "the first master")
    standby = [bench.master(study, "--lease", 600, "--standby") for _ in range(2)]
    assert f"process {first.pid} on" in standby[0].stdout.readline()
    assert f"process {first.pid} on" in standby[1].stdout.readline()
    first.send_signal(number)
    first.communicate(timeout=60)
    worker = bench.worker()
    said = [bench.finish(master) for master in standby]
    bench.finish(worker)
    why = "has died" if number == signal.SIGKILL else "has ended"
    assert sum(f"process {first.pid} on" in text and f"{why}; this master leads now" in text for text in said) == 1
    assert all("6 of 6" in text for text in said), said
    bench.assert_complete(6)


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGTERM])
def test_a_master_on_standby_ends_in_good_order(bench, number):
    """As a job of Slurm's that is warned of its end: then it queues itself again."""
    study = bench.study(trials=1)
    bench.master(study)
    wait_for(lambda: bench.names("pending"), "the first master")
    standby = bench.master(study, "--standby")
    assert "standing by" in standby.stdout.readline()
    standby.send_signal(number)
    assert bench.finish(standby, 128 + number) == ""


# ---- what stands in the folder


def test_a_folder_of_an_earlier_version_or_with_odd_files_goes_on(bench):
    study = bench.study(trials=3)
    bench.search(study, "--workers", 1)
    for path in bench.logs.glob(".master-*"):
        path.unlink()
    (bench.logs / ".master.lock").write_bytes(b"")
    (bench.logs / ".master.json").write_text('{"pid": 1, "host": "gpu07", "since": "2026-11-01T00:00:00.000Z"}')
    (bench.logs / ".master-00007.jsonl").symlink_to("/dev/zero")
    (bench.logs / ".master-1.jsonl").write_text("none of ours")
    bench.search(study, "--trials", 5, "--workers", 1)
    bench.assert_complete(5)
    assert (bench.logs / ".master-00008.jsonl").is_file() and (bench.logs / ".master-00007.jsonl").is_symlink()
    (bench.logs / ".master-999999999.jsonl").mkdir()
    assert "no number can follow; move it away" in bench.search(study, code=2)


def test_a_master_whose_file_is_away_waits_for_it(bench):
    """A file server may be away. Whoever has removed the file is told what to do."""
    output = bench.path / "master.txt"
    master = bench.master(bench.study(trials=3), "--lease", 1, stdout=output.open("w"))
    [path] = wait_for(lambda: bench.names("pending") and list(bench.logs.glob(".master-*")), "the master")
    path.rename(bench.path / "away")
    wait_for(lambda: "is gone; if it stays away, start this master again" in output.read_text())
    worker = bench.worker()
    wait_for(lambda: len(bench.names("done")) == 3, "the results")
    time.sleep(1.5)  # longer than the lease
    assert master.poll() is None and len(bench.names("done")) == 3
    (bench.path / "away").rename(path)
    bench.finish(master)
    bench.finish(worker)
    bench.assert_complete(3)
