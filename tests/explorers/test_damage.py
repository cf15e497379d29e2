"""Folders that hold anything: some of those that `python -m tests.explorers.damage` makes by the thousand."""

from __future__ import annotations

import pytest

from tests.explorers import damage

SEEDS = [("fresh", 1), ("running", 2), ("complete", 3), ("kept", 4), ("live", 5)]


@pytest.fixture(scope="module")
def templates():
    """The undamaged folders."""
    yield damage.templates()
    damage.close()


@pytest.mark.parametrize(("stage", "seed"), SEEDS)
def test_a_folder_that_holds_anything(templates, stage, seed):
    print(damage.explore(seed, stage))
