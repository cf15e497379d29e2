"""The network of the exercise and its training loop: from settings to a learning curve.

Two 5×5 convolutions with ReLU and 2×2 max pooling, two fully connected layers behind dropout, cross-entropy, SGD with
classical momentum. The data set is one tensor in memory; a batch is an index into it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.data import Part, load
from training.settings import SettingsError, complete

CLASSES = 10
HIDDEN = 256
EVALUATION_BATCH = 1000
CHANCE = 0.15  # an accuracy below this is chance: always answering the most frequent digit is right for 11 %

Report = Callable[..., None]


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


def batches(examples: int, batch_size: int, device: str) -> Iterator[Tensor]:
    """Indices (batch_size,) of one epoch's minibatches, in a new random order; an incomplete last one is dropped."""
    order = torch.randperm(examples, device=device)
    for start in range(0, examples - batch_size + 1, batch_size):
        yield order[start : start + batch_size]


def train_epoch(network: nn.Module, optimiser: torch.optim.Optimizer, part: Part, batch_size: int) -> float:
    """One pass over the examples. Returns the mean training loss, dropout on."""
    network.train()
    total = torch.zeros((), device=part.images.device)
    steps = 0
    for index in batches(len(part), batch_size, str(part.images.device)):
        loss = functional.cross_entropy(network(part.images[index]), part.labels[index])
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        total += loss.detach()
        steps += 1
    return float(total.item()) / steps


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


def train(settings: Mapping[str, Any], report: Report, device: str = "auto") -> dict[str, Any]:
    """Train one network and measure it.

    Args:
        settings: as in `training.settings`; what is missing takes its default.
        report: called after every epoch with epoch, seconds, training_loss, validation_loss, validation_accuracy.
            Seconds count from the start of training, validation included, set-up and data loading excluded.
        device: see `choose_device`.

    Returns:
        validation_error (1 − best accuracy: the score), best_epoch, test_loss, test_accuracy, training_loss (of the
        last epoch), seconds, epochs_trained, parameters, diverged (loss not finite, or ended at chance level).

    Raises SettingsError and DataError. The same settings on the same machine and number of threads give the same bits.
    """
    values = complete(settings)
    device = choose_device(device)
    data = load(values["data"], device)
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
    torch.manual_seed(values["seed"])
    network = build_network(values["filters"], values["dropout"]).to(device)
    optimiser = torch.optim.SGD(network.parameters(), lr=values["learning_rate"], momentum=values["momentum"])

    best_accuracy, best_epoch = -1.0, 0
    start = time.perf_counter()
    for epoch in range(1, values["epochs"] + 1):
        training_loss = train_epoch(network, optimiser, data.training, values["batch_size"])
        validation_loss, accuracy = evaluate(network, data.validation)
        seconds = time.perf_counter() - start
        if accuracy > best_accuracy:
            best_accuracy, best_epoch = accuracy, epoch
        report(
            epoch=epoch,
            seconds=round(seconds, 3),
            training_loss=training_loss,
            validation_loss=validation_loss,
            validation_accuracy=accuracy,
        )
        if values["time_limit"] is not None and seconds > values["time_limit"]:
            break
    test_loss, test_accuracy = evaluate(network, data.test)
    return {
        "validation_error": round(1 - best_accuracy, 6),
        "best_epoch": best_epoch,
        "test_loss": test_loss,
        "test_accuracy": test_accuracy,
        "training_loss": training_loss,
        "seconds": round(seconds, 3),
        "epochs_trained": epoch,
        "parameters": count_parameters(network),
        "diverged": not math.isfinite(training_loss) or accuracy < CHANCE,
    }
