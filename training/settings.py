"""The settings of one training: names, meanings, defaults and limits. Imports no torch, so that `--help` is quick."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from foldertune.errors import UserError, did_you_mean


class SettingsError(UserError, ValueError):
    """A setting has a value with which no training is possible. The message names it and says what to do."""


@dataclass(frozen=True)
class Setting:
    """One setting: its default, its type, the values it may take, and a line for `--help`."""

    default: Any
    kind: type
    help: str
    low: float = -math.inf
    high: float = math.inf
    choices: tuple[str, ...] = ()


SETTINGS: dict[str, Setting] = {
    "learning_rate": Setting(0.1, float, "step size of SGD", low=0),
    "momentum": Setting(0.0, float, "classical momentum, 0 for plain SGD", low=0, high=1),
    "batch_size": Setting(64, int, "examples per step", low=1, high=50_000),
    "filters": Setting(32, int, "output channels of each of the two convolutions", low=1, high=4096),
    "dropout": Setting(0.5, float, "share of inputs dropped before each fully connected layer", low=0, high=0.99),
    "data": Setting(
        "small", str, "small: 5,000 / 1,000 / 1,000 images; full: 50,000 / 10,000 / 10,000", choices=("small", "full")
    ),
    "epochs": Setting(10, int, "passes over the training examples", low=1),
    "time_limit": Setting(None, float, "seconds; training ends with the epoch in which they run out", low=0),
    "precision": Setting(
        "auto",
        str,
        "for arithmetic; auto: bfloat16 if CPU or GPU has instructions for it, otherwise float32; weights are float32",
        choices=("auto", "float32", "bfloat16"),
    ),
    "seed": Setting(0, int, "for initial weights, shuffling and dropout", low=0, high=2**63 - 1),
}
TRAINING_EXAMPLES = {"small": 5_000, "full": 50_000}


def complete(settings: Mapping[str, Any]) -> dict[str, Any]:
    """All settings, checked; missing ones get their defaults. Raises SettingsError."""
    for name in settings:
        if name not in SETTINGS:
            hint = did_you_mean(name, SETTINGS)
            raise SettingsError(f"unknown setting '{name}'{hint}; exercise3 knows: {', '.join(SETTINGS)}")
    values = {name: _check(name, settings.get(name, setting.default)) for name, setting in SETTINGS.items()}
    if values["batch_size"] > TRAINING_EXAMPLES[values["data"]]:
        raise SettingsError(
            f"batch_size: {values['batch_size']} is more than the {TRAINING_EXAMPLES[values['data']]:,} training "
            f'examples of data "{values["data"]}"; choose a smaller one'
        )
    return values


def _check(name: str, value: Any) -> Any:
    setting = SETTINGS[name]
    if value is None and setting.default is None:
        return None
    if setting.choices:
        if value not in setting.choices:
            options = " or ".join(f'"{choice}"' for choice in setting.choices)
            raise SettingsError(f"{name}: must be {options}, not {value!r}")
        return value
    wanted = "a whole number" if setting.kind is int else "a number"
    if isinstance(value, bool) or not isinstance(value, int | float) or not isinstance(value, setting.kind | int):
        raise SettingsError(f"{name}: must be {wanted}, not {value!r}")
    if not setting.low <= value <= setting.high or not math.isfinite(value):
        limits = f"at least {setting.low:g}" + (f" and at most {setting.high:g}" if setting.high < math.inf else "")
        raise SettingsError(f"{name}: must be {limits}, not {value}")
    return setting.kind(value)
