"""Recordings of PipeOps agents with mistakes made in them, by a generator."""

import json
import random

from tests.support.pipeops_traces import agent_texts, recorded, server_messages

TEXTS = [*agent_texts("pipeops-ws"), *(json.dumps(one).encode() for one in server_messages("pipeops-ws"))]
BODIES = [entry["body"].encode() for entry in recorded("pipeops-routes") if entry["body"]]
FRAMES = [bytes.fromhex(entry["hex"]) for entry in recorded("pipeops-ws") if "hex" in entry]
WORDS = [b'"', b"{", b"}", b"[", b"]", b"null", b"1e400", b"-0.0", b"\\u0000", b"\xff", b'"type":', b"\x00\x00", b"=="]


def mutated(data: bytes, generator: random.Random) -> bytes:
    """Bytes with a few places cut, doubled, overwritten or filled in."""
    out = bytearray(data)
    for _ in range(generator.randrange(1, 6)):
        at = generator.randrange(len(out) + 1)
        match generator.randrange(4):
            case 0:
                del out[at : at + generator.randrange(1, 40)]
            case 1:
                out[at:at] = generator.choice(WORDS)
            case 2:
                out[at:at] = out[at : at + generator.randrange(1, 40)]
            case _ if at < len(out):
                out[at] = generator.randrange(256)
    return bytes(out)
