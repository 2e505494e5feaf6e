"""The buffer between a connection and a disk: what it passes on, and when it pauses the connection."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from econed.errors import EC2Error
from econed.http.file_buffer import PIECE, FileBuffer

READ = PIECE // 4


class Connection:
    """A connection that sends into a buffer, each read with another content."""

    def __init__(self) -> None:
        self.is_paused = False
        self.buffer = FileBuffer(self)
        self.contents: Iterator[int] = iter(range(1, 256))

    def pause_reading(self) -> None:
        """Send no more."""
        self.is_paused = True

    def resume_reading(self) -> None:
        """Send again."""
        self.is_paused = False

    def send_until_paused(self, limit: int = 8) -> bytes:
        """Send up to `limit` reads, until it is paused, and return what was sent."""
        sent = b""
        while not self.is_paused and limit:
            data = bytes([next(self.contents)]) * READ
            self.buffer.put(data)
            self.buffer.throttle()
            sent += data
            limit -= 1
        return sent


def next_piece(buffer: FileBuffer) -> list[Any]:
    """Request the next piece and return a list that will have it."""
    results: list[Any] = []
    Deferred.fromCoroutine(buffer.next_piece()).addBoth(results.append)
    return results


def test_the_connection_is_paused_until_the_first_piece_is_requested() -> None:
    connection = Connection()
    assert len(connection.send_until_paused()) == READ
    assert next_piece(connection.buffer) == []
    assert not connection.is_paused


def test_the_next_piece_is_received_while_one_is_written_and_does_not_change_it() -> None:
    connection = Connection()
    first = next_piece(connection.buffer)
    sent = connection.send_until_paused(PIECE // READ)
    assert not connection.is_paused, "the writer has the first piece"
    second_sent = connection.send_until_paused()
    assert len(second_sent) == PIECE
    assert bytes(first[0]) == sent
    second = next_piece(connection.buffer)
    assert not connection.is_paused
    connection.send_until_paused(1)
    assert bytes(second[0]) == second_sent


def test_no_more_than_one_piece_is_received_while_another_is_written() -> None:
    connection = Connection()
    next_piece(connection.buffer)
    connection.send_until_paused(PIECE // READ)
    connection.send_until_paused(1000)
    assert connection.is_paused
    assert connection.buffer.size == PIECE


def test_the_last_piece_is_shorter_and_an_empty_one_follows() -> None:
    connection = Connection()
    last = next_piece(connection.buffer)
    sent = connection.send_until_paused(1)
    connection.buffer.end()
    assert bytes(last[0]) == sent
    assert bytes(next_piece(connection.buffer)[0]) == b""


def test_a_failed_file_has_no_more_pieces_and_its_bytes_are_dropped() -> None:
    connection = Connection()
    waiting = next_piece(connection.buffer)
    connection.send_until_paused(1)
    connection.buffer.fail(EC2Error("RequestTimeout", "too slow", 408))
    assert connection.buffer.size == 0
    with pytest.raises(EC2Error, match="too slow"):
        waiting[0].raiseException()
