"""Several users work in one folder. Real users, made for these tests, start the real programs."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.conftest import ROOT, Bench, wait_for

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("useradd"), reason="needs root and useradd, to make users: sudo make test"
)


class User:
    """A user with a group of its own, and perhaps one that it shares."""

    def __init__(self, name, umask, group=None):
        self.name, self.umask, self.group = name, umask, group
        subprocess.run(["useradd", "--user-group", "--no-create-home", name, *(["--groups", group] if group else [])])

    def __call__(self, bench, program, *arguments):
        """Start a program as this user."""
        return bench.start(
            program, *arguments, "--logs", bench.logs,
            user=self.name, group=self.name, extra_groups=[self.group] if self.group else [], umask=self.umask,
            cwd=bench.path, env={"PATH": os.environ["PATH"], "HOME": str(bench.path), "PYTHONPATH": str(bench.path)},
        )  # fmt: skip


class Office(Bench):
    """A folder, and Python and a copy of the programs where every user can reach them."""

    def __init__(self, path):
        super().__init__(path)
        self.python = path / "python" / Path(os.path.realpath(sys.executable)).relative_to(sys.base_prefix)
        (path / "python").mkdir()
        subprocess.run(["mount", "--bind", sys.base_prefix, path / "python"], check=True)
        for name in ("foldertune", "master.py", "worker.py", "tests/__init__.py", "tests/objectives.py"):
            copy(ROOT / name, path / name)
        for name in ("filelock", "rich"):
            copy(Path(importlib.util.find_spec(name).origin).parent, path / name)
        self.logs.mkdir()

    def start(self, *command, **options):
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True} | options
        self.processes.append(subprocess.Popen([self.python, *map(str, command)], **options))
        return self.processes[-1]

    def modes(self):
        """The mode of everything in the folder but the programs' temporary files."""
        return {path: stat.S_IMODE(path.lstat().st_mode) for path in self.logs.rglob("*") if path.suffix != ".tmp"}


def unfolded(said):
    """What the doctor has said, without the breaks of its lines."""
    return re.sub(r"\n {17}", "", said)


def copy(source, target):
    target.parent.mkdir(exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        shutil.copy(source, target)


@pytest.fixture(scope="module")
def users():
    """Anna and Ben share a group; Carl does not."""
    lab = f"lab{os.getpid()}"
    subprocess.run(["groupadd", lab], check=True)
    users = [
        User(f"{name}{os.getpid()}", umask, group)
        for name, umask, group in (("anna", 0o022, lab), ("ben", 0o077, lab), ("carl", 0o022, None))
    ]
    yield users
    for user in users:
        subprocess.run(["userdel", user.name], check=True)
    subprocess.run(["groupdel", lab], check=True)


@pytest.fixture
def office():
    path = Path(tempfile.mkdtemp(prefix="people-"))
    path.chmod(0o755)
    office = Office(path)
    yield office
    office.close()
    subprocess.run(["umount", path / "python"], check=True)
    shutil.rmtree(path)


WORKER = ("worker.py", "--objective", "tests.objectives:quick")


def test_users_of_one_group_share_a_folder_whatever_their_umasks(users, office):
    """One is the master, the other trains; then they change places. Everything in the folder is for both."""
    anna, ben, _ = users
    shutil.chown(office.logs, anna.name, anna.group)
    office.logs.chmod(0o2770)
    study = office.study(trials=4)
    master, worker = anna(office, "master.py", study, "--workers", 0), ben(office, *WORKER)
    assert "failed" not in office.finish(master)
    office.finish(worker)
    office.assert_complete(4)
    office.finish(ben(office, "master.py", study, "--trials", 6, "--workers", 1))
    office.finish(anna(office, "master.py", study, "--trials", 8, "--workers", 1))
    office.assert_complete(8)
    assert not office.names("lost")
    group = office.logs.stat().st_gid
    for path, mode in office.modes().items():
        assert mode & 0o060 == 0o060 and not mode & 0o002, (path, oct(mode))
        assert path.stat().st_gid == group


def test_a_trial_that_a_worker_may_not_write_is_left_to_others(users, office):
    """Anna queued it by hand, with her umask. Ben says what to do, burns no attempt, and trains the others."""
    anna, ben, _ = users
    shutil.chown(office.logs, anna.name, anna.group)
    office.logs.chmod(0o2775)
    queued = [office.logs / f"trial-{number:05d}-1.jsonl" for number in (0, 1, 90001)]
    for path in queued:
        path.write_text('{"settings": {"x": 0.5}}\n')
        shutil.chown(path, anna.name, anna.group)
        path.chmod(0o644)
    master = anna(office, "master.py", office.study(trials=4), "--workers", 0)
    theirs = ben(office, *WORKER)
    wait_for(lambda: len(office.names("seen")) == 2, "the trials that Ben may write")
    wait_for(lambda: any(name.attempt == 2 for name in office.names("pending")), "a trial that he has given back")
    advice = office.finish(ben(office, "-m", "foldertune", "doctor"))
    assert "note  people" in advice and "(and 2 more)" in advice and f"ask {anna.name} for: chgrp" in unfolded(advice)
    mine = anna(office, *WORKER)
    office.finish(mine)
    office.finish(master)
    said = office.finish(theirs)
    assert said.count(f"ask {anna.name} for: chgrp -R {anna.group} {office.logs}; chmod -R g+rwX") == 1, said
    assert len(office.rows()) == 5 and not office.names("lost")
    assert {row.worker for row in office.rows() if row.trial in (0, 1, 90001)} != {None}


def test_a_folder_that_a_user_may_not_make(users, office):
    _, _, carl = users
    office.logs = office.path / "another"
    said = office.finish(carl(office, "master.py", office.study(), "--workers", 0), 2)
    assert said.startswith(f"error: {office.path}: belongs to root, ") and f"ask root for {office.logs}, or" in said


def test_what_is_not_shared_stays_so_and_others_are_told_what_they_lack(users, office):
    anna, ben, carl = users
    shutil.chown(office.logs, anna.name, anna.group)
    office.logs.chmod(0o755)
    study = office.study(trials=3)
    master, worker = anna(office, "master.py", study, "--workers", 0), ben(office, *WORKER)
    wait_for(lambda: office.names("pending"), "the trials")
    for other in ben, carl:
        said = office.finish(other(office, "master.py", study, "--workers", 0), 2)
        assert said.startswith(f"error: {office.logs}: belongs to {anna.name}, group {anna.group}, drwxr-xr-x; ")
        ask = f"ask {anna.name} for: chgrp -R {anna.group if other is ben else 'GROUP'} {office.logs}; chmod -R g+rwX"
        assert ask in said and said.count("\n") == 1, said
    assert not [path for path, mode in office.modes().items() if mode & 0o022]
    said = office.finish(ben(office, "-m", "foldertune", "doctor"), 1)
    assert f"bad   folder     {office.logs}: belongs to {anna.name}" in unfolded(said)
    office.logs.chmod(0o1777)
    said = office.finish(ben(office, "master.py", study, "--workers", 0), 2)
    assert said.endswith(
        f"sticky bit nobody may rename what others have made; ask {anna.name} for: chmod -t {office.logs}\n"
    )
    for path in office.logs.glob("*.jsonl"):
        shutil.chown(path, group=anna.group)
        path.chmod(0o664)
    office.logs.chmod(0o2775)  # Anna does what she was asked for; her master needs no restart
    said = office.finish(worker)
    office.finish(master)
    assert said.count(f"{office.logs}: belongs to {anna.name}") == 1 and "the folder works again" in said
    assert not office.names("lost") and len(office.rows()) == 3
