"""Records training steps as CUDA graphs, and believes a recording only after it has done what the steps do.

A graph that is replayed costs the host one call instead of hundreds. But what it does depends on PyTorch, the driver
and the GPU. So each recording is compared with the same steps unrecorded, from the same state. If it differs, or
recording fails, the training goes on unrecorded, from the state before: slower, and right.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol, cast

import torch
from torch import Tensor

GRAPH_STEPS = 16  # training steps in one graph
WARM_UP = 3  # steps before a recording
TOLERANCE = 0.01  # of how far the steps move: other kernels may add up in another order; wrong steps differ by far more

Step = Callable[[], None]
State = Mapping[str, Tensor]


class Recorder(Protocol):
    """Records steps. `CudaRecorder` is the only one, besides those of tests."""

    def record(self, step: Step, count: int) -> Step:
        """A function that does what so many calls of `step` do. The state afterwards does not matter."""


class CudaRecorder:
    """Records steps as CUDA graphs (PyTorch's documentation: CUDA semantics, CUDA graphs)."""

    def __init__(self, device: str) -> None:
        self._device = device
        self._pool = (
            torch.cuda.graph_pool_handle()
        )  # of all its graphs: they run one after another, and keep nothing there

    def record(self, step: Step, count: int) -> Step:
        """A graph of so many steps.

        Recorded steps run only when they are replayed. But each kernel must have run before, because it may then
        allocate memory or choose an algorithm.
        """
        with torch.cuda.device(self._device):
            outside = torch.cuda.current_stream()
            try:
                self._warm_up(step, min(count, WARM_UP))
                graph = torch.cuda.CUDAGraph()
                with torch.cuda.graph(graph, pool=self._pool):
                    repeat(step, count)
            finally:
                torch.cuda.set_stream(outside)  # a recording that fails may leave its own
        return cast(Step, graph.replay)

    def _warm_up(self, step: Step, count: int) -> None:
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            repeat(step, count)
        torch.cuda.current_stream().wait_stream(stream)


def record_steps(
    step: Step, state: State, steps: int, recorder: Recorder, say: Callable[[str], None] = print
) -> dict[int, Step]:
    """Functions that make several steps and a single one, by their number of steps. The state does not change.

    Args:
        state: the tensors that steps change; those with random numbers must be of one device.
        steps: the steps of an epoch.
        say: called with one line if the recording is not used.
    """
    before = Moment(state)
    try:
        recorded = {}
        for count in sorted({min(GRAPH_STEPS, steps), 1}, reverse=True):
            before.restore()
            replay = recorder.record(step, count)
            after = [before.then(lambda: repeat(step, count)), before.then(replay)]  # noqa: B023 (called at once)
            if differing := differences(before, *after):
                raise ArithmeticError(f"after {count} steps there is a difference in {', '.join(differing)}")
            recorded[count] = replay
        return recorded
    except Exception as error:  # of PyTorch, the driver or the GPU: they raise anything
        reason = " ".join(str(error).split())[:200]
        say(f"training goes on without CUDA graphs, which are not to be trusted here: {type(error).__name__}: {reason}")
        return {1: step}
    finally:
        before.restore()


def repeat(step: Step, count: int) -> None:
    """Make so many steps."""
    for _ in range(count):
        step()


class Moment:
    """The state of a training, and of the random generators, at one moment."""

    def __init__(self, state: State) -> None:
        self._state = state
        self.tensors = {name: tensor.clone() for name, tensor in state.items()}
        self._devices = [tensor.device for tensor in state.values() if tensor.device.type == "cuda"][:1]
        self._generators = [torch.get_rng_state(), *map(torch.cuda.get_rng_state, self._devices)]

    def restore(self) -> None:
        """Go back to it."""
        for name, tensor in self._state.items():
            tensor.copy_(self.tensors[name])
        torch.set_rng_state(self._generators[0])
        for generator, device in zip(self._generators[1:], self._devices, strict=True):
            torch.cuda.set_rng_state(generator, device)

    def then(self, act: Step) -> Moment:
        """The moment that follows when this is done from here."""
        self.restore()
        act()
        return Moment(self._state)


def differences(before: Moment, expected: Moment, found: Moment) -> list[str]:
    """The names of the tensors that are not as expected, by more than the tolerance."""
    return [
        name
        for name, tensor in found.tensors.items()
        if not _agree(before.tensors[name], expected.tensors[name], tensor)
    ]


def _agree(before: Tensor, expected: Tensor, found: Tensor) -> bool:
    if not expected.is_floating_point():
        return bool(torch.equal(expected, found))
    if not torch.equal(expected.isfinite(), found.isfinite()):
        return False
    before, expected, found = (tensor.float().nan_to_num(0.0, 0.0, 0.0) for tensor in (before, expected, found))
    return bool((found - expected).norm() <= TOLERANCE * (expected - before).norm())
