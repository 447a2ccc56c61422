"""The rights of this process, in errors about files."""

import errno
import os

_OF_THE_FILE = {
    errno.EPERM: "lsattr shows whether it is immutable (chattr -i FILE)",
    errno.EROFS: "findmnt -T FILE shows the mount; mount it writable",
    errno.EBUSY: "findmnt shows whether it is a mount of its own, as in a container; change it from outside",
}
"""Next steps of root, to whom only the file or its mount can be in the way."""


def refusal(error: OSError, *, user: int | None = None) -> str:
    """The reason why a file cannot be read or changed, and the next step: whoever is not root is told to be it. `user`
    is an effective user id, that of this process if it is left out."""
    reason = error.strerror or str(error)
    if (os.geteuid() if user is None else user) != 0:
        return f"{reason}; run it as root (sudo)"
    step = _OF_THE_FILE.get(error.errno or 0)
    return f"{reason}; {step}" if step else reason
