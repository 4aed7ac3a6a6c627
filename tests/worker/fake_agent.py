"""Replaces the agent process: passes its end of the holder's socket to the test, then runs until it is killed.

The test itself then speaks as the agent. Usage: fake_agent.py CONTROL_SOCKET --fd N
"""

import os
import socket
import sys


def main(control_path: str, descriptor: int) -> None:
    with socket.socket(socket.AF_UNIX) as control:
        control.connect(control_path)
        socket.send_fds(control, [str(os.getpid()).encode()], [descriptor])
        os.close(descriptor)
        control.recv(1)  # until the test closes the socket
        while control.recv(1):
            pass


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[sys.argv.index("--fd") + 1]))
