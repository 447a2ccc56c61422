"""Everything that can go wrong, in six classes.

    MacvlanGlobalError
    ├── Invalid       the caller asked for something that can never work; the text says what would
    ├── NotFound      the thing named does not exist here
    ├── Conflict      somebody else has it
    ├── Exhausted     there is no more of it (a full pool)
    ├── Unavailable   it may work later (store away, engine away, parent down)
    └── Internal      a bug of ours, or a kernel that said something we do not understand

Each edge (plugin socket, admin socket, command line) maps these once. Texts are written for the operator who
reads them in `docker`'s output: they name the option, the value, and what would work. They never hold a secret or
the contents of a file.
"""

A_BUG = "an internal error of macvlan-global; its log says more"
"""The text for any exception that is none of these."""


class MacvlanGlobalError(Exception):
    """Base of every error that this package raises on purpose; any other exception is a bug."""


class Invalid(MacvlanGlobalError):
    """The request can never work as it stands."""


class NotFound(MacvlanGlobalError):
    """The thing named does not exist here."""


class Conflict(MacvlanGlobalError):
    """Somebody else holds what was asked for."""


class Exhausted(MacvlanGlobalError):
    """Nothing of the kind is left."""


class Unavailable(MacvlanGlobalError):
    """It cannot be done now, and may work later."""


class Internal(MacvlanGlobalError):
    """A bug, or an answer of the kernel or the store that we do not understand."""
