"""The filesystem is full, failing or away. All programs say so, wait, and continue by themselves when it is over."""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import subprocess
import threading
import time
from contextlib import contextmanager

import pytest

from foldertune.launch.machine import count_cores
from foldertune.protocol import Folder
from tests.conftest import PATIENCE, children_of, token_of, wait_for
from tests.protocol.test_hostile import respect_permissions

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to mount a small disk: sudo make test")
needs_strace = pytest.mark.skipif(
    not shutil.which("strace"), reason="strace is missing: apt-get install strace (it makes system calls fail)"
)
TRIALS = 60


class Search:
    """A master and two workers at work. Their output goes to files."""

    def __init__(self, bench, lease=180, **options):
        self.bench = bench
        self.texts = [bench.path / f"{who}.txt" for who in ("master", "worker-1", "worker-2")]
        files = [open(path, "w") for path in self.texts]
        study = bench.study(trials=TRIALS, objective="talkative")
        self.processes = [bench.master(study, "--lease", lease, stdout=files[0], **options)]
        self.processes += [bench.worker("talkative", stdout=file, **options) for file in files[1:]]
        wait_for(lambda: len(bench.names("seen")) >= 5, "the search to be on its way")
        wait_for(lambda: all(": trial " in path.read_text() for path in self.texts[1:]), "both workers to train")

    def wait_for_all_to_say(self, what):
        for path in self.texts:
            wait_for(lambda path=path: what in path.read_text(), f"'{what}' in {path.name}:\n{path.read_text()}")

    def end(self, lost=()):
        """End the search. All trials must be counted once, and no finished or running trial may be thrown away."""
        for process in self.processes:
            self.bench.finish(process)
        said = [path.read_text() for path in self.texts]
        assert not any("Traceback" in text for text in said), said
        self.bench.assert_complete(TRIALS)
        if lost is not None:
            assert self.bench.names("lost") == list(lost)
            assert not any("no longer ours" in text for text in said), said


def mount(*arguments):
    subprocess.run(["mount", *arguments], check=True)


@pytest.fixture
def small_disk(bench):
    """The shared folder on a filesystem of its own, of two megabytes, bound to a second place."""
    disk, bound = bench.path / "disk", bench.path / "bound"
    disk.mkdir()
    bound.mkdir()
    mount("-t", "tmpfs", "-o", "size=2m", "tmpfs", disk)
    mount("--bind", disk, bound)
    bench.logs = bound / "logs"
    bench.folder = Folder(bench.logs)
    yield disk
    bench.close()
    for place in (bound, disk):
        subprocess.run(["umount", "--lazy", place], check=True)


@contextmanager
def full(disk, bench):
    filler = disk / "filler"
    with open(filler, "wb", buffering=0) as file:
        for size in (4096, 1):
            try:
                while file.write(b"x" * size):
                    pass
            except OSError:
                continue
    yield
    filler.unlink()


@contextmanager
def renamed(disk, bench):
    (disk / "logs").rename(disk / "elsewhere")
    yield
    (disk / "elsewhere").rename(disk / "logs")


@contextmanager
def unmounted(disk, bench):
    subprocess.run(["umount", "--lazy", disk / ".." / "bound"], check=True)
    (disk / ".." / "bound" / "logs").mkdir()  # as an empty mount point may look
    yield
    (disk / ".." / "bound" / "logs").rmdir()
    mount("--bind", disk, disk / ".." / "bound")


@needs_root
@pytest.mark.parametrize("trouble", [full, renamed, unmounted])
def test_they_wait_until_it_is_over(bench, small_disk, trouble):
    search = Search(bench)
    with trouble(small_disk, bench):
        search.wait_for_all_to_say("the folder is in trouble")
    search.wait_for_all_to_say("the folder works again")
    search.end()


def test_without_permission_for_a_while(bench):
    """Permission is missing for a while, as when a Kerberos ticket has expired."""
    search = Search(bench, preexec_fn=respect_permissions)
    os.chmod(bench.logs, 0)
    search.wait_for_all_to_say("Permission denied")
    os.chmod(bench.logs, 0o755)
    search.wait_for_all_to_say("the folder works again")
    search.end()


@needs_root
def test_away_for_longer_than_a_lease(bench, small_disk):
    search = Search(bench, lease=2)
    with renamed(small_disk, bench):
        search.wait_for_all_to_say("the folder is in trouble")
        time.sleep(4)
    search.end()


# In programs that import this at their start, these calls for running trials hang while the file HANG exists: what
# workers do, and what the master's watch asks; it is told late, and as it was before.
HANGS = """
import os, sys, time, traceback
def wait(path):
    while ".taken" in str(path) and os.path.exists(os.environ["HANG"]):
        time.sleep(0.05)
def hanging(call):
    return lambda path, *arguments, **options: wait(path) or call(path, *arguments, **options)
def lstat(path, look=os.lstat, **options):
    status = look(path, **options)
    if "gone" in [frame.f_code.co_name for frame, _ in traceback.walk_stack(None)]:
        wait(path)
    return status
os.lstat = lstat
if "worker.py" in sys.orig_argv:
    os.open, os.rename, os.utime = map(hanging, (os.open, os.rename, os.utime))
"""


def test_a_server_that_answers_after_more_than_a_lease(bench):
    """Calls hang, as they do on NFS. Nothing fails, and no worker can give a sign of life meanwhile."""
    (bench.path / "sitecustomize.py").write_text(HANGS)
    hang = bench.path / "hang"
    environment = os.environ | {"PYTHONPATH": str(bench.path), "HANG": str(hang)}
    master = bench.master(bench.study(trials=6, objective="slow"), "--lease", 2, env=environment)
    workers = [bench.worker("slow", env=environment) for _ in range(3)]
    wait_for(lambda: bench.names("seen") and len(bench.names("taken")) == 3, "three trials to run")
    time.sleep(0.4)  # the master has looked at them
    hang.touch()
    time.sleep(5)
    hang.unlink()
    assert "no sign of life" not in bench.finish(master)
    assert not any("no longer ours" in bench.finish(worker) for worker in workers)
    bench.assert_complete(6)


FAILING = {
    "EIO": "openat,rename,fsync,newfstatat,utimensat,getdents64,unlink",
    "ESTALE": "openat,rename,fsync,newfstatat,utimensat,getdents64,unlink",
    "EROFS": "openat,rename,utimensat,unlink",
    "EDQUOT": "write,ftruncate,rename,fsync",
    "ENOSPC": "write,rename,fsync",
}


@needs_strace
@pytest.mark.parametrize("error", FAILING)
def test_system_calls_that_fail_for_a_while(bench, error):
    """All calls with these names fail in one process after the other, even those unrelated to the folder."""
    search, calls = Search(bench), FAILING[error]
    for process in search.processes:
        log = bench.path / f"strace-{process.pid}.txt"
        tracer = subprocess.Popen(
            f"strace -f -q -o {log} -p {process.pid} -e trace={calls} -e inject={calls}:error={error}".split(),
            stderr=subprocess.DEVNULL,
        )
        wait_for(
            lambda log=log, process=process: (
                (log.exists() and log.read_text().count("INJECTED") > 5) or process.poll() is not None
            ),
            "calls to fail",
        )
        tracer.terminate()
        tracer.wait()
    search.end()


def test_a_result_waits_for_room(bench, folder, pending, monkeypatch):
    """A training that ends while the disk is full is handed in when there is room again. Nothing is trained twice."""
    from foldertune.running.signals import StopSignals
    from foldertune.running.trainer import ObjectiveTrainer
    from foldertune.running.worker import Worker

    signals = StopSignals()
    worker = Worker(
        folder, "tests.objectives:quick", ObjectiveTrainer(signals, "tests.objectives:quick", "cpu"), signals
    )
    worker.metric, calls, write = "validation_error", [], os.write

    def write_when_there_is_room(descriptor, data):
        if descriptor != worker.trainer._socket.fileno():
            calls.append(bytes(data))
            if b'"result"' in data and len(calls) < 6:
                raise OSError(28, "No space left on device")
        return write(descriptor, data)

    monkeypatch.setattr(os, "write", write_when_there_is_room)
    monkeypatch.setattr(worker, "pause", lambda seconds: None)
    worker.trainer.prepare()
    claim = folder.claim(worker.owner, folder.candidates(worker.owner))

    class Silent:
        hold = release = lambda *arguments: None
        lost = threading.Event()

    worker.train(claim, Silent())
    worker.hand_in()
    worker.trainer.end()
    assert sum(b'"result"' in data for data in calls) > 1
    [name] = folder.names()
    assert name.state == "done" and folder.read(name).result["validation_error"] == 0.5


def test_the_libc_is_there_to_drop_privileges():
    """Without the libc the test of permissions would prove nothing: it runs as root, who may read everything."""
    assert ctypes.CDLL(None).prctl


def test_what_a_write_cut_short_left_is_gone_in_the_end(bench):
    """A write fails in the middle, and trouble with the folder keeps the master from cleaning up at once."""
    master = bench.master(bench.study(trials=5))
    wait_for(lambda: bench.names("pending"))
    (bench.logs / f".trial-00003-1.jsonl.{token_of(master.pid)}.tmp").write_text("{")
    worker = bench.worker("quick")
    bench.finish(master)
    bench.finish(worker)
    bench.assert_complete(5)


# In programs that import this at their start, every call for the folder fails while the file AWAY exists, for a second in
# one way, then in the next. A program's own files, its interpreter and its code are elsewhere.
NOT_CONNECTED = """
import errno, os, time
ways, exists, access = [errno.ENOTCONN, errno.ESTALE, errno.EIO, errno.EACCES], os.path.exists, os.access
def failing(call):
    def fail_or_call(path=".", *arguments, **options):
        if os.environ["LOGS"] in str(path) and exists(os.environ["AWAY"]):
            way = ways[int(time.monotonic()) % 4]
            raise OSError(way, os.strerror(way), str(path))
        return call(path, *arguments, **options)
    return fail_or_call
for name in ("listdir", "lstat", "mkdir", "open", "rename", "scandir", "stat", "unlink", "utime"):
    setattr(os, name, failing(getattr(os, name)))
os.access = lambda path, mode: not (os.environ["LOGS"] in str(path) and exists(os.environ["AWAY"])) and access(path, mode)
"""


def test_a_mount_that_is_not_connected_ends_nobody(bench):
    """It is so when they start, and again while they work, and just then a worker of each supervisor is killed."""
    (bench.path / "sitecustomize.py").write_text(NOT_CONNECTED)
    away, texts = bench.path / "away", []

    def start(begin, *arguments, **options):
        texts.append(bench.path / f"said-{len(texts)}.txt")
        return begin(*arguments, stdout=open(texts[-1], "w"), **options)

    def all_say(what, times):
        for text in texts:
            wait_for(lambda text=text: text.read_text().count(what) >= times, f"'{what}' in {text.name}")

    environment = os.environ | {"PYTHONPATH": str(bench.path), "LOGS": str(bench.logs), "AWAY": str(away)}
    away.touch()
    master = start(bench.master, bench.study(trials=30, objective="slow"), "--workers", 1, env=environment)
    worker = start(bench.worker, "slow", env=environment)
    supervisor = start(bench.worker, "slow", "--device", "all", env=environment)
    wait_for(lambda: len(children_of(supervisor.pid)) == count_cores(), "the supervisor's workers")
    all_say("the folder is in trouble", 1)
    away.unlink()
    wait_for(lambda: len(bench.names("seen")) > 3, "the search to be on its way")
    away.touch()
    time.sleep(0.5)
    for process in master, supervisor:
        os.kill(children_of(process.pid)[0], signal.SIGKILL)
    time.sleep(5)  # all four ways
    away.unlink()
    for process in master, worker, supervisor:
        process.wait(PATIENCE)
    assert [process.returncode for process in (master, worker, supervisor)] == [0, 0, 0], [t.read_text() for t in texts]
    assert not any("Traceback" in text.read_text() for text in texts)
    bench.assert_complete(30)
    assert len(bench.names("lost")) <= 2 and all(row.status == "succeeded" for row in bench.rows())
