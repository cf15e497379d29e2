"""Searches on GlusterFS: workers of two hosts, kill -9, bricks that go away, come back, and are added.

    python -m tests.explorers.gluster               ten seeds on each of the two volumes (half an hour)
    python -m tests.explorers.gluster --seeds 50    more of them
    python -m tests.explorers.gluster --seed 7      one of them again
    python -m tests.explorers.gluster --quiet       no kills and no bricks: only the caches of the two hosts

`glusterfs.sh` describes the volumes, `spread` and `copied`. Each storm is one search, on a cluster of its own: a master
and five workers on two hosts, with the default caches. Workers, trainers and the master are killed at random moments;
the master comes back on either host; server 2 is killed twice, and comes back some seconds later; a brick is added.
A storm prints its volume, its seed, what was done and what was wrong. The exit code is 1 if anything was.
"""

from __future__ import annotations

import argparse
import random
import stat
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from foldertune.protocol import TrialName
from tests.explorers.cluster import Cluster, Host, cluster_of
from tests.explorers.crashes import kill_trainer

VOLUMES, SERVERS = ("spread", "copied"), (1, 2, 3)
TRIALS, KILLS = 60, 10
AWAY = 5.0  # seconds: the longest that a server is away
LEASE = 15.0  # seconds: no live worker loses a trial because of that, or of a cache
COPIES = {"spread": 1, "copied": 2}  # of each file
POINTER = stat.S_ISVTX  # the mode of a file on a brick that only says which brick has it


class Storm:
    """One search that is disturbed at random."""

    def __init__(self, cluster: Cluster, volume: str, seed: int) -> None:
        self.cluster, self.volume, self.chance = cluster, volume, random.Random(f"{volume} {seed}")
        self.folder = f"{volume}/storm-{seed}"
        self.hosts = [Host(cluster, number, self.folder) for number in (1, 2)]
        self.here = cluster.path / "server"  # on no volume
        self.study = self.here / "toy.toml"
        self.study.write_bytes(Path(self.hosts[0].study(TRIALS, "resumable", seed)).read_bytes())
        self.outputs: list[Path] = []
        self.done: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.master = self.start_master()
        self.workers = [self.start_worker(number) for number in (0, 0, 1, 1, 1)]

    # ---- what happens

    def start_master(self) -> subprocess.Popen:
        host = self.chance.choice(self.hosts)
        return host.master(self.study, "--lease", LEASE, "--max-attempts", 1000, stdout=self.output("master"))

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
            self.master = self.start_master()

    def follow_master(self) -> None:
        """If the master has given up, start it again, as a person would."""
        if self.master.poll():
            self.wrong.append(f"the master ended with {self.master.returncode}: {self.last_words()}")
            self.master = self.start_master()

    def last_words(self) -> str:
        """The last line of the last master."""
        lines = max(self.here.glob("master-*"), key=lambda path: path.stat().st_mtime).read_text().splitlines()
        return lines[-1] if lines else "no word"

    # ---- what must be true afterwards

    def settle(self) -> None:
        """Wait until master and workers have ended, and note what is wrong."""
        deadline = time.monotonic() + 4 * LEASE + TRIALS
        while self.master.poll() is None or self.master.returncode:
            if time.monotonic() > deadline:
                self.wrong.append(f"the search does not end: {len(self.hosts[0].names('seen'))} of {TRIALS} counted")
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
            ("wrong or missing", wrong_or_missing(host, TRIALS)),
        ):
            if names:
                self.wrong.append(f"{len(names)} {what}: {', '.join(map(str, names[:3]))}…")
        for path in self.outputs:
            if "Traceback" in path.read_text():
                self.wrong.append(f"{path.name}: {path.read_text()[-300:]}")

    def close(self) -> None:
        for host in self.hosts:
            host.close()


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
    return [str(name) for name in host.names("lost") if host.folder.read(name).result is not None]


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


def sail(volume: str, seed: int, quiet: bool) -> list[str]:
    """Let one storm pass, print a line about it, and return what was wrong."""
    start = time.monotonic()
    with cluster_of("glusterfs", 2) as cluster:
        storm = Storm(cluster, volume, seed)
        try:
            if not quiet:
                storm.blow()
            storm.settle()
            storm.look()
        finally:
            storm.close()
    done = ", ".join(f"{what} {times}" for what, times in sorted(storm.done.items()))
    print(
        f"{volume} {seed}: {TRIALS} trials, {time.monotonic() - start:.0f} s; {done or 'quiet'}: {'; '.join(storm.wrong) or 'right'}",
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
    arguments = parser.parse_args()
    seeds = range(arguments.seeds) if arguments.seed is None else [arguments.seed]
    volumes = [arguments.volume] if arguments.volume else VOLUMES
    if lack := Cluster(Path(), "glusterfs").lack():
        print(lack, file=sys.stderr)
        return 2
    wrong = [bool(sail(volume, seed, arguments.quiet)) for seed in seeds for volume in volumes]
    print(f"{len(wrong)} storms, {sum(wrong)} with something wrong")
    return int(any(wrong))


if __name__ == "__main__":
    sys.exit(main())
