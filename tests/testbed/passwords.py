"""Password files in the forms that the real servers read, without a program of its own for it."""

import ctypes
import ctypes.util
from pathlib import Path

# The least that bcrypt takes; tests do not need a slow hash.
BCRYPT_ROUNDS = 4
SETTING_BYTES = 192


def bcrypt(password: str) -> str:
    """Hash with the system's crypt library; Python's own module for it leaves in 3.13."""
    library = ctypes.CDLL(ctypes.util.find_library("crypt") or "libcrypt.so.1")
    library.crypt_gensalt_rn.restype = ctypes.c_char_p
    library.crypt.restype = ctypes.c_char_p
    setting = ctypes.create_string_buffer(SETTING_BYTES)
    salt = library.crypt_gensalt_rn(b"$2y$", ctypes.c_ulong(BCRYPT_ROUNDS), None, 0, setting, SETTING_BYTES)
    if salt is None:
        raise RuntimeError("the system's crypt library knows no bcrypt")
    return str(library.crypt(password.encode(), salt).decode())


def write(path: Path, accounts: dict[str, str]) -> Path:
    """Write an htpasswd file that docker-registry and Squid both understand."""
    path.write_text("".join(f"{name}:{bcrypt(password)}\n" for name, password in accounts.items()))
    path.chmod(0o644)
    return path
