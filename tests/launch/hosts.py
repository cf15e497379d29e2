"""Machines that OpenSSH connects, on this one: each with a name, processes, a network and a /tmp of its own.

          desk                    gpu01                   gpu02  …
    ┌───────────────┐       ┌───────────────┐
    │ a person, ssh │       │ sshd, workers │       A host is a set of namespaces. A cable is a veth: what goes in at
    │          gpu01├───────┤eth0  10.9.1.2 │       one end comes out at the other. This machine's own network is not
    │          gpu02├── …   └───────────────┘       touched. With the first process of a host everything in it ends.
    └───────────────┘

`shared` is seen by all hosts, under the same path; a host that is `blind` has an empty directory there.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest

from foldertune.protocol import Folder
from tests.conftest import ROOT, Bench, children_of

PROGRAMS = {
    "sshd": "openssh-server", "ssh": "openssh-client", "ip": "iproute2", "unshare": "util-linux", "tcsh": "tcsh"
}  # fmt: skip
NEW = ["unshare", "--net", "--uts", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
PATHS = os.environ["PATH"] + ":/usr/sbin:/sbin"

# The first process of a host ends when its input does: with the test that holds the other end, whatever ends that.
BEGIN = """
set -e
hostname "$NAME"
ip link set lo up
mount --bind /tmp /mnt
mount -t tmpfs none /tmp
for path in "$ROOT" "$KEYS" $SEEN; do
    case $path in /tmp/*) mkdir -p "$path"; mount --bind "/mnt${path#/tmp}" "$path" ;; esac
done
mkdir -p "$SHARED"
[ -n "$SEEN" ] || mount -t tmpfs none "$SHARED"
mount -t tmpfs none /run
mkdir /run/sshd
sed "s,^\\(root:.*:\\).*,\\1$LOGIN_SHELL," /etc/passwd > "/run/passwd"
mount --bind /run/passwd /etc/passwd
echo begun
cat > /run/end
"""
SSHD = """
Port 22
HostKey {keys}/host
AuthorizedKeysFile {keys}/person.pub
StrictModes no
UsePAM no
PermitRootLogin yes
PidFile none
"""
SSH = """
Host *
    HostName 10.9.%n.2
    IdentityFile {keys}/person
    UserKnownHostsFile {keys}/known
    LogLevel ERROR
"""


def lack():
    """What this machine lacks for such hosts, in words; nothing if it lacks nothing."""
    if os.geteuid() != 0:
        return "needs the rights of root, to make networks of its own: sudo make test"
    missing = [package for program, package in PROGRAMS.items() if not shutil.which(program, path=PATHS)]
    if missing:
        return f"apt-get install --no-install-recommends {' '.join(missing)}"
    allowed = subprocess.run([*NEW, "true"], capture_output=True).returncode == 0
    return "" if allowed else "needs the rights of root, which this container does not give"


class Lab:
    """The hosts, and what a person does at the desk."""

    def __init__(
        self, bench: Bench, names: list[str], blind: tuple[str, ...] = (), shells: dict[str, str] | None = None
    ):
        self.bench, self.path = bench, bench.path
        self.shared = self.path / "shared"
        self.keys = self.path / "keys"
        for path in (self.shared, self.keys):
            path.mkdir()
        bench.logs, bench.folder = self.shared / "logs", Folder(self.shared / "logs")
        for key in ("host", "person"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.keys / key], check=True)
        (self.keys / "sshd_config").write_text(SSHD.format(keys=self.keys))
        self.hosts = {
            name: self._begin(name, name in blind, (shells or {}).get(name, "/bin/sh")) for name in ("desk", *names)
        }
        known, config = f"127.0.0.1 {(self.keys / 'host.pub').read_text()}", ""
        for number, name in enumerate(names, start=1):
            self._plug_in(name, number)
            known += f"10.9.{number}.2 {(self.keys / 'host.pub').read_text()}"
            config += f"Host {name}\n    HostName 10.9.{number}.2\n"
        (self.keys / "known").write_text(known)
        self.config = self.keys / "config"
        self.config.write_text(config + SSH.format(keys=self.keys))
        ssh = self.keys / "bin" / "ssh"  # a person's configuration is in their home; here it is that of the test
        ssh.parent.mkdir()
        ssh.write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} -F {self.config} "$@"\n')
        ssh.chmod(0o755)

    def _begin(self, name, blind, shell):
        variables = {"NAME": name, "ROOT": ROOT, "KEYS": self.keys, "SHARED": self.shared}
        variables |= {"SEEN": "" if blind else self.shared, "LOGIN_SHELL": shell, "PATH": PATHS}
        first = subprocess.Popen(
            [*NEW, "sh", "-c", BEGIN], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env=os.environ | {key: str(value) for key, value in variables.items()},
        )  # fmt: skip
        self.bench.processes.append(first)
        assert first.stdout.readline() == "begun\n"
        (process,) = children_of(first.pid)
        return process

    def _plug_in(self, name, number):
        on, far = ["nsenter", "--net", "--target"], self.hosts[name]
        for host, words in (
            ("desk", f"link add {name} type veth peer name eth0 netns {far}"),
            ("desk", f"address add 10.9.{number}.1/24 dev {name}"),
            ("desk", f"link set {name} up"),
            (name, f"address add 10.9.{number}.2/24 dev eth0"),
            (name, "link set eth0 up"),
        ):
            subprocess.run([*on, str(self.hosts[host]), "ip", *words.split()], check=True, env={"PATH": PATHS})
        self.on(name, "/usr/sbin/sshd", "-f", self.keys / "sshd_config")

    def on(self, name, *words, code=0, **options):
        """Run a program on a host, from start to end."""
        inside = ["nsenter", "--all", "--target", str(self.hosts[name]), "env", f"PATH={self.keys}/bin:{PATHS}"]
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True} | options
        done = subprocess.run([*inside, *map(str, words)], **options)
        assert code is None or done.returncode == code, done.stdout
        return done.stdout

    def launch(self, *words, code=0):
        """`foldertune launch ssh`, at the desk."""
        command = ("sh", "-c", 'cd "$0" && exec "$@"', ROOT, sys.executable, "-m", "foldertune", "launch", "ssh")
        said = self.on("desk", *command, *words, code=code)
        assert "Traceback" not in said, said
        return said

    def cable(self, name, state):
        """Pull a host's network cable out ("down"), or plug it in ("up")."""
        self.on("desk", "ip", "link", "set", name, state)

    def kill(self, name, process):
        self.on(name, "kill", "-9", process)


@pytest.fixture
def new_lab(bench):
    """Makes hosts, which end with the test."""
    if why := lack():
        pytest.skip(why)

    def make(*names, **options):
        return Lab(bench, list(names), **options)

    yield make
