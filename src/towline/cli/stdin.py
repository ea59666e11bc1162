"""Standard input as an async iterator, whatever it is: a terminal, a pipe or a file.

A daemon thread reads it, so that a session that ended never waits for one more key; it reads one chunk ahead at most.
"""

import asyncio
import os
import sys
import threading
from collections.abc import AsyncIterator

READ_BYTES = 32 * 1024


async def chunks(descriptor: int | None = None) -> AsyncIterator[bytes]:
    """Yield what is read until its end."""
    loop = asyncio.get_running_loop()
    queue: asyncio.Queue[bytes] = asyncio.Queue()
    taken = threading.Semaphore(1)
    source = sys.stdin.fileno() if descriptor is None else descriptor

    def read() -> None:
        data = b"-"
        while data:
            taken.acquire()
            try:
                data = os.read(source, READ_BYTES)
                loop.call_soon_threadsafe(queue.put_nowait, data)
            except (OSError, RuntimeError):  # closed under us, or the loop has ended
                return

    threading.Thread(target=read, name="stdin", daemon=True).start()
    while data := await queue.get():
        yield data
        taken.release()
