"""Trainings in the tests' own process use one thread, like the workers."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="package", autouse=True)
def one_thread():
    """Another number of threads adds up in another order. Several processes of several threads each wait for one another."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
