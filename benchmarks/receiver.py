"""`python -m benchmarks.receiver FILE`: writes what it receives to a file, as fast as a program can, to compare with.

It ends with its first connection.
"""

from __future__ import annotations

import socket
import sys
from pathlib import Path

_READ = 1 << 18


def main(path: Path) -> None:
    """Print the port, receive one connection, and close it when everything is written."""
    with socket.create_server(("127.0.0.1", 0)) as server, path.open("wb", buffering=0) as file:
        print(f"listening on {server.getsockname()[1]}.", flush=True)
        connection, _ = server.accept()
        received = memoryview(bytearray(_READ))
        with connection:
            while count := connection.recv_into(received):
                file.write(received[:count])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
