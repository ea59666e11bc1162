"""What can be wrong with a command, in words for the person who typed it."""


class BadCommand(Exception):
    """It is none that Towline runs: an unknown verb, a refused flag, an argument too many.

    Never holds the value of an argument that may be a secret.
    """
