"""The line between a worker and its trainer: messages of any size, in any pieces."""

from __future__ import annotations

import os
import socket
import threading

import pytest

from foldertune.trainer.channel import Channel
from foldertune.trainer.main import Training


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
    training = Training(trainer)
    order = training.wait_for("train")
    last_word = training.train(lambda settings, report: report(epoch=1), order["train"], 0, "cpu")
    assert last_word == {"stopped": True}
    worker.receive()
    assert worker.take() is None, "it was stopped before it began"


def test_a_training_that_saves_its_state_stops_after_the_next_checkpoint(line):
    worker, trainer = line
    training = Training(trainer)

    def train(settings, report):
        assert not report.checkpoint_due
        worker.send({"stop": "save"})
        report(epoch=1)
        assert report.checkpoint_due
        report.checkpoint(b"state")
        raise AssertionError("it goes on")

    assert training.train(train, {}, 0, "cpu") == {"stopped": True}
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
