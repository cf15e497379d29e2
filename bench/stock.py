"""The exercise's training as most people would write it: torchvision's transforms, a DataLoader, PyTorch's defaults.

`bench/training.py` compares ours with it. Both compute the same: network, distribution of initial weights, SGD,
dropout, data, and evaluation after every epoch.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader, Subset
from torchvision import datasets, transforms

from training.data import PARTS, directory


class Net(nn.Module):  # type: ignore[misc]
    """Maps images (n, 1, 28, 28) to logits (n, 10)."""

    def __init__(self, filters: int, dropout: float) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, filters, 5)
        self.conv2 = nn.Conv2d(filters, filters, 5)
        self.pool = nn.MaxPool2d(2)
        self.dropout = nn.Dropout(dropout)
        self.fc1 = nn.Linear(16 * filters, 256)
        self.fc2 = nn.Linear(256, 10)
        for layer in (self.conv1, self.conv2, self.fc1, self.fc2):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.pool(torch.relu(self.conv1(x)))
        x = self.pool(torch.relu(self.conv2(x)))
        x = self.dropout(torch.flatten(x, 1))
        x = self.dropout(torch.relu(self.fc1(x)))
        return self.fc2(x)


def train(
    settings: Mapping[str, Any], begin: Callable[[], None], after_epoch: Callable[[float, float, float], bool]
) -> None:
    """Train with complete settings.

    Args:
        begin: called when everything is prepared.
        after_epoch: called with the training seconds of an epoch, its validation accuracy and loss; True ends it all.
    """
    torch.manual_seed(settings["seed"])
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    images = datasets.MNIST(str(directory()), train=True, transform=transforms.ToTensor())
    training, validation, _ = PARTS[settings["data"]]
    training_loader = DataLoader(
        Subset(images, range(*training)), batch_size=settings["batch_size"], shuffle=True, drop_last=True
    )
    validation_loader = DataLoader(Subset(images, range(*validation)), batch_size=1000)
    model = Net(settings["filters"], settings["dropout"]).to(device)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=settings["learning_rate"], momentum=settings["momentum"])
    begin()
    enough = False
    while not enough:
        start = time.perf_counter()
        model.train()
        total = 0.0
        for x, y in training_loader:
            x, y = x.to(device), y.to(device)
            optimizer.zero_grad()
            loss = criterion(model(x), y)
            loss.backward()
            optimizer.step()
            total += loss.item()
        seconds = time.perf_counter() - start
        model.eval()
        correct, losses = 0, 0.0
        with torch.no_grad():
            for x, y in validation_loader:
                x, y = x.to(device), y.to(device)
                outputs = model(x)
                correct += int((outputs.argmax(1) == y).sum())
                losses += criterion(outputs, y).item() * len(y)
        images = len(validation_loader.dataset)
        enough = after_epoch(seconds, correct / images, losses / images)
