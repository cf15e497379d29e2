"""Workers on other machines: real ones of OpenSSH's, in namespaces of this one."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import sys
from pathlib import Path

import pytest

from foldertune.cli import main
from foldertune.launch.machine import count_cores
from foldertune.launch.remote import find_running, holder, lock_file
from tests.conftest import ROOT, wait_for
from tests.launch.hosts import new_lab

__all__ = ["new_lab"]

# A trial waits for a file with its host's name, and takes it away; or for the file "all".
MINE = """
import os, socket, time
def train(settings, report):
    report(epoch=1, validation_error=settings["x"])
    while not os.path.exists("all"):
        try:
            os.unlink(socket.gethostname())
            break
        except FileNotFoundError:
            time.sleep(0.05)
    return {"validation_error": settings["x"]}
"""
OLD_PYTHON = f"""#!/bin/sh
shift
exec {sys.executable} -c 'import sys; sys.version_info = (3, 9, 2); exec(sys.argv.pop(1))' "$@"
"""
README = (ROOT / "README.md").read_text()


def new_project(bench, name, trials):
    """A directory with training code that all hosts see, and a study of it."""
    project = bench.logs.parent / name
    project.mkdir()
    (project / "mine.py").write_text(MINE)
    study = Path(bench.study(trials))
    study.write_text(study.read_text().replace("tests.objectives:quick", "mine:train"))
    return project, study


def states(said):
    """What the table says of each worker: {("gpu01", "1"): "started", …}."""
    rows = [line.split(maxsplit=4) for line in said.partition("HOST ")[2].splitlines()[1:]]
    return {(row[0], row[1]): row[4] for row in rows if len(row) == 5 and row[1].isdecimal()}


def test_workers_start_where_they_can_outlive_the_connection_and_are_not_started_twice(bench, new_lab):
    lab = new_lab("gpu01", "gpu02", "blind", blind=("blind",), shells={"gpu02": "/bin/tcsh"})
    aliases = "".join(f"Host {name}\n    HostName 10.9.1.2\n" for name in ("old", "lost", "astray"))
    aliases += "Host bare\n    HostName 127.0.0.1\n    ProxyJump gpu01\n"
    sharing = f"Host gpu02\n    ControlMaster auto\n    ControlPath {lab.keys}/shared\n    ControlPersist yes\n"
    gone = "Host gone\n    HostName 10.9.77.2\nHost stranger\n    HostName 10.9.1.2\n    UserKnownHostsFile /dev/null\n"
    lab.config.write_text(aliases + sharing + gone + lab.config.read_text())
    project, study = new_project(bench, "a person's $PROJECT", trials=8)
    old = project / "python3.9"
    old.write_text(OLD_PYTHON)
    old.chmod(0o755)
    container = project / "python in a container"
    container.write_text(f'#!/bin/sh\necho loading\nexec unshare --pid --fork --mount-proc {sys.executable} "$@"\n')
    container.chmod(0o755)
    bare = lab.shared / "bare"
    bare.mkdir()
    (bare / "mine.py").write_text("import nobody_has_this\n")
    hosts = project / "hosts"
    hosts.write_text(
        f"# host, options\n\ngpu01 workers=2\ngpu02 'logs={bench.logs}' python='./{container.name}'\nblind directory=/\ngone\nstranger\n"
        f"old python=./python3.9\nbare 'directory={bare}'\nlost python=/no/python\nastray directory=~/nowhere  # none\n"
    )
    master = bench.master(study, "--lease", 6)
    wait_for(lambda: bench.names("pending"), "the trials")

    lab.on("blind", "mkdir", bench.logs)

    ours = ("--logs", bench.logs, "--directory", project, "--objective", "mine:train", "--workers", 1)
    said = lab.launch(*ours, "--hosts", hosts, code=1)
    before = said.partition("HOST ")[0]
    for host, reason in {
        "blind": f"{bench.logs}: is another folder there, not the shared one",
        "gone": "Network is unreachable",
        "stranger": "Host key verification failed",
        "old": "Python 3.9 is too old; 3.11 or newer is needed",
        "bare": "No module named 'nobody_has_this'",
        "lost": "/no/python: there is no such Python",
        "astray": "~/nowhere: there is no such directory",
    }.items():
        assert re.search(rf"^{host}: .*{re.escape(reason)}", before, re.M), said
    assert states(said) == dict.fromkeys([("gpu01", "1"), ("gpu01", "2"), ("gpu02", "1")], "started")
    wait_for(lambda: len(bench.names("taken")) == 3, "three workers")
    record = json.loads((bench.logs / "launch" / "gpu01-2.json").read_text())
    assert (record["launcher"], record["name"], record["device"]) == ("ssh 2", "gpu01", "cpu")

    said = lab.on("gpu01", "ps", "-o", "sid=", record["pid"])
    assert int(said) == record["pid"], "a session of its own"

    # The connection goes, and the worker goes on.
    lab.on("gpu02", "sh", "-c", "kill -9 $(pgrep -x sshd)")
    lab.cable("gpu02", "down")
    (project / "gpu02").touch()
    wait_for(lambda: bench.names("seen") and bench.rows()[0].worker.startswith("gpu02-"), "a result of gpu02")
    lab.cable("gpu02", "up")
    lab.on("gpu02", "/usr/sbin/sshd", "-f", lab.keys / "sshd_config")

    # One is killed, and that one is started again.
    lab.kill("gpu01", record["pid"])
    said = lab.launch(*ours[:-1], 2, "gpu01", "gpu02")
    expected = {("gpu01", "1"): "was running", ("gpu01", "2"): "started", ("gpu02", "1"): "was running"}
    assert states(said) == {**expected, ("gpu02", "2"): "started"}
    (project / "all").touch()
    bench.finish(master)
    bench.assert_complete(8)
    assert {row.worker.split("-")[0] for row in bench.rows()} == {"gpu01", "gpu02"}


def test_the_commands_of_the_readme_start_eight_workers_on_four_machines(bench, new_lab):
    first, second = (
        re.search(rf"^    (python {name} .*)", README, re.M)[1] for name in ("master.py", "-m foldertune launch ssh")
    )
    lab = new_lab("gpu01", "gpu02", "gpu03", "gpu04")
    project, study = new_project(bench, "project", trials=24)
    words = shlex.split(
        first.replace("/shared/me/lr", str(bench.logs)).replace("quickstart", str(study)), comments=True
    )
    master = bench.start(*words[1:])
    wait_for(lambda: bench.names("pending"), "the trials")
    words = shlex.split(second.replace("/shared/me/lr", str(bench.logs)), comments=True)[5:]
    said = lab.launch(*words, "--objective", "mine:train", "--directory", project)
    assert set(states(said).values()) == {"started"} and len(states(said)) == 8
    wait_for(lambda: len(bench.names("taken")) == 8, "eight workers")
    (project / "all").touch()
    bench.finish(master)
    bench.assert_complete(24)


@pytest.mark.parametrize(
    ("lines", "complaint"),
    [
        ("# none", "which hosts? name them, or a file with them: --hosts FILE"),
        ("gpu01 devcie=all", "line 1: 'devcie=all' (did you mean 'device'?): a host's options look like workers=2"),
        ("gpu01\ngpu02 gpu03", "line 2: 'gpu03': a host's options look like workers=2"),
        ("gpu01 workers=some", "line 1: --workers: must be a whole number, not 'some'"),
        ("gpu01 grace=never", "line 1: --grace: must be a number of seconds"),
        ("gpu01 directory=my project'", "line 1: No closing quotation"),
        ("gpu01\ngpu01 device=cpu", "gpu01: stands there twice"),
        ("-oProxyCommand=reboot", "'-oProxyCommand=reboot': is no host"),
        ("gpu01 hosts=more", "line 1: 'hosts=more'"),
    ],
)
def test_what_is_wrong_with_hosts_is_said_before_any_is_asked(bench, capsys, lines, complaint):
    bench.logs.mkdir()
    hosts = bench.path / "lab.hosts"
    hosts.write_text(lines)
    os.environ["PATH"] = str(bench.path)  # there is no ssh
    assert main(["launch", "ssh", "--logs", str(bench.logs), "--hosts", str(hosts)]) == 2
    said = capsys.readouterr()
    assert complaint in said.err and len(said.err.splitlines()) == 1
    assert list(bench.logs.iterdir()) == []


def test_what_is_wrong_here_is_said(bench, capsys):
    launch = ["launch", "ssh", "gpu01", "--logs"]
    assert main([*launch, str(bench.logs)]) == 2
    assert "there is no such directory; start the master first, or make it" in capsys.readouterr().err
    bench.logs.mkdir()
    assert main([*launch, str(bench.logs), "--hosts", str(bench.path / "none")]) == 2
    assert "--hosts" in capsys.readouterr().err
    os.environ["PATH"] = str(bench.path)
    assert main([*launch, str(bench.logs)]) == 2
    assert "ssh is not installed here" in capsys.readouterr().err
    assert list(bench.logs.iterdir()) == []
    hosts = bench.path / "lab.hosts"  # the example in the documentation gets as far
    hosts.write_text(re.search(r"```\n(# lab.hosts\n.*?)```", (ROOT / "docs" / "cluster.md").read_text(), re.S)[1])
    assert main(["launch", "ssh", "--logs", str(bench.logs), "--hosts", str(hosts)]) == 2
    assert "ssh is not installed here" in capsys.readouterr().err


def test_a_check_finds_out_whether_a_machine_can_train_and_takes_no_trial(bench):
    bench.logs.mkdir()
    bench.finish(bench.worker("quick", "--check", "--device", "all"))
    assert "nobody_has_this" in bench.finish(bench.worker("nobody_has_this", "--check"), code=2)
    command = ("worker.py", "--logs", bench.logs, "--check", "--command")
    assert "there is no program 'nobody-has-this' here" in bench.finish(
        bench.start(*command, "nobody-has-this {x}"), code=2
    )
    bench.finish(bench.start(*command, f"{sys.executable} -c {{x}}"))
    assert list(bench.logs.iterdir()) == []


def ssh_to_this_machine(bench):
    """A program `ssh` that connects to where it is. The host has something to say first."""
    ssh = bench.path / "ssh"
    ssh.write_text("#!/bin/sh\necho welcome\nexec sh\n")
    ssh.chmod(0o755)
    os.environ["PATH"] = f"{bench.path}:{os.environ['PATH']}"
    return ssh


def test_each_worker_of_a_host_has_its_own_cores(bench):
    ssh_to_this_machine(bench)
    bench.logs.mkdir()
    count = min(2, count_cores())
    options = ("--workers", str(count), "--cores", "1", "--objective", "tests.objectives:quick", "--memory", "1G")
    locks = [Path(lock_file(str(bench.logs), number)) for number in range(1, count + 1)]
    try:
        assert main(["launch", "ssh", "here", "--logs", str(bench.logs), *options]) == 0
        processes = [holder(str(bench.logs), number) for number in range(1, count + 1)]
        cores = [os.sched_getaffinity(process) for process in processes]
        assert all(len(each) == 1 for each in cores) and len(set.union(*cores)) == count
        bench.search(bench.study(trials=4))
        bench.assert_complete(4)
        wait_for(lambda: not any(holder(str(bench.logs), number) for number in range(1, count + 1)), "their end")
    finally:
        for number, lock in enumerate(locks, start=1):
            if process := holder(str(bench.logs), number):
                os.kill(process, signal.SIGKILL)
            lock.unlink(missing_ok=True)


def test_workers_that_are_too_many_end_in_good_order_when_asked_for(bench, capsys):
    ssh_to_this_machine(bench)
    os.environ["HOLD"] = str(hold := bench.path / "hold")
    hold.touch()
    master = bench.master(bench.study(trials=12, objective="held"))
    wait_for(lambda: bench.names("pending"), "the trials")
    logs = str(bench.logs)
    launch = ["launch", "ssh", "here", "--logs", logs, "--objective", "tests.objectives:held", "--workers"]
    try:
        assert main([*launch, "3"]) == 0
        wait_for(lambda: len(bench.names("taken")) == 3, "a trial of each")
        capsys.readouterr()
        assert main([*launch, "1"]) == 0  # no more are asked for
        assert set(states(capsys.readouterr().out).values()) == {"was running"} and len(find_running(logs)) == 3
        bystander = bench.start(
            "-c", "import time; time.sleep(60)"
        )  # it has the number that a container's worker has there
        Path(lock_file(logs, 3)).write_text(str(bystander.pid))
        assert main([*launch, "1", "--exactly"]) == 1
        said = capsys.readouterr().out
        assert f"worker 3 is process {bystander.pid} of a container; end it there" in said
        assert bystander.poll() is None
        assert states(said) == {
            ("here", "1"): "was running",
            ("here", "2"): "saves its trial and ends",
            ("here", "3"): "was running",
        }
        wait_for(lambda: find_running(logs).keys() == {1, 3}, "the end of the second")
        assert "given back" in (bench.logs / "launch" / "here-2.log").read_text() and not bench.names("lost")
        hold.unlink()
        bench.finish(master)
        bench.assert_complete(12)
        wait_for(lambda: not find_running(logs), "the end of the others")
    finally:
        for number in (1, 2, 3):
            if number in find_running(logs):
                os.kill(json.loads((bench.logs / "launch" / f"here-{number}.json").read_text())["pid"], signal.SIGKILL)
            Path(lock_file(logs, number)).unlink(missing_ok=True)


def test_one_worker_that_can_not_start_does_not_hide_the_others(bench, capsys):
    ssh = ssh_to_this_machine(bench)
    bench.logs.mkdir()
    first, second = (Path(lock_file(str(bench.logs), number)) for number in (1, 2))
    second.mkdir()
    options = ("--workers", "2", "--objective", "tests.objectives:quick", "--start-timeout", "0.1")
    try:
        assert main(["launch", "ssh", "here", "--logs", str(bench.logs), *options]) == 1
        said = capsys.readouterr().out
        assert states(said) == {("here", "1"): "started"} and f"{second}: Is a directory; remove it" in said
        wait_for(lambda: holder(str(bench.logs), 1) is None, "the worker's end")
        assert "is the path right?" in (bench.logs / "launch" / "here-1.log").read_text()
        ssh.write_text("#!/bin/sh\nexit 3\n")
        assert main(["launch", "ssh", "here", "--logs", str(bench.logs)]) == 1
        assert "here: ssh ended with exit code 3 and said nothing" in capsys.readouterr().err
    finally:
        second.rmdir()
        first.unlink(missing_ok=True)
