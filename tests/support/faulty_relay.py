"""A TCP relay between econed and oned that can fail in several ways."""

from __future__ import annotations

import contextlib
import socket
import threading
from enum import Enum, auto
from urllib.parse import urlsplit

_PIECE = 65536


class Mode(Enum):
    """What the relay does with connections."""

    PASS = auto()
    DOWN = auto()
    SILENT = auto()
    CUT = auto()
    NONSENSE = auto()
    ERROR_PAGE = auto()
    HELD = auto()
    """Connections wait until the mode changes, and are then relayed."""


_RESPONSES = {
    Mode.NONSENSE: b"HTTP/1.1 200 OK\r\nContent-Length: 19\r\nContent-Type: text/xml\r\n\r\n<html>hello</html>\n",
    Mode.ERROR_PAGE: b"HTTP/1.1 500 Oops\r\nContent-Length: 4\r\n\r\nOops",
    Mode.CUT: b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n<?xml version=",
}


class FaultyRelay:
    """A relay to the oned at `url`; `self.url` is where the relay listens."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._target = (str(parts.hostname), int(parts.port or 80))
        self._path = parts.path
        self._mode = Mode.PASS
        self._mode_changed = threading.Event()
        self.held = 0
        """How many connections have waited in the mode HELD."""
        self._listening: socket.socket | None = None
        self._open: set[socket.socket] = set()
        self._port = 0
        self._listen()
        self.url = f"http://127.0.0.1:{self._port}{self._path}"

    def set_mode(self, mode: Mode) -> None:
        """Change the mode, also for connections that are open."""
        self._mode = mode
        if mode is Mode.HELD:
            self._mode_changed.clear()
        else:
            self._mode_changed.set()
        if mode is Mode.DOWN:
            self._stop_listening()
            for connection in list(self._open):
                _close(connection)
        elif self._listening is None:
            self._listen()

    def close(self) -> None:
        """Stop listening and close all connections."""
        self.set_mode(Mode.DOWN)

    def _listen(self) -> None:
        listening = socket.socket()
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(("127.0.0.1", self._port))
        listening.listen(128)
        self._port = listening.getsockname()[1]
        self._listening = listening
        threading.Thread(target=self._accept, args=(listening,), daemon=True).start()

    def _stop_listening(self) -> None:
        if self._listening is not None:
            listening, self._listening = self._listening, None
            with contextlib.suppress(OSError):
                listening.shutdown(socket.SHUT_RDWR)  # wakes the thread that waits in accept
            listening.close()

    def _accept(self, listening: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = listening.accept()
                self._open.add(client)
                threading.Thread(target=self._serve, args=(client, self._mode), daemon=True).start()

    def _serve(self, client: socket.socket, mode: Mode) -> None:
        with contextlib.suppress(OSError):
            if mode is Mode.HELD:
                self.held += 1
                self._mode_changed.wait()
            if mode in (Mode.PASS, Mode.HELD):
                self._relay(client)
            else:
                client.recv(_PIECE)
                response = _RESPONSES.get(mode)
                if response is not None:
                    client.sendall(response)
                else:
                    while client.recv(_PIECE):
                        pass
        _close(client)
        self._open.discard(client)

    def _relay(self, client: socket.socket) -> None:
        with socket.create_connection(self._target) as server:
            threading.Thread(target=_copy, args=(client, server), daemon=True).start()
            _copy(server, client)


def _copy(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while piece := source.recv(_PIECE):
            target.sendall(piece)


def _close(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()
