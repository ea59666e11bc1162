"""What the rules of this package can refuse.

ComposeError
├── NameRefused       a name outside its grammar
├── DocumentRefused   a file that is not the YAML we accept, with line and column
├── BundleRefused     a file listing or archive that may not be written to a host
├── ReferenceRefused  an image reference outside its grammar
└── EnvironmentRefused  an env file that Compose could not read, with its line
"""


class ComposeError(Exception):
    """Anything this package refuses. The text is written for the person who sent the input."""


class NameRefused(ComposeError):
    """A name is outside its grammar."""


class ReferenceRefused(ComposeError):
    """An image reference is outside its grammar."""


class BundleRefused(ComposeError):
    """A bundle holds something that may not reach a host.

    Attributes: path: the offending entry as it was named, escaped and cut for display; empty for the whole bundle.
    """

    def __init__(self, message: str, path: str = "") -> None:
        super().__init__(f"{path}: {message}" if path else message)
        self.path = path
        self.message = message


class EnvironmentRefused(ComposeError):
    """An env file cannot be read. Values never appear in the text."""

    def __init__(self, message: str, line: int) -> None:
        super().__init__(f"env file, line {line}: {message}")
        self.line = line
        self.message = message


class DocumentRefused(ComposeError):
    """A Compose file is not YAML that we accept.

    Attributes: line, column: from 1; 0 when the whole file is meant. fix: what to do about it.
    """

    def __init__(self, message: str, *, line: int = 0, column: int = 0, fix: str = "") -> None:
        where = f"line {line}, column {column}: " if line else ""
        super().__init__(f"{where}{message}" + (f" ({fix})" if fix else ""))
        self.message = message
        self.line = line
        self.column = column
        self.fix = fix
