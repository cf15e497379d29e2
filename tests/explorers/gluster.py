"""Searches on GlusterFS: workers of two hosts, kill -9, bricks that go away, come back, and are added.

    python -m tests.explorers.gluster               ten seeds on each of the two volumes (half an hour)
    python -m tests.explorers.gluster --seeds 50    more of them
    python -m tests.explorers.gluster --seed 7      one of them again
    python -m tests.explorers.gluster --quiet       no kills and no bricks: only the caches of the two hosts
    python -m tests.explorers.gluster --masters     two masters, of which one leads, and nothing but leases

`glusterfs.sh` describes the volumes, `spread` and `copied`. Each storm is one search, on a cluster of its own: a master
and five workers on two hosts, with the default caches. Workers, trainers and the master are killed at random moments;
the master comes back on either host; server 2 is killed twice, and comes back some seconds later; a brick is added.
With `--masters`, each host has a master. The one that leads is killed, suspended or cut off for longer than its lease, and
a worker is killed or suspended with it, often while server 2 is away. Each program has process numbers of its own, so
nobody can know that another one is dead: masters and trials change hands by their leases alone.
A storm prints its volume, its seed, what was done and what was wrong. The exit code is 1 if anything was.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import stat
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from foldertune.protocol import TrialName
from tests.explorers.cluster import Cluster, Host, cluster_of
from tests.explorers.crashes import kill_trainer

VOLUMES, SERVERS = ("spread", "copied"), (1, 2, 3)
TRIALS, KILLS = 60, 10
AWAY = 5.0  # seconds: the longest that a server is away
LEASE = 15.0  # seconds: no live worker loses a trial because of that, or of a cache
HANDOVERS, SHORT_LEASE = 4, 10.0  # with two masters; seconds
IN_ITS_OWN_WORLD = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]
REFUSED, FOLLOWED = "is searching here", "has followed it, and leads now"  # why a master may end with 2
COPIES = {"spread": 1, "copied": 2}  # of each file
POINTER = stat.S_ISVTX  # the mode of a file on a brick that only says which brick has it


class Storm:
    """One search that is disturbed at random."""

    trials, lease = TRIALS, LEASE

    def __init__(self, cluster: Cluster, volume: str, seed: int) -> None:
        self.cluster, self.volume, self.chance = cluster, volume, random.Random(f"{volume} {seed}")
        self.folder = f"{volume}/storm-{seed}"
        self.hosts = [Host(cluster, number, self.folder) for number in (1, 2)]
        self.here = cluster.path / "server"  # on no volume
        self.study = self.here / "toy.toml"
        self.study.write_bytes(Path(self.hosts[0].study(self.trials, "resumable", seed)).read_bytes())
        self.outputs: list[Path] = []
        self.done: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.start_masters()
        self.workers = [self.start_worker(number) for number in (0, 0, 1, 1, 1)]

    # ---- what happens

    def start_masters(self) -> None:
        self.master = self.start_master(self.chance.choice((0, 1)))

    def start_master(self, number: int, *options: str) -> subprocess.Popen:
        options = ("--lease", str(self.lease), "--max-attempts", "1000", *options)
        return self.hosts[number].master(self.study, *options, stdout=self.output("master"))

    def start_worker(self, number: int) -> tuple[int, subprocess.Popen]:
        return number, self.hosts[number].worker("resumable", "--checkpoint-every", 0.2, stdout=self.output("worker"))

    def output(self, what: str):
        self.outputs.append(self.here / f"{what}-{len(self.outputs)}.txt")
        return self.outputs[-1].open("w")

    def blow(self) -> None:
        """Disturb the search, KILLS times and a few more."""
        leaving = set(self.chance.sample(range(KILLS), 2))
        growing = self.chance.randrange(KILLS) if self.volume == "spread" else -1
        for step in range(KILLS):
            time.sleep(self.chance.uniform(0.2, 1.5))
            if step in leaving:
                self.cluster("stop", 2)
            if step == growing:
                self.cluster("start", 2)  # no brick is added while another is away
                self.cluster("grow")
                self.done["brick added"] += 1
            self.kill()
            self.follow_master()
            if step in leaving:
                time.sleep(self.chance.uniform(0, AWAY))
                self.cluster("start", 2)
                self.done["server away"] += 1
        self.follow_master()

    def kill(self) -> None:
        """Kill the master, a trainer or a worker, and start another."""
        what = self.chance.choices(("master", "trainer", "worker"), (3, 2, 5))[0]
        self.done[f"{what} killed"] += 1
        if what == "trainer":
            return kill_trainer(self.chance.choice(self.workers)[1].pid)
        if what == "worker":
            number, victim = self.workers.pop(self.chance.randrange(len(self.workers)))
        else:
            victim = self.master
        victim.kill()
        victim.wait()
        if what == "worker":
            self.workers.append(self.start_worker(number))
        else:
            self.start_masters()

    def follow_master(self) -> None:
        """If the master has given up, start it again, as a person would."""
        if self.master.poll():
            self.wrong.append(f"the master ended with {self.master.returncode}: {self.last_words()}")
            self.start_masters()

    def last_words(self) -> str:
        """The last line of the last master."""
        lines = max(self.here.glob("master-*"), key=lambda path: path.stat().st_mtime).read_text().splitlines()
        return lines[-1] if lines else "no word"

    def is_over(self) -> bool:
        """Has the master ended as it should?"""
        return self.master.poll() == 0

    # ---- what must be true afterwards

    def settle(self) -> None:
        """Wait until master and workers have ended, and note what is wrong."""
        deadline = time.monotonic() + 4 * LEASE + self.trials
        while not self.is_over():
            if time.monotonic() > deadline:
                counted = len(self.hosts[0].names("seen"))
                self.wrong.append(f"the search does not end: {counted} of {self.trials} counted")
                return
            time.sleep(0.5)
            self.follow_master()
        deadline = time.monotonic() + LEASE
        while any(worker.poll() is None for _, worker in self.workers) and time.monotonic() < deadline:
            time.sleep(0.1)
        waiting = sum(worker.poll() is None for _, worker in self.workers)
        if waiting:
            self.wrong.append(f"{waiting} workers have not ended")
        codes = Counter(worker.returncode for _, worker in self.workers if worker.returncode)
        self.wrong += [f"{times} workers ended with {code}" for code, times in codes.items()]

    def look(self) -> None:
        """Note what is wrong with the results."""
        host = self.hosts[0]
        for what, names in (
            ("counted twice", counted_twice(self.cluster, self.volume, self.folder)),
            ("finished but lost", finished_but_lost(host)),
            ("failed of themselves", failed_of_themselves(host)),
            ("wrong or missing", wrong_or_missing(host, self.trials)),
        ):
            if names:
                self.wrong.append(f"{len(names)} {what}: {', '.join(map(str, names[:3]))}…")
        dropped = sum(path.read_text().count("no longer ours") for path in self.outputs)
        self.done["trial dropped by a live worker"] += dropped  # an attempt more, and no result less
        for path in self.outputs:
            if "Traceback" in path.read_text():
                self.wrong.append(f"{path.name}: {path.read_text()[-300:]}")

    def close(self) -> None:
        for host in self.hosts:
            host.close()


class Handover(Storm):
    """A search with a master on each host. The one that leads is disturbed, and the other follows it by the lease."""

    trials, lease = 3 * TRIALS, SHORT_LEASE

    def start_masters(self) -> None:
        for host in self.hosts:
            host.on += IN_ITS_OWN_WORLD
        self.masters = [self.start_master(number, "--standby") for number in (0, 1)]
        self.said = self.outputs[-2:]
        while not any(self.files_of_masters()):
            time.sleep(0.1)

    def blow(self) -> None:
        """Disturb whoever leads, and see the other follow."""
        for _ in range(HANDOVERS):
            time.sleep(self.chance.uniform(1, 4))
            self.follow_master()
            if any(master.poll() == 0 for master in self.masters):
                return
            number, leader = self.leader()
            is_away = self.chance.random() < 0.7
            if is_away:
                self.cluster("stop", 2)
                self.done["server away"] += 1
            what = self.chance.choice(("killed", "suspended", "cut off"))
            self.done[f"leader {what}"] += 1
            self.disturb(what, leader, self.chance.randrange(len(self.workers)), is_away)
            deadline = time.monotonic() + 4 * self.lease
            while self.leader()[0] == number:
                if time.monotonic() > deadline:
                    self.wrong.append(f"nobody has followed master {number} on host {leader + 1}, which was {what}")
                    return
                time.sleep(0.1)
                self.follow_master()
        self.follow_master()

    def disturb(self, what: str, leader: int, worker: int, is_away: bool) -> None:
        """Kill or suspend a leader and a worker, or cut the leader's host off, for longer than the lease."""
        number, program = self.workers[worker]
        victims = [self.masters[leader], program]
        if what == "cut off":
            self.cluster("cut", leader + 1)
        for victim in victims if what == "suspended" else ():
            signal_program(victim, signal.SIGSTOP)
        for victim in victims if what == "killed" else ():
            victim.kill()
            victim.wait()
        if what == "killed":
            self.replace_master(leader)
            self.workers[worker] = self.start_worker(number)
        away = self.chance.uniform(0, AWAY)
        time.sleep(away)
        if is_away:
            self.cluster("start", 2)
        time.sleep(1.5 * self.lease - away)
        if what == "cut off":
            self.cluster("join", leader + 1)
        for victim in victims if what == "suspended" else ():
            signal_program(victim, signal.SIGCONT)

    def leader(self) -> tuple[int, int]:
        """The number of the last master, and its host."""
        last = max(self.files_of_masters(), key=lambda file: file.name)
        claim = json.loads(last.read_text().splitlines()[0])
        return int(last.stem.rpartition("-")[2]), int(claim["host"].removeprefix("host")) - 1

    def files_of_masters(self) -> Iterator[Path]:
        """As the servers' disks have them: nothing there is old or away."""
        for server in SERVERS:
            logs = self.cluster.path / f"server{server}" / self.folder / "logs"
            yield from (file for file in logs.glob(".master-*.jsonl") if file.stat().st_size)

    def follow_master(self) -> None:
        """Start each master again that has ended because another leads."""
        for number, master in enumerate(self.masters):
            if master.poll():
                text = self.said[number].read_text()
                why = next((why for why in (REFUSED, FOLLOWED) if why in text), "")
                if master.returncode != 2 or not why:
                    self.wrong.append(f"a master ended with {master.returncode}: {text[-300:]}")
                self.done["refused" if why == REFUSED else "master has seen its follower"] += 1
                self.replace_master(number)

    def replace_master(self, number: int) -> None:
        """Start another master on that host: on standby, or as who does not know of the other."""
        self.masters[number] = self.start_master(number, *self.chance.choice((["--standby"], [])))
        self.said[number] = self.outputs[-1]

    def is_over(self) -> bool:
        """Have both masters ended as they should?"""
        return all(master.poll() == 0 for master in self.masters)

    def look(self) -> None:
        """Note what is wrong with the results, and what leases have done."""
        super().look()
        self.done["old name come back"] += sum(
            has_come_back(self.hosts[0], name) for name in self.hosts[0].names("lost")
        )
        texts = [path.read_text() for path in self.outputs]
        self.done["trial taken over"] += sum(text.count(": no sign of life from") for text in texts)


def signal_program(process: subprocess.Popen, number: int) -> None:
    """Send a signal to the program that `unshare` has started."""
    for child in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split():
        os.kill(int(child), number)


def counted_twice(cluster: Cluster, volume: str, folder: str) -> list[int]:
    """Trials that are in `seen/` more than once, perhaps with one name on two bricks: then no host shows both."""
    files = Counter(
        file.name
        for server in SERVERS
        for file in (cluster.path / f"server{server}" / volume / folder / "logs" / "seen").glob("*.seen")
        if file.stat().st_size and stat.S_IMODE(file.stat().st_mode) != POINTER
    )
    numbers = Counter[int]()
    for name, times in files.items():
        numbers[TrialName.parse(name).number] += times / COPIES[volume]
    return sorted(number for number, times in numbers.items() if times > 1)


def finished_but_lost(host: Host) -> list[str]:
    """Attempts with a result that were set aside all the same."""
    finished = [name for name in host.names("lost") if host.folder.read(name).result is not None]
    return [str(name) for name in finished if not has_come_back(host, name)]


def has_come_back(host: Host, name: TrialName) -> bool:
    """Is this a second name of a file that is counted?

    A replicated volume can show an old name again: a copy was away at the rename, and a client that was cut off just then
    has left open which copy is right.
    """
    seen = name.to("seen")
    return host.folder.has(seen) and os.path.samefile(host.folder.locate(name), host.folder.locate(seen))


def failed_of_themselves(host: Host) -> list[str]:
    """What attempts said that ended with an error, although nobody had killed their trainer."""
    errors = [host.folder.read(name).error for name in host.names("lost")]
    return [error for error in errors if error and "SIGKILL" not in error]


def wrong_or_missing(host: Host, trials: int) -> list[int]:
    """Trials without a result, or with one that is not that of their settings."""
    read = {name.number: host.folder.read(name) for name in host.names("seen")}
    right = {
        number for number, trial in read.items() if (trial.result or {}).get("validation_error") == trial.settings["x"]
    }
    return sorted(right ^ set(range(trials)))


def sail(kind: type[Storm], volume: str, seed: int, quiet: bool) -> list[str]:
    """Let one storm pass, print a line about it, and return what was wrong."""
    start = time.monotonic()
    with cluster_of("glusterfs", 2) as cluster:
        storm = kind(cluster, volume, seed)
        try:
            if not quiet:
                storm.blow()
            storm.settle()
            storm.look()
        finally:
            storm.close()
    done = ", ".join(f"{what} {times}" for what, times in sorted(storm.done.items()))
    print(
        f"{volume} {seed}: {storm.trials} trials, {time.monotonic() - start:.0f} s; {done or 'quiet'}: {'; '.join(storm.wrong) or 'right'}",
        flush=True,
    )
    return storm.wrong


def main() -> int:
    """Let all storms pass."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10, metavar="N", help="seeds 0 to N - 1 (default: 10)")
    parser.add_argument("--seed", type=int, metavar="K", help="only this one")
    parser.add_argument("--volume", choices=VOLUMES, help="only this volume (default: both)")
    parser.add_argument("--quiet", action="store_true", help="no kills, no bricks: only what the caches do")
    parser.add_argument("--masters", action="store_true", help="two masters: one follows the other by the lease")
    arguments = parser.parse_args()
    seeds = range(arguments.seeds) if arguments.seed is None else [arguments.seed]
    kind = Handover if arguments.masters else Storm
    volumes = [arguments.volume] if arguments.volume else VOLUMES
    if lack := Cluster(Path(), "glusterfs").lack():
        print(lack, file=sys.stderr)
        return 2
    wrong = [bool(sail(kind, volume, seed, arguments.quiet)) for seed in seeds for volume in volumes]
    print(f"{len(wrong)} storms, {sum(wrong)} with something wrong")
    return int(any(wrong))


if __name__ == "__main__":
    sys.exit(main())
