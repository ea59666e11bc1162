"""Random talk of an InstaDeploy agent, by a seed: JSON that is nearly right, text that is none, any order."""

import random

from towline.control.protocols.instadeploy import status
from towline.control.protocols.instadeploy.conversation import Conversation
from towline.wire import instadeploy

HEADS = ("NAME", "IMAGE", "COMMAND", "SERVICE", "CREATED", "STATUS", "PORTS", "Up 3 minutes (healthy)", "…", "  ")
PIECES = (
    '{"job_id":"a","status":"COMPLETED","logs":"', '"}', "{", "}", "[", '"job_id":', "null", '"status":"FAILED"', "\\n",
    "\x00", "\ud83d", '"data":{"x":', "1e999", ",", ":", '"logs":', '"error":"', "IN_PROGRESS", "QUEUED", '"a"',
)  # fmt: skip


def text(chance: random.Random) -> bytes:
    """Return one message that an agent of a bad mind, or of none, might send."""
    kind = chance.randrange(3)
    if kind == 0:
        return chance.randbytes(chance.randrange(200))
    if kind == 1:
        return "".join(chance.choices(PIECES, k=chance.randrange(30))).encode(errors="surrogatepass")
    logs = "\\n".join("   ".join(chance.choices(HEADS, k=chance.randrange(9))) for _ in range(chance.randrange(5)))
    state = chance.choice(["COMPLETED", "FAILED", "IN_PROGRESS"])
    return f'{{"job_id":"{chance.choice("abc")}","status":"{state}","logs":"{logs}"}}'.encode()


def once(chance: random.Random, talk: Conversation) -> bool:
    """Let a conversation hear one message. Returns: whether it was one."""
    try:
        response = instadeploy.decode_response(text(chance))
    except instadeploy.BadMessage:
        return False
    talk.heard(response)
    found = status.read(response)
    for row in found.rows:
        status.container(row, "x")
        status.judged(row, 0)
    return True
