"""An NFS server and its clients on one machine: user-mode Linux guests, each with a kernel of its own.

User-mode Linux is a Linux kernel that runs as an ordinary process: so client and server are the kernel's own, with their
real caches, leases and locks, and a crash is a `kill -9`. A guest is up in seconds. Its root is this machine's `/`,
read-only, with all its programs; `guest.sh` is its first process.

    with Network(directory) as network:
        client, other = network.clients
        client.mount("/run/mnt", "vers=4.2,hard")
        program = client.start("sleep", "60")
        program.kill()
        client.cut(); client.join(); client.crash(); client.boot(); network.server.crash()

Each guest has a pid namespace of its own, which dies with the process that started it: whatever happens to us, no process
is left. All files are in `directory`, memory is in unnamed files.
"""

from __future__ import annotations

import base64
import contextlib
import ctypes
import itertools
import os
import shlex
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
PROGRAMS = {
    "linux.uml": "user-mode-linux",
    "uml_switch": "uml-utilities",
    "modprobe": "kmod",
    "rpc.nfsd": "nfs-kernel-server",
    "mount.nfs4": "nfs-common",
    "ip": "iproute2",
    "unshare": "util-linux",
    "mkfs.ext4": "e2fsprogs",
}
PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
NETWORK, SERVER = "10.79.0", 1  # addresses that only the guests see
BOOTING, PATIENCE = 60.0, 120.0  # seconds; never a measure of speed
MEMORY = "1G"  # of which only what is used is taken
# A guest's kernel may know too little of this processor's registers to save those of AVX and later: see `_plain_registers`.
WITHOUT_AVX = {
    "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX,-AVX2,-AVX512F,-AVX512VL,-AVX512BW,-AVX_Fast_Unaligned_Load",
    "OPENSSL_ia32cap": "~0x1000000000000000:~0x20",
    "OPENBLAS_CORETYPE": "Nehalem",
    "NPY_DISABLE_CPU_FEATURES": "X86_V3,X86_V4,AVX512_ICL,AVX512_SPR",
}


def lack() -> str:
    """What this machine lacks for guests, in one line with the remedy; empty if it has all."""
    packages = [package for program, package in PROGRAMS.items() if not shutil.which(program, path=PATH)]
    if packages:
        return f"needs {' '.join(packages)}: apt-get install --no-install-recommends {' '.join(packages)}"
    namespace = subprocess.run(["unshare", "--pid", "--fork", "true"], capture_output=True)
    return "needs the rights of root, for a pid namespace" if namespace.returncode else ""


class Program:
    """A program that runs in a guest. It looks like subprocess.Popen."""

    def __init__(self, guest: Guest, number: int, command: str) -> None:
        self.guest, self.number, self.command = guest, number, command
        self.args = command
        self.returncode: int | None = None
        self.output = ""
        self.ended = threading.Event()

    def end(self, code: int, output: str) -> None:
        """Note that it has ended."""
        self.returncode, self.output = code, output
        self.ended.set()

    def poll(self) -> int | None:
        """The exit code, or None while it runs."""
        return self.returncode

    def wait(self, timeout: float = PATIENCE) -> int | None:
        """Wait for its end, and return the exit code."""
        if not self.ended.wait(timeout):
            raise AssertionError(f"{self.guest.name}: still runs after {timeout:g} s: {self.command}\n{self.so_far()}")
        return self.returncode

    def communicate(self, timeout: float = PATIENCE) -> tuple[str, None]:
        """Wait for its end, and return its output."""
        self.wait(timeout)
        return self.output, None

    def so_far(self) -> str:
        """Its output until now."""
        return self.guest.shell(f"cat /run/{self.number}.out")

    def send_signal(self, number: int) -> None:
        """Send it a signal. It is no error if it has ended."""
        self.guest.shell(f"kill -{number} $(cat /run/{self.number}.pid) 2>/dev/null || true")

    def kill(self) -> None:
        """Send it SIGKILL."""
        self.send_signal(signal.SIGKILL)


class Guest:
    """One guest: a kernel with its programs. Programs are started through its serial line, one text line each."""

    def __init__(self, network: Network, number: int, name: str, role: str) -> None:
        self.network, self.number, self.name, self.role = network, number, name, role
        self.disk = network.path / f"{name}.disk"
        self.console = network.path / f"{name}.console"
        self.process: subprocess.Popen | None = None
        self.mounts: dict[str, str] = {}  # where -> options
        self._boots = 0

    # ---- from boot to crash

    def boot(self) -> None:
        """Start it, with the disk and the mounts that it had before. `ready` waits until it is up."""
        if not self.disk.exists():
            with open(self.disk, "wb") as disk:
                disk.truncate(512 * 2**20)
            subprocess.run(["mkfs.ext4", "-q", "-E", "lazy_itable_init=1", self.disk], check=True, env={"PATH": PATH})
        ours, theirs = socket.socketpair()
        self._boots += 1
        told = {
            "name": self.name,
            "number": self.number,
            "role": self.role,
            "first": "yes" if self._boots == 1 else "no",
            "see": ":".join(dict.fromkeys(map(str, [ROOT, sys.prefix, sys.base_prefix, self.network.shared]))),
            **WITHOUT_AVX,
        }
        kernel = {
            "mem": MEMORY,
            "root": "/dev/root",
            "rootfstype": "hostfs",
            "rootflags": "/",
            "init": Path(__file__).with_name("guest.sh"),
            "umid": f"{self.name}-{self._boots}",
            "uml_dir": self.network.path,
            "con": "null",
            "con0": "null,fd:1",
            "ssl": "null",
            "nohz": "off",  # a timer of this machine for each tick may be lost, and the guest's clock stands; so one for all
            "ssl0": f"fd:{theirs.fileno()}",
            "ubd0": self.disk,
            "eth0": f"daemon,02:00:00:00:00:{self.number:02x},unix,{self.network.switch}",
        }
        words = [f"{key}={value}" for key, value in {**kernel, **told}.items()]
        with open(self.console, "ab") as console:
            self.process = subprocess.Popen(
                ["unshare", "--pid", "--fork", "--kill-child", "linux.uml", "ro", "quiet", *words],
                stdin=subprocess.DEVNULL, stdout=console, stderr=console, env={"PATH": PATH},
                pass_fds=[theirs.fileno()], preexec_fn=_tie, start_new_session=True,  # noqa: PLW1509
            )  # fmt: skip
        theirs.close()
        self._line, self._numbers, self._is_up = ours, itertools.count(1), threading.Event()
        self._running, self._lock = dict[int, Program](), threading.Lock()
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def ready(self) -> None:
        """Wait until it is up, and mount what it had mounted."""
        if not self._is_up.wait(BOOTING) or self.process.poll() is not None:
            raise AssertionError(f"{self.name}: did not start:\n{self.console.read_text(errors='replace')[-2000:]}")
        for where, options in self.mounts.items():
            self._mount(where, options)

    def crash(self) -> None:
        """Kill it with all its programs, as a power cut does; what it had written to its disk remains."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self._listener.join()  # its line is closed when its last process has ended

    def _listen(self) -> None:
        with self._line, self._line.makefile("rb") as answers:
            for answer in answers:
                if not answer.endswith(b"\n"):
                    break  # killed in mid-word
                number, *rest = answer.decode().split(" ")
                if rest:
                    program = self._running.pop(int(number))
                    program.end(int(rest[0]), base64.b64decode(rest[1]).decode(errors="replace"))
                else:
                    self._is_up.set()
        with self._lock:
            self.process.kill()  # `start` sees that it is down
            self.process.wait()
            for program in self._running.values():
                program.end(-signal.SIGKILL, "")
        self._is_up.set()

    # ---- programs

    def start(self, *command: object) -> Program:
        """Start a program in the checkout."""
        with self._lock:
            text = shlex.join(map(str, command))
            assert "\n" not in text, "the serial line takes one line a program"
            program = Program(self, next(self._numbers), text)
            if self.process.poll() is not None:
                program.end(-signal.SIGKILL, "")
                return program
            self._running[program.number] = program
            with contextlib.suppress(OSError):  # it has just crashed: `_listen` ends the program
                self._line.sendall(f"{program.number} env -C {shlex.quote(str(ROOT))} {text}\n".encode())
        return program

    def call(self, *command: object, code: int | None = 0, timeout: float = PATIENCE) -> str:
        """Run a program to its end, with this exit code unless None, and return its output."""
        program = self.start(*command)
        program.wait(timeout)
        if code is not None and program.returncode != code:
            raise AssertionError(f"{self.name}: exit code {program.returncode}: {program.command}\n{program.output}")
        return program.output

    def shell(self, text: str) -> str:
        """Run a line of shell."""
        return self.call("sh", "-c", text)

    def python(self, *arguments: object, **options) -> str:
        """Run this Python there."""
        return self.call(sys.executable, *arguments, **options)

    # ---- the network

    def mount(self, where: str, options: str) -> None:
        """Mount the server's files there, now and after each boot."""
        self.mounts[where] = options
        self._mount(where, options)

    def _mount(self, where: str, options: str) -> None:
        source = f"{NETWORK}.{SERVER}:/" + ("run/disk/share" if "vers=3" in options else "")
        self.call("mkdir", "-p", where)
        self.call("mount", "-t", "nfs", "-o", options, source, where)

    def cut(self) -> None:
        """Pull its network cable out."""
        self.call("ip", "link", "set", "eth0", "down")

    def join(self) -> None:
        """Plug it in again."""
        self.call("ip", "link", "set", "eth0", "up")


class Network:
    """A server and its clients, up from `with` to its end."""

    def __init__(self, path: Path, clients: int = 2) -> None:
        self.path = path
        self.switch = path / "switch"
        self.shared = path / "shared"  # a directory that all guests see as we do
        self.server = Guest(self, SERVER, "server", "server")
        self.clients = [Guest(self, SERVER + k, f"client{k}", "client") for k in range(1, clients + 1)]

    def __enter__(self) -> Network:
        self.shared.mkdir(parents=True)
        try:
            self._switch = subprocess.Popen(
                ["uml_switch", "-unix", self.switch],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                preexec_fn=_tie,  # noqa: PLW1509
                env={"PATH": PATH},
            )  # it ends with its stdin
            while not self.switch.exists():
                time.sleep(0.01)
            for guest in self.guests:
                guest.boot()
            for guest in self.guests:
                guest.ready()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def guests(self) -> list[Guest]:
        """The server and the clients."""
        return [self.server, *self.clients]

    def close(self) -> None:
        """End everything, and remove its files."""
        for guest in self.guests:
            guest.crash()
        self._switch.kill()
        self._switch.communicate()
        shutil.rmtree(self.path)


def _tie() -> None:
    """In a new process: end with the one that starts it, and save plain registers."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(1, signal.SIGKILL, 0, 0, 0):  # PR_SET_PDEATHSIG
        os._exit(1)
    _plain_registers(libc)


def _plain_registers(libc: ctypes.CDLL) -> None:
    """Have ptrace fail for the registers of AVX and later, so that user-mode Linux saves those of x87 and SSE only.

    Linux 6.1's has room for 2,696 bytes of them. Where the processor has more (11,008 with AMX) it can't restore them, and
    no program starts. So the guests' programs must do without AVX: see WITHOUT_AVX.
    """
    load, equal, answer = 0x20, 0x15, 0x06
    ptrace, getregset, setregset = 101, 0x4204, 0x4205
    program = [
        (load, 0, 0, 0),  # the number of the system call
        (equal, 0, 3, ptrace),
        (load, 0, 0, 16),  # its first argument
        (equal, 2, 0, getregset),
        (equal, 1, 0, setregset),
        (answer, 0, 0, 0x7FFF0000),  # allowed
        (answer, 0, 0, 0x00050000 | 22),  # EINVAL
    ]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in program))
    if libc.prctl(22, 2, struct.pack("HxxxxxxP", len(program), ctypes.addressof(code)), 0, 0):  # PR_SET_SECCOMP, filter
        os._exit(1)
