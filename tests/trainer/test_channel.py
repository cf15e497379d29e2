"""The line between a worker and its trainer: messages of any size, in any pieces."""

from __future__ import annotations

import os
import socket
import threading

import pytest

from foldertune.trainer.channel import Channel
from foldertune.trainer.main import Line, Training
from foldertune.trainer.report import Stopped


@pytest.fixture
def line():
    """Both ends: the worker's, which does not block, and the trainer's."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with ours, theirs:
        yield Channel(ours.fileno()), Channel(theirs.fileno())


def test_a_large_checkpoint_arrives_whole_in_both_directions(line):
    """Neither direction fits into the socket's buffer, so both ends take several turns."""
    worker, trainer = line
    data = os.urandom(5 * 2**20)
    sender = threading.Thread(target=lambda: trainer.send({"checkpoint": True}, data))
    sender.start()
    while (message := worker.take()) is None:
        assert worker.receive()
    sender.join()
    assert message == {"checkpoint": True} and worker.data == data

    worker.send({"checkpoint": "a path"}, data)
    assert worker.has_unsent
    arrived = []

    def receive():
        while not (message := trainer.take()):
            trainer.receive()
        arrived.append(message)

    receiver = threading.Thread(target=receive)
    receiver.start()
    while worker.has_unsent:
        worker.send()
    receiver.join()
    assert arrived == [{"checkpoint": "a path"}] and trainer.data == data


def test_an_order_to_stop_that_comes_with_the_order_to_train_is_obeyed(line):
    worker, trainer = line
    worker.send({"train": {"x": 1}, "checkpoint_every": 0})
    worker.send({"stop": "now"})
    end = Line(trainer)
    order = end.wait_for("train")
    last_word = Training(end, 0).train(lambda settings, report: report(epoch=1), order["train"], "cpu")
    assert last_word == {"stopped": True}
    worker.receive()
    assert worker.take() is None, "it was stopped before it began"


def test_a_training_that_saves_its_state_stops_after_the_next_checkpoint(line):
    worker, trainer = line
    training = Training(Line(trainer), 0)

    def train(settings, report):
        assert not report.checkpoint_due
        worker.send({"stop": "save"})
        report(epoch=1)
        assert report.checkpoint_due
        report.checkpoint(b"state")
        raise AssertionError("it goes on")

    assert training.train(train, {}, "cpu") == {"stopped": True}
    worker.receive()
    assert [worker.take() for _ in range(3)] == [{"saves_state": True}, {"report": {"epoch": 1}}, {"checkpoint": True}]
    assert worker.data == b"state"


def test_nonsense_is_no_message(line):
    worker, trainer = line
    os.write(trainer.fileno(), b'{"half": ')
    assert worker.receive() and worker.take() is None
    os.write(trainer.fileno(), b"nonsense}\n[1]\n")
    assert worker.receive()
    with pytest.raises(ValueError, match="Expecting value"):
        worker.take()


def test_the_end_of_the_other_side_is_noticed():
    ours, theirs = socket.socketpair()
    theirs.close()
    with ours:
        assert not Channel(ours.fileno()).receive()


def test_what_a_training_leaves_behind_does_not_speak_for_the_next_one(line):
    """A kept report, or one in a thread, gets Stopped; it takes no order away."""
    worker, trainer = line
    end, kept = Line(trainer), []
    worker.send({"train": {}, "checkpoint_every": 0})
    assert Training(end, 0).train(lambda settings, report: kept.append(report) or {"loss": 1}, {}, "cpu")
    for speak in (lambda: kept[0](epoch=7), lambda: kept[0].checkpoint(b"mine"), lambda: kept[0].checkpoint_due):
        with pytest.raises(Stopped):
            speak()
    assert end.wait_for("train") == {"train": {}, "checkpoint_every": 0}
    assert worker.take() is None


def test_reports_of_many_threads_arrive_whole(line):
    worker, trainer = line

    def train(settings, report):
        threads = [
            threading.Thread(target=lambda k=k: [report(epoch=k * 200 + n, note="x" * 200) for n in range(200)])
            for k in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return {"loss": 1}

    told = []
    end = Line(trainer)
    training = threading.Thread(target=lambda: told.append(Training(end, 0).train(train, {}, "cpu")))
    training.start()
    epochs = []
    while len(epochs) < 1600:
        while (message := worker.take()) is None:
            worker.receive()
        epochs.append(message["report"]["epoch"])
    training.join()
    assert sorted(epochs) == list(range(1600)) and told == [{"result": {"loss": 1}}]


def test_a_checkpoint_that_is_not_bytes_is_an_error_of_the_training(line):
    worker, trainer = line
    told = Training(Line(trainer), 0).train(lambda settings, report: report.checkpoint("text" * 999), {}, "cpu")
    assert told["error"].startswith("TypeError") and not Channel(trainer.fileno()).has_unsent
    Line(trainer).send({"say": "still in order"})
    worker.receive()
    assert worker.take() == {"say": "still in order"}
