"""Stands in for the HTTP server of a worker: writes down what it gets, and obeys the holder.

Usage: fake_server.py FOLDER --supervised N. If the folder has a file `fault`, the server does not start, for the reason
in this file. With a file `slow` it does not announce itself. With a file `deaf` it ignores `LEAVE`. Each server adds
its pid to the file `pids`, and the bytes that it receives to the file `bytes`.
"""

import json
import os
import signal
import socket
import sys
from pathlib import Path


def main(folder: Path, descriptor: int) -> None:
    with socket.socket(fileno=descriptor) as channel:
        data, sockets, _, _ = socket.recv_fds(channel, 1, 16)
        ports = [socket.socket(fileno=each).getsockname()[1] for each in sockets]
        add(folder / "pids", f"{os.getpid()} ")
        if (folder / "slow").exists():
            signal.pause()
        fault = folder / "fault"
        said = {"fault": fault.read_text()} if fault.exists() else {"url": f"http://127.0.0.1:{ports[0]}"}
        channel.sendall(json.dumps(said).encode() + b"\n")
        if fault.exists():
            sys.exit(3)
        while data and (data != b"l" or (folder / "deaf").exists()):
            add(folder / "bytes", data.decode())
            data = channel.recv(1)
        add(folder / "bytes", f"{data.decode() or 'EOF'}.")


def add(file: Path, text: str) -> None:
    with file.open("a") as opened:
        opened.write(text)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[sys.argv.index("--supervised") + 1]))
