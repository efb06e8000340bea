"""Becomes the Valkey server, once this process holds the home's lock. Run as a file; standard library only.

The lock is a file lock on a descriptor that the server inherits: it is free again the moment the server is gone,
however it went, and never before.
"""

import ctypes
import fcntl
import os
import signal
import sys

#: Exit code: another server of this home holds the lock.
SERVED_BY_ANOTHER = 75
_PR_SET_PDEATHSIG = 1


def main(lock: str, parent: str, *command: str) -> int:
    """Args: the lock file, the process that must be alive ("0": none), the server and its arguments."""
    handle = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        sys.stderr.write("another Valkey serves this home\n")
        return SERVED_BY_ANOTHER
    os.ftruncate(handle, 0)
    os.write(handle, f"{os.getpid()}\n".encode())
    if parent != "0" and sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != int(parent):  # it died before we asked
            return 1
    os.set_inheritable(handle, True)
    os.execv(command[0], command)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
