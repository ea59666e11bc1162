"""The encrypted file of a backup: a head in the clear, then chunks sealed under a key made from a passphrase.

Each chunk is bound to its number, and the last one says that it is the last, so that a file that was cut, reordered or
mixed from two does not open.
Source: RFC 7914 (scrypt); Hoang et al. 2015, "Online Authenticated-Encryption and its Nonce-Reuse Misuse-Resistance",
the STREAM construction.
"""

from __future__ import annotations

import json
import os
import struct
from base64 import b64decode, b64encode
from typing import BinaryIO

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

MAGIC = b"TOWLINE-BACKUP-1\n"
CHUNK_BYTES = 1024 * 1024
SCRYPT_N = 2**16
SCRYPT_R = 8
SCRYPT_P = 1
"""64 MiB and some 0.2 s for each guess."""
SHORTEST_PASSPHRASE = 12
HEAD_BYTES = 4096
_COUNTER = struct.Struct(">7xIB")
"""A nonce: 7 zero bytes (the key is used once), the chunk's number, and whether it is the last."""
_LENGTH = struct.Struct(">I")
TAG_BYTES = 16


class BadBackup(Exception):
    """The file is no backup, is damaged, or the passphrase is another one."""


class SealedWriter:
    """A binary file that encrypts what is written. `close` writes the last chunk; without it nothing opens."""

    def __init__(self, out: BinaryIO, passphrase: str) -> None:
        if len(passphrase) < SHORTEST_PASSPHRASE:
            raise BadBackup(f"the passphrase is shorter than {SHORTEST_PASSPHRASE} characters")
        salt = os.urandom(16)
        head = {"kdf": "scrypt", "n": SCRYPT_N, "r": SCRYPT_R, "p": SCRYPT_P, "salt": b64encode(salt).decode()}
        self._head = json.dumps(head).encode() + b"\n"
        self._cipher = AESGCM(_key(passphrase, salt, SCRYPT_N, SCRYPT_R, SCRYPT_P))
        self._out = out
        self._buffer = bytearray()
        self._number = 0
        out.write(MAGIC + self._head)

    def write(self, data: bytes) -> int:
        """Take bytes of any length."""
        self._buffer += data
        while len(self._buffer) > CHUNK_BYTES:
            self._seal(bytes(self._buffer[:CHUNK_BYTES]), last=False)
            del self._buffer[:CHUNK_BYTES]
        return len(data)

    def flush(self) -> None:
        """For callers that treat this as a file; chunks go out when they are full."""

    def close(self) -> None:
        """Write the last chunk."""
        self._seal(bytes(self._buffer), last=True)

    def _seal(self, text: bytes, *, last: bool) -> None:
        sealed = self._cipher.encrypt(_COUNTER.pack(self._number, last), text, self._head)
        self._out.write(_LENGTH.pack(len(sealed)) + sealed)
        self._number += 1


class SealedReader:
    """A binary file that decrypts what is read. Raises BadBackup as soon as a chunk does not open."""

    def __init__(self, source: BinaryIO, passphrase: str) -> None:
        if source.read(len(MAGIC)) != MAGIC:
            raise BadBackup("this is no backup of Towline, or one of a newer release")
        self._head = source.readline(HEAD_BYTES)
        self._source = source
        self._cipher = AESGCM(_key_of(self._head, passphrase))
        self._buffer = bytearray()
        self._number = 0
        self._ended = False

    def read(self, size: int = -1) -> bytes:
        """Return up to `size` bytes; fewer only at the end."""
        while not self._ended and (size < 0 or len(self._buffer) < size):
            self._open()
        taken = bytes(self._buffer if size < 0 else self._buffer[:size])
        del self._buffer[: len(taken)]
        return taken

    def _open(self) -> None:
        length = self._source.read(_LENGTH.size)
        if len(length) < _LENGTH.size:
            raise BadBackup("the backup is cut short")
        (size,) = _LENGTH.unpack(length)
        if size > CHUNK_BYTES + TAG_BYTES:
            raise BadBackup("the backup is damaged")
        sealed = self._source.read(size)
        if len(sealed) < size:
            raise BadBackup("the backup is cut short")
        last = 0 if len(sealed) == CHUNK_BYTES + TAG_BYTES else 1
        for ending in (last, 1 - last):
            try:
                self._buffer += self._cipher.decrypt(_COUNTER.pack(self._number, ending), sealed, self._head)
            except InvalidTag:
                continue
            self._ended = bool(ending)
            self._number += 1
            return
        what = (
            "the passphrase is another one, or the backup is damaged" if self._number == 0 else "the backup is damaged"
        )
        raise BadBackup(what)


def _key_of(head: bytes, passphrase: str) -> bytes:
    try:
        fields = json.loads(head)
        salt, cost = b64decode(fields["salt"]), (int(fields["n"]), int(fields["r"]), int(fields["p"]))
    except (ValueError, KeyError, TypeError) as error:
        raise BadBackup("the head of the backup is damaged") from error
    if cost != (SCRYPT_N, SCRYPT_R, SCRYPT_P):
        raise BadBackup("the backup was made with other costs than this release makes")
    return _key(passphrase, salt, *cost)


def _key(passphrase: str, salt: bytes, n: int, r: int, p: int) -> bytes:
    return Scrypt(salt=salt, length=32, n=n, r=r, p=p).derive(passphrase.encode())
