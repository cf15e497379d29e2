"""A recording of training steps is used only if it does what they do. Stand-ins for CUDA graphs, on the CPU."""

from __future__ import annotations

import pytest

PLAIN = {
    "data": "small",
    "epochs": 1,
    "filters": 3,
    "batch_size": 200,
    "learning_rate": 0.1,
    "momentum": 0.5,
    "seed": 4,
}
FAILED = "training goes on without CUDA graphs, which are not to be trusted here: "


class Recorder:
    """Does what the steps do, and then what `harm` does, in recordings of so many steps."""

    def __init__(self, harm, steps):
        self.harm, self.steps, self.replays = harm, steps, 0

    def record(self, step, count):
        step()  # as the first run of each kernel does
        if self.harm == "it cannot record":
            raise RuntimeError("CUDA error: operation not permitted\nwhen stream is capturing")

        def replay():
            self.replays += 1
            skipped = self.harm == "a step is missing" and count == self.steps
            for _ in range(count - skipped):
                step()
            if callable(self.harm) and count == self.steps:
                self.harm()

        return replay


def train(recorder, precision):
    """One epoch. Returns what there is at its end, bit by bit."""
    import torch

    from training.cnn import Training, set_up_process
    from training.data import load
    from training.settings import complete

    set_up_process()
    training = Training(complete({**PLAIN, "precision": precision}), load("small", "cpu"), "cpu", recorder)
    if recorder:
        recorder.training = training
        recorder.replays = 0
    while training.advance():
        pass
    epoch = training.end_epoch()
    epoch.pop("seconds")
    network = training.network
    return epoch, network.weights.tolist(), network.rounded.tolist(), torch.get_rng_state().tolist()


@pytest.fixture(scope="module")
def plain():
    """What unrecorded trainings come to."""
    return {precision: train(None, precision) for precision in ("float32", "bfloat16")}


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_right_recording_is_used_and_changes_nothing(plain, precision, capsys):
    recorder = Recorder(None, 16)
    assert train(recorder, precision) == plain[precision]
    assert recorder.replays == 1 + 9 + 1  # 25 steps: one recording of 16, nine of one; then the validation
    assert capsys.readouterr().out == ""


HARMS = (
    "it cannot record",
    "a step is missing",
    "weights",
    "total",
    "row",
    "a number is lost",
    "it cannot be replayed",
)


@pytest.mark.parametrize("steps", [16, 1])
@pytest.mark.parametrize("what", HARMS)
def test_a_wrong_recording_is_not_used_and_leaves_nothing_behind(plain, what, steps, capsys, monkeypatch):
    import training.cnn as cnn

    states = []
    record_steps = cnn.record_steps
    monkeypatch.setattr(cnn, "record_steps", lambda *given: states.append(given[1]) or record_steps(*given))

    def harm():
        state = states[-1]
        if what == "weights":
            state["weights"][7] += 0.1
        elif what == "total":
            state["total"].mul_(1.05)
        elif what == "row":
            state["row"] += 1
        elif what == "a number is lost":
            state["velocities"][3] = float("nan")
        else:
            raise RuntimeError("CUDA out of memory")

    recorder = Recorder(what if what in HARMS[:2] else harm, steps)
    assert train(recorder, "float32") == plain["float32"]
    said = capsys.readouterr().out
    assert recorder.replays == 0 and said.startswith(FAILED) and said.count("\n") == 1
    expected = {"it cannot record": "RuntimeError: CUDA error: operation not permitted when stream is capturing"}
    expected |= {"it cannot be replayed": "RuntimeError: CUDA out of memory", "a number is lost": "velocities"}
    assert expected.get(what, what if what in ("weights", "total", "row") else "weights") in said


def test_a_wrong_recording_of_the_validation_is_not_used(plain, capsys, monkeypatch):
    import training.cnn as cnn

    states = []
    record_steps = cnn.record_steps
    monkeypatch.setattr(cnn, "record_steps", lambda *given: states.append(given[1]) or record_steps(*given))

    def harm():
        if "losses" in states[-1]:
            states[-1]["losses"].mul_(1.1)

    recorder = Recorder(harm, 1)
    assert train(recorder, "float32") == plain["float32"]
    assert recorder.replays == 1 + 9
    assert "difference in losses" in capsys.readouterr().out


def test_another_order_of_additions_is_no_difference(plain):
    """Recorded kernels may be others than unrecorded ones."""
    recorder = Recorder(None, 16)

    def round_otherwise():
        next(iter(recorder.state.values())).mul_(1 + 1e-7)

    import training.cnn as cnn

    with pytest.MonkeyPatch.context() as patch:
        record_steps = cnn.record_steps
        patch.setattr(cnn, "record_steps", lambda *given: setattr(recorder, "state", given[1]) or record_steps(*given))
        recorder.harm = round_otherwise
        epoch, *_ = train(recorder, "float32")
    assert recorder.replays == 1 + 9 + 1
    assert epoch["training_loss"] == pytest.approx(plain["float32"][0]["training_loss"], rel=1e-3)


def test_steps_that_diverge_are_recorded_all_the_same():
    """Where both have no number, they agree."""
    import torch

    from training.graphs import record_steps

    state = {"weights": torch.ones(3), "row": torch.zeros(1, dtype=torch.long)}

    def step():
        state["weights"].mul_(1e30)
        state["row"] += 1

    assert sorted(record_steps(step, state, 20, Recorder(None, 16))) == [1, 16]
    assert state["weights"].tolist() == [1, 1, 1] and state["row"].item() == 0
