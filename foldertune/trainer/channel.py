"""The line between a worker and its trainer: each message is one line of JSON, which bytes may follow.

The worker says                                     The trainer says
    {"train": settings, "checkpoint_every": 300,        {"ready": true}, or {"unable": reason} if it can't train at all
     "save_from": the last epoch, or null}              {"report": {"epoch": 1, …}}
    {"checkpoint": path or null} + bytes                {"resumed": path}: goes on from that checkpoint
    {"stop": "save" or "now"}                           {"resume": true}: asks for the next older checkpoint
    {"leave": true}                                     {"saves_state": true}: stop me with "save"
                                                        {"checkpoint": true} + bytes
                                                        {"say": text}
                                                        {"result": metrics}, {"error": …} or {"stopped": true}
"""

from __future__ import annotations

import json
import os
import select
from collections import deque
from typing import Any

Message = dict[str, Any]

CHUNK = 2**16  # bytes that one call reads


class Channel:
    """One end of the line. The trainer's descriptor blocks, the worker's does not.

    Attributes:
        data: the bytes that followed the message taken last.
    """

    def __init__(self, descriptor: int) -> None:
        self.data = b""
        self._descriptor = descriptor
        self._received = bytearray()
        self._unsent: deque[memoryview] = deque()

    def fileno(self) -> int:
        """The descriptor, for `select`."""
        return self._descriptor

    @property
    def has_unsent(self) -> bool:
        """Is there something that `send` could not send yet?"""
        return bool(self._unsent)

    def send(self, message: Message | None = None, data: bytes = b"") -> None:
        """Send a message, and what is left of earlier ones: as much as the other end can take now.

        Raises OSError if there is no other end.
        """
        if message is not None:
            view = memoryview(data).cast("B")  # raises TypeError before anything is sent
            if view:
                message = {**message, "bytes": len(view)}
            self._unsent.append(memoryview(json.dumps(message).encode() + b"\n"))
            if view:
                self._unsent.append(view)
        while self._unsent:
            try:
                sent = os.write(self._descriptor, self._unsent[0])
            except BlockingIOError:
                return
            if sent == len(self._unsent[0]):
                self._unsent.popleft()
            else:
                self._unsent[0] = self._unsent[0][sent:]

    def receive(self) -> bool:
        """Read what has come; wait for it if the descriptor blocks. False if there is no other end."""
        try:
            data = os.read(self._descriptor, CHUNK)
        except BlockingIOError:
            return True
        except OSError:
            return False
        self._received += data
        return bool(data)

    def take(self) -> Message | None:
        """The next message, if it has come whole. Raises ValueError if it is not a message."""
        head = self._received.find(b"\n") + 1
        if not head:
            return None
        try:
            message = json.loads(self._received[:head].decode())  # of bytes, it would guess the encoding first
        except RecursionError:
            raise ValueError("a message is not nested deeply") from None
        if not isinstance(message, dict):
            raise ValueError("a message is a JSON object")
        size = message.pop("bytes", 0)
        if not isinstance(size, int) or size < 0:
            raise ValueError("the bytes after a message are counted")
        end = head + size
        if len(self._received) < end:
            return None
        self.data = bytes(self._received[head:end])
        del self._received[:end]
        return message

    def next_begins_with(self, *beginnings: bytes) -> bool:
        """Is the next message there, whole, with one of these beginnings?"""
        return self._received.startswith(beginnings) and b"\n" in self._received

    def receive_what_is_there(self) -> bool:
        """Read what has come, and don't wait. False if nothing has."""
        return bool(select.select([self._descriptor], [], [], 0)[0]) and self.receive()
