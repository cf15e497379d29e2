"""A real Slurm with three nodes on this one machine, in a directory of its own.

    python -m tests.explorers.slurm bash                 a shell in which sbatch, squeue, scancel … speak to it
    python -m tests.explorers.slurm sinfo                or any other command

Its daemons (munged, slurmctld, a slurmd for each node) and all their jobs live in a pid namespace. That ends with this
process, in whatever way it ends, and nothing else of the machine is touched. The partitions: `normal` (the default),
`urgent`, whose jobs preempt others, which are then queued again.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

PROGRAMS = {"sbatch": "slurm-wlm", "slurmctld": "slurm-wlm", "slurmd": "slurm-wlm", "munged": "munge"}
NODES = ("node1", "node2", "node3")

CONFIGURATION = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
AuthInfo=socket={path}/munge.socket,cred_expire=5
SlurmUser=root
SlurmdUser=root
StateSaveLocation={path}/state
SlurmdSpoolDir={path}/spool-%n
SlurmctldPidFile={path}/slurmctld.pid
SlurmdPidFile={path}/slurmd-%n.pid
SlurmctldLogFile={path}/slurmctld.log
SlurmdLogFile={path}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
SchedulerParameters=batch_sched_delay=0,sched_interval=1,sched_min_interval=0,bf_interval=1
SlurmdTimeout=10
KillWait=15
MinJobAge=3600
ReturnToService=2
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
NodeName=node[1-3] NodeHostname={host} NodeAddr=127.0.0.1 Port={ports} CPUs=8 State=UNKNOWN
PartitionName=normal Nodes=ALL Default=YES PriorityTier=1 State=UP
PartitionName=urgent Nodes=ALL PriorityTier=10 PreemptMode=OFF State=UP
"""  # cred_expire: a job that is queued again waits so long, and two minutes by default; CPUs: more than there are

DAEMONS = """
munged --force --key-file="$1/munge.key" --socket="$1/munge.socket" --pid-file="$1/munged.pid" \
    --log-file="$1/munged.log" --seed-file="$1/munge.seed"
slurmctld
for node in $2; do slurmd -N "$node"; done
exec sleep infinity
"""


class Slurm:
    """The cluster. To call it is to run one of Slurm's programs, and to get what it prints."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.environment = os.environ | {"SLURM_CONF": str(path / "slurm.conf")}

    def __call__(self, *words: object) -> str:
        command = list(map(str, words))
        return subprocess.run(command, check=True, env=self.environment, stdout=subprocess.PIPE, text=True).stdout

    def start(self) -> subprocess.Popen[bytes]:
        """Start the daemons, as children of the process that is returned: they end with it, and it ends with us."""
        ports = free_ports(4)
        text = CONFIGURATION.format(
            host=socket.gethostname().split(".")[0],
            path=self.path,
            port=ports[0],
            ports=f"[{','.join(map(str, ports[1:]))}]",
        )
        (self.path / "slurm.conf").write_text(text)
        (self.path / "munge.key").write_bytes(os.urandom(128))
        (self.path / "munge.key").chmod(0o400)
        apart = ["unshare", "--pid", "--mount", "--fork", "--kill-child", "--mount-proc"]
        command = [
            "setpriv",
            "--pdeathsig",
            "KILL",
            *apart,
            "sh",
            "-c",
            DAEMONS,
            "daemons",
            str(self.path),
            " ".join(NODES),
        ]
        with open(self.path / "daemons.log", "wb") as log:
            return subprocess.Popen(command, env=self.environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL)

    def wait(self) -> None:
        """Wait until all nodes are ready."""
        for _ in range(300):
            with contextlib.suppress(subprocess.CalledProcessError):
                if self("sinfo", "-h", "-N", "-p", "normal", "-t", "idle", "-o", "%N").split() == list(NODES):
                    return
            time.sleep(0.1)
        raise RuntimeError((self.path / "daemons.log").read_text() + (self.path / "slurmctld.log").read_text())

    def job(self, number: str) -> dict[str, str]:
        """What Slurm knows of a job, or of one task of an array (`4711_3`): JobState, ExitCode, Restarts, NodeList …"""
        text = self("scontrol", "show", "job", "-o", number)
        return dict(re.findall(r"(\S+?)=(\S*)", text))

    def kill_node(self, name: str) -> None:
        """Kill everything on a node, as if the power had failed: its slurmd, and those that look after jobs first."""
        for kind in ("slurmstepd", "slurmd", ""):
            for pid in self._processes():
                with contextlib.suppress(OSError):
                    words = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                    around = Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace").split("\0")
                    is_there = f"SLURMD_NODENAME={name}" in around or f"slurmd -N {name}" in words
                    if kind == "slurmstepd":
                        is_there = "slurmstepd" in words and any(self._is_on(child, name) for child in _children(pid))
                    if is_there and kind in words:
                        os.kill(pid, signal.SIGKILL)

    def _is_on(self, pid: int, name: str) -> bool:
        with contextlib.suppress(OSError):
            return f"SLURMD_NODENAME={name}".encode() in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        return False

    def _processes(self) -> Iterator[int]:
        """The processes that know of this cluster."""
        for directory in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if f"SLURM_CONF={self.path}/slurm.conf".encode() in (directory / "environ").read_bytes():
                    yield int(directory.name)


def _children(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for task in tasks for child in task.read_text().split()]


def free_ports(number: int) -> list[int]:
    """Ports that are free now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def lack() -> str:
    """What this machine lacks for all that, in words; nothing if it lacks nothing."""
    missing = {package for program, package in PROGRAMS.items() if not shutil.which(program, path=_PATH)}
    if missing:
        return f"needs Slurm: apt-get install --no-install-recommends {' '.join(sorted(missing))}"
    if subprocess.run(["unshare", "--pid", "--mount", "--fork", "true"], capture_output=True).returncode:
        return "needs the rights of root, to make a pid namespace"
    return ""


_PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"


@contextlib.contextmanager
def slurm() -> Iterator[Slurm]:
    """A Slurm in a directory of its own. Nothing of it is left, however the block ends."""
    with tempfile.TemporaryDirectory(prefix="slurm-", ignore_cleanup_errors=True) as path:
        cluster = Slurm(Path(path))
        cluster.environment["PATH"] = _PATH
        cluster.path.chmod(0o755)
        daemons = cluster.start()
        try:
            cluster.wait()
            yield cluster
        finally:
            daemons.kill()
            daemons.wait()


if __name__ == "__main__":
    if text := lack():
        sys.exit(f"{sys.argv[0]}: {text}")
    with slurm() as cluster:
        sys.exit(subprocess.run(sys.argv[1:] or ["sinfo"], env=cluster.environment).returncode)
