"""The training loop: from settings to a learning curve.

Data set, order of the examples, weights and losses stay on the device; the host waits for it once per epoch. On a GPU
the steps are recorded in CUDA graphs, several in each, so that the device never waits for the host.
"""

from __future__ import annotations

import ctypes
import functools
import math
import os
import time
import zipfile
from collections.abc import Mapping
from io import BytesIO
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from foldertune.trainer.report import Report
from training.data import Dataset, Part, load
from training.graphs import CudaRecorder, Recorder, Step, record_steps
from training.network import Network
from training.settings import SettingsError, complete

EVALUATION_BATCH = 500
CHANCE = 0.15  # an accuracy below this is chance level: the most frequent digit as the only answer reaches 11 %
FIRST_WITH_BFLOAT16 = (8, 0)  # the compute capability of NVIDIA's Ampere; earlier GPUs only emulate it
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def draw_order(examples: int, batch_size: int, device: str) -> Tensor:
    """Indices (steps, batch_size) of an epoch's minibatches, in random order. An incomplete last batch is dropped."""
    steps = examples // batch_size
    return torch.randperm(examples, device=device)[: steps * batch_size].view(steps, batch_size)


class Evaluation:
    """Computes the loss and the accuracy of a network on a part of the data, without dropout.

    Attributes:
        compute: computes the sums on the device, without waiting for it.
        sums: the tensors that `compute` changes.
    """

    def __init__(self, network: Network, part: Part) -> None:
        self._network, self._part = network, part
        self._loss = torch.zeros((), device=network.device)
        self._correct = torch.zeros((), dtype=torch.long, device=network.device)
        self.sums = {"losses": self._loss, "correct answers": self._correct}
        self.compute: Step = self._compute

    @torch.inference_mode()
    def _compute(self) -> None:
        self._loss.zero_()
        self._correct.zero_()
        batches = (tensor.split(EVALUATION_BATCH) for tensor in (self._part.images, self._part.labels))
        for images, labels in zip(*batches, strict=True):
            logits = self._network(images.to(self._network.precision))
            self._loss += functional.cross_entropy(logits, labels, reduction="sum")
            self._correct += (logits.argmax(1) == labels).sum()

    def __call__(self) -> tuple[float, float]:
        """Mean cross-entropy and accuracy."""
        self.compute()
        return self._loss.item() / len(self._part), self._correct.item() / len(self._part)


def choose_device(wish: str = "auto") -> str:
    """The device for "auto" (the GPU if there is one), "cpu", "cuda" or "cuda:1". Raises SettingsError.

    On Apple's GPU, "mps", there are no CUDA graphs: this training runs on the CPU there.
    """
    if wish == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(wish)
    except RuntimeError:
        raise SettingsError(f"device: '{wish}' is not a device; use auto, cpu, cuda or cuda:1") from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise SettingsError(
            f"device: there is no {wish} here ({torch.cuda.device_count()} GPUs seen by PyTorch); use cpu"
        )
    return "cpu" if device.type == "mps" else str(device)


def count_sharers(device: str) -> int:
    """The number of trials that train at once on this device: TRIALS_PER_GPU on a GPU, otherwise 1."""
    return 1 if device == "cpu" else int(os.environ.get("TRIALS_PER_GPU", "1"))


def limit_memory(device: str) -> None:
    """Limit this process to its share of the GPU's memory, so that a trial that needs more fails alone."""
    sharers = count_sharers(device)
    if sharers > 1:  # a tenth is left for memory that PyTorch does not count: contexts and libraries
        torch.cuda.set_per_process_memory_fraction(0.9 / sharers, torch.device(device).index or 0)


def choose_precision(wish: str, device: str) -> torch.dtype:
    """The precision for "auto", "float32" or "bfloat16".

    "auto" means bfloat16 on CPUs and GPUs with instructions for it, where it was seen to give the same results
    (docs/precision.md), and float32 everywhere else.
    """
    if wish == "auto":
        wish = "bfloat16" if _has_bfloat16(device) else "float32"
    return PRECISIONS[wish]


def _has_bfloat16(device: str) -> bool:
    if device == "cpu":
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return bool(torch.cuda.get_device_capability(device) >= FIRST_WITH_BFLOAT16)


@functools.cache
def set_up_process() -> None:
    """Set PyTorch's and glibc's options for all trainings of this process."""
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False  # float32 means float32
    # Every step frees and allocates the same few megabytes. By default glibc returns them to the system each time, and
    # then each page costs a fault: up to a fifth of the time.
    m_trim_threshold, m_mmap_threshold = -1, -3  # from malloc.h
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt:
        mallopt(m_mmap_threshold, 2**30)
        mallopt(m_trim_threshold, 2**30)


class Training:
    """One training, with all the state that is needed to resume it between any two steps.

    Args:
        values: complete settings.
        data: the data set, on the device.
        recorder: what records its steps; None: CUDA graphs on a GPU, nothing on the CPU.

    Attributes:
        history: the reports of the epochs so far.
    """

    def __init__(self, values: Mapping[str, Any], data: Dataset, device: str, recorder: Recorder | None = None) -> None:
        self.values, self.data, self.device = values, data, device
        torch.manual_seed(values["seed"])
        precision = choose_precision(values["precision"], device)
        self.network = Network(values["filters"], values["dropout"], precision, device)
        self.history: list[dict[str, Any]] = []
        self._images = data.training.images.to(precision)  # exact: a pixel is n/256
        self._steps = len(data.training) // values["batch_size"]
        examples = torch.arange(self._steps * values["batch_size"], device=device)  # any, until an epoch begins
        self._order = examples.view(self._steps, values["batch_size"])
        self._position = 0  # the epoch's next step
        self._row = torch.zeros(1, dtype=torch.long, device=device)  # the same number, on the device
        self._total = torch.zeros((), device=device)  # the sum of the epoch's training losses
        self._runs: dict[int, Step] = {1: self._step}  # by their number of steps
        self._validate = Evaluation(self.network, data.validation)
        if recorder or device != "cpu":
            self._record(recorder or CudaRecorder(device))
        self._start = time.perf_counter()

    def _record(self, recorder: Recorder) -> None:
        """Record steps and validation, if they can be recorded here."""
        state = {**self._state, "rounded": self.network.rounded}
        self._runs = record_steps(self._step, state, self._steps, recorder)
        if self._runs[1] != self._step:
            compute = self._validate.compute
            self._validate.compute = record_steps(compute, self._validate.sums, 1, recorder)[1]

    @property
    def seconds(self) -> float:
        """Time spent on training and validation, in all attempts."""
        return time.perf_counter() - self._start

    def is_over(self) -> bool:
        """Are all epochs done, or has the last one passed the time limit?"""
        limit = self.values["time_limit"]
        overtime = limit is not None and bool(self.history) and self.history[-1]["seconds"] > limit
        return len(self.history) >= self.values["epochs"] or overtime

    def advance(self) -> bool:
        """Train on the next minibatch, or on the next few at once. False if the epoch has none left."""
        if self._position == 0:
            self._order.copy_(draw_order(len(self.data.training), self.values["batch_size"], self.device))
            self._total.zero_()
        if self._position == self._steps:
            return False
        count = max(count for count in self._runs if self._position + count <= self._steps)
        self._runs[count]()
        self._position += count
        return True

    @torch.inference_mode()
    def _step(self) -> None:
        index = self._order.index_select(0, self._row).squeeze(0)
        images, labels = self._images.index_select(0, index), self.data.training.labels.index_select(0, index)
        self._total += self.network.step(images, labels, self.values["learning_rate"], self.values["momentum"])
        self._row += 1

    @property
    def _state(self) -> dict[str, Tensor]:
        """The tensors that steps change."""
        return {
            "weights": self.network.weights,
            "velocities": self.network.velocities,
            "order": self._order,
            "row": self._row,
            "total": self._total,
        }

    def end_epoch(self) -> dict[str, Any]:
        """Validate, and return the epoch's report."""
        validation_loss, accuracy = self._validate()
        epoch = {
            "epoch": len(self.history) + 1,
            "seconds": round(self.seconds, 3),
            "training_loss": self._total.item() / self._steps,
            "validation_loss": validation_loss,
            "validation_accuracy": accuracy,
        }
        self.history.append(epoch)
        self._position = 0
        self._row.zero_()
        return epoch

    def save(self) -> bytes:
        """A checkpoint: the network, the optimiser, the random generators, and the place in the epoch."""
        state = {
            **{name: tensor.clone() for name, tensor in self._state.items()},
            "generator": torch.get_rng_state(),
            "device_generator": torch.cuda.get_rng_state(self.device) if self.device != "cpu" else None,
            "history": self.history,
            "seconds": self.seconds,
            "position": self._position,
        }
        buffer = BytesIO()
        torch.save(state, buffer)
        return buffer.getvalue()

    @classmethod
    def restore(cls, saved: bytes, values: Mapping[str, Any], data: Dataset, device: str) -> Training:
        """The training that saved this checkpoint. Raises ValueError or torch's errors if it is not one of ours."""
        with zipfile.ZipFile(BytesIO(saved)) as archive:
            if sum(part.file_size for part in archive.infolist()) > len(saved):
                raise ValueError("not a checkpoint: it is compressed")  # it could expand to any size
        state = torch.load(BytesIO(saved), map_location="cpu", weights_only=True)
        training = cls(values, data, device)
        for name, tensor in training._state.items():
            if state[name].shape != tensor.shape:
                raise ValueError(f"not a checkpoint of this training: its {name} have another size")
            tensor.copy_(state[name])
        training.network.round()
        training.history, training._position = list(state["history"]), state["position"]
        if not 0 <= training._position <= training._steps or training._position != training._row:
            raise ValueError("not a checkpoint of this training: its position is outside the epoch")
        if not 0 <= training._order.min() <= training._order.max() < len(data.training):
            raise ValueError("not a checkpoint of this training: its examples are others")
        torch.set_rng_state(state["generator"])
        if device != "cpu" and state["device_generator"] is not None:
            torch.cuda.set_rng_state(state["device_generator"], device)
        training._start = time.perf_counter() - state["seconds"]
        return training


def train(settings: Mapping[str, Any], report: Report) -> dict[str, Any]:
    """Train one network and measure it.

    Args:
        settings: as in `training.settings`; missing ones take their defaults.
        report: called after every epoch with epoch, seconds, training_loss, validation_loss, validation_accuracy.
            Seconds count from the start of training. They include validation, but not set-up and data loading. The
            report also keeps checkpoints, and names the device (see `choose_device`).

    Returns:
        validation_error (1 − best accuracy: the score), best_epoch, validation_loss (the lowest), test_loss,
        test_accuracy, training_loss (of the last epoch), seconds, epochs_trained, parameters, diverged (loss not
        finite, or accuracy at chance level in the end), precision, device, trials_on_device (the number of trials
        that shared the device, including this one; seconds are wall-clock seconds, whatever this number is).

    Raises SettingsError and DataError. The same settings on the same machine and number of threads give the same
    bits, no matter how often the training was interrupted and resumed.
    """
    values = complete(settings)
    device = choose_device(report.device)
    set_up_process()
    data = load(values["data"], device)
    training = report.resume(lambda saved: Training.restore(saved, values, data, device))
    if training is None:
        training = Training(values, data, device)
    for epoch in training.history:
        report(**epoch)
    while not training.is_over():
        while training.advance():
            if report.checkpoint_due:
                report.checkpoint(training.save())
        report(**training.end_epoch())
        if report.checkpoint_due:
            report.checkpoint(training.save())

    last = training.history[-1]
    best = max(training.history, key=lambda epoch: epoch["validation_accuracy"])  # the first, if several are equal
    losses = [epoch["validation_loss"] for epoch in training.history if math.isfinite(epoch["validation_loss"])]
    test_loss, test_accuracy = Evaluation(training.network, data.test)()
    return {
        "validation_error": round(1 - best["validation_accuracy"], 6),
        "best_epoch": best["epoch"],
        "validation_loss": min(losses, default=math.nan),
        "test_loss": test_loss,
        "test_accuracy": test_accuracy,
        "training_loss": last["training_loss"],
        "seconds": last["seconds"],
        "epochs_trained": last["epoch"],
        "parameters": len(training.network.weights),
        "diverged": not math.isfinite(last["training_loss"]) or last["validation_accuracy"] < CHANCE,
        "precision": str(training.network.precision).removeprefix("torch."),
        "device": device,
        "trials_on_device": count_sharers(device),
    }
