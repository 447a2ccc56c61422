"""Starts a command as systemd does with a socket unit: python activate.py SOCKET COMMAND...

The command finds a listening socket as file descriptor 3, and is told so by its environment (sd_listen_fds(3)).
"""

import os
import socket
import sys


def main() -> None:
    """Listen, and become the command."""
    path, *command = sys.argv[1:]
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(path)
    listener.listen()
    os.dup2(listener.fileno(), 3)
    os.set_inheritable(3, True)  # also where it was 3 all along
    # of this very process: exec keeps the id
    os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1"}
    os.execvp(command[0], command)  # noqa: S606  # becoming the command is the point


if __name__ == "__main__":
    main()
