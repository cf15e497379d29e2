"""The network of the exercise and its training loop: from settings to a learning curve.

Two 5×5 convolutions with ReLU and 2×2 max pooling, two fully connected layers behind dropout, cross-entropy, SGD with
classical momentum. The data set is one tensor in memory; a batch is an index into it.
"""

from __future__ import annotations

import math
import time
import zipfile
from collections.abc import Mapping
from io import BytesIO
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.data import Dataset, Part, load
from training.report import Report
from training.settings import SettingsError, complete

CLASSES = 10
HIDDEN = 256
EVALUATION_BATCH = 1000
CHANCE = 0.15  # an accuracy below this is chance: always answering the most frequent digit is right for 11 %


def build_network(filters: int, dropout: float = 0.5) -> nn.Sequential:
    """Images (n, 1, 28, 28) to logits (n, 10). Glorot uniform weights, zero biases (Glorot and Bengio, AISTATS 2010).

    It has 25·F² + 4123·F + 2826 parameters for F filters.
    """
    network = nn.Sequential(
        nn.Conv2d(1, filters, 5),  # 24×24
        nn.ReLU(),
        nn.MaxPool2d(2),  # 12×12
        nn.Conv2d(filters, filters, 5),  # 8×8
        nn.ReLU(),
        nn.MaxPool2d(2),  # 4×4
        nn.Flatten(),
        nn.Dropout(dropout),
        nn.Linear(16 * filters, HIDDEN),
        nn.ReLU(),
        nn.Dropout(dropout),
        nn.Linear(HIDDEN, CLASSES),
    )
    for layer in network:
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
    return network


def count_parameters(network: nn.Module) -> int:
    """The number of trained values."""
    return sum(parameter.numel() for parameter in network.parameters())


def draw_order(examples: int, batch_size: int, device: str) -> Tensor:
    """Indices (steps, batch_size) of an epoch's minibatches, in a random order; an incomplete last one is dropped."""
    steps = examples // batch_size
    return torch.randperm(examples, device=device)[: steps * batch_size].view(steps, batch_size)


@torch.inference_mode()
def evaluate(network: nn.Module, part: Part) -> tuple[float, float]:
    """Mean cross-entropy and accuracy on a part, dropout off."""
    network.eval()
    loss = torch.zeros((), device=part.images.device)
    correct = torch.zeros((), dtype=torch.long, device=part.images.device)
    for images, labels in zip(part.images.split(EVALUATION_BATCH), part.labels.split(EVALUATION_BATCH), strict=True):
        logits = network(images)
        loss += functional.cross_entropy(logits, labels, reduction="sum")
        correct += (logits.argmax(1) == labels).sum()
    return loss.item() / len(part), correct.item() / len(part)


def choose_device(wish: str = "auto") -> str:
    """The device for "auto" (the GPU if there is one), "cpu", "cuda" or "cuda:1". Raises SettingsError."""
    if wish == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(wish)
    except RuntimeError:
        raise SettingsError(f"device: '{wish}' is no device; use auto, cpu, cuda or cuda:1") from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise SettingsError(
            f"device: there is no {wish} here ({torch.cuda.device_count()} GPUs seen by PyTorch); use cpu"
        )
    return str(device)


class Training:
    """One training, and all that is needed to go on with it between any two of its steps.

    Args:
        values: complete settings.
        data: on the device.

    Attributes:
        history: the epochs so far, as they are reported.
    """

    def __init__(self, values: Mapping[str, Any], data: Dataset, device: str) -> None:
        self.values, self.data, self.device = values, data, device
        torch.manual_seed(values["seed"])
        self.network = build_network(values["filters"], values["dropout"]).to(device)
        self.optimiser = torch.optim.SGD(
            self.network.parameters(), lr=values["learning_rate"], momentum=values["momentum"]
        )
        self.history: list[dict[str, Any]] = []
        self._order = draw_order(0, 1, device)
        self._position = 0  # of the epoch's next step
        self._total = torch.zeros((), device=device)  # of its training losses
        self._start = time.perf_counter()

    @property
    def seconds(self) -> float:
        """Time spent on training and validation, in all attempts."""
        return time.perf_counter() - self._start

    def is_over(self) -> bool:
        """Are all epochs done, or has the last one passed the time limit?"""
        limit = self.values["time_limit"]
        overtime = limit is not None and bool(self.history) and self.history[-1]["seconds"] > limit
        return len(self.history) >= self.values["epochs"] or overtime

    def step(self) -> bool:
        """Train on the next minibatch, dropout on. False if the epoch has none left."""
        part = self.data.training
        if self._position == 0:
            self._order = draw_order(len(part), self.values["batch_size"], self.device)
            self.network.train()
        if self._position == len(self._order):
            return False
        index = self._order[self._position]
        loss = functional.cross_entropy(self.network(part.images[index]), part.labels[index])
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self.optimiser.step()
        self._total += loss.detach()
        self._position += 1
        return True

    def end_epoch(self) -> dict[str, Any]:
        """Validate. Returns what is to be reported."""
        validation_loss, accuracy = evaluate(self.network, self.data.validation)
        epoch = {
            "epoch": len(self.history) + 1,
            "seconds": round(self.seconds, 3),
            "training_loss": self._total.item() / len(self._order),
            "validation_loss": validation_loss,
            "validation_accuracy": accuracy,
        }
        self.history.append(epoch)
        self._position = 0
        self._total.zero_()
        return epoch

    def save(self) -> bytes:
        """A checkpoint: the network, the optimiser, the random generators, and the place in the epoch."""
        state = {
            "network": self.network.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "generator": torch.get_rng_state(),
            "device_generator": torch.cuda.get_rng_state(self.device) if self.device != "cpu" else None,
            "history": self.history,
            "seconds": self.seconds,
            "order": self._order,
            "position": self._position,
            "total": self._total,
        }
        buffer = BytesIO()
        torch.save(state, buffer)
        return buffer.getvalue()

    @classmethod
    def restore(cls, saved: bytes, values: Mapping[str, Any], data: Dataset, device: str) -> Training:
        """The training that saved this. Raises ValueError, or what torch raises, if it is no such checkpoint."""
        with zipfile.ZipFile(BytesIO(saved)) as archive:
            if sum(part.file_size for part in archive.infolist()) > len(saved):
                raise ValueError("not a checkpoint: it is compressed")  # to what size, only memory would tell
        state = torch.load(BytesIO(saved), map_location="cpu", weights_only=True)
        training = cls(values, data, device)
        training.network.load_state_dict(state["network"])
        training.optimiser.load_state_dict(state["optimiser"])
        training.history, order, position = list(state["history"]), state["order"], state["position"]
        examples, batch_size = len(data.training), values["batch_size"]
        if position and (order.shape != (examples // batch_size, batch_size) or not 0 <= position <= len(order)):
            raise ValueError("not a checkpoint of this training: its epoch has another size")
        if position and not 0 <= order.min() <= order.max() < examples:
            raise ValueError("not a checkpoint of this training: its examples are not ours")
        training._order, training._position = order.to(device), position
        training._total.copy_(state["total"])
        training.network.train()
        torch.set_rng_state(state["generator"])
        if device != "cpu" and state["device_generator"] is not None:
            torch.cuda.set_rng_state(state["device_generator"], device)
        training._start = time.perf_counter() - state["seconds"]
        return training


def train(settings: Mapping[str, Any], report: Report) -> dict[str, Any]:
    """Train one network and measure it.

    Args:
        settings: as in `training.settings`; what is missing takes its default.
        report: called after every epoch with epoch, seconds, training_loss, validation_loss, validation_accuracy.
            Seconds count from the start of training, validation included, set-up and data loading excluded. It also
            keeps checkpoints, and says on which device to train (see `choose_device`).

    Returns:
        validation_error (1 − best accuracy: the score), best_epoch, test_loss, test_accuracy, training_loss (of the
        last epoch), seconds, epochs_trained, parameters, diverged (loss not finite, or ended at chance level).

    Raises SettingsError and DataError. The same settings on the same machine and number of threads give the same
    bits, however often the training was interrupted and gone on with.
    """
    values = complete(settings)
    device = choose_device(report.device)
    data = load(values["data"], device)
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
    training = report.resume(lambda saved: Training.restore(saved, values, data, device))
    if training is None:
        training = Training(values, data, device)
    for epoch in training.history:
        report(**epoch)
    while not training.is_over():
        while training.step():
            if report.checkpoint_due:
                report.checkpoint(training.save())
        report(**training.end_epoch())

    last = training.history[-1]
    best = max(training.history, key=lambda epoch: epoch["validation_accuracy"])  # the first of equals
    test_loss, test_accuracy = evaluate(training.network, data.test)
    return {
        "validation_error": round(1 - best["validation_accuracy"], 6),
        "best_epoch": best["epoch"],
        "test_loss": test_loss,
        "test_accuracy": test_accuracy,
        "training_loss": last["training_loss"],
        "seconds": last["seconds"],
        "epochs_trained": last["epoch"],
        "parameters": count_parameters(training.network),
        "diverged": not math.isfinite(last["training_loss"]) or last["validation_accuracy"] < CHANCE,
    }
