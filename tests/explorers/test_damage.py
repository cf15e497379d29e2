"""Folders that hold anything: some of those that `python -m tests.explorers.damage` makes by the thousand."""

from __future__ import annotations

import pytest

from tests.explorers import damage

SEEDS = [  # each has found a fault; a seed without a stage chooses its own
    ("fresh", 9), ("running", 21), ("complete", 5), ("kept", 0), ("kept", 4), ("live", 9), ("live", 11), (None, 30089),
]  # fmt: skip


@pytest.fixture(scope="module")
def templates():
    """The undamaged folders."""
    yield damage.templates()
    damage.close()


@pytest.mark.parametrize(("stage", "seed"), SEEDS)
def test_a_folder_that_holds_anything(templates, stage, seed):
    print(damage.explore(seed, stage))
