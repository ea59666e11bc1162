"""A process counts as ended when all of it has ended."""

import subprocess
import sys
from pathlib import Path

from tests.support.product import wait_for
from tests.testbed import processes

FIRST_THREAD_ENDS = """
import ctypes, threading, time
threading.Thread(target=time.sleep, args=(60,)).start()
ctypes.CDLL(None).pthread_exit(None)
"""


def test_a_process_whose_first_thread_alone_has_ended_still_runs() -> None:
    process = subprocess.Popen([sys.executable, "-c", FIRST_THREAD_ENDS])
    stat = Path(f"/proc/{process.pid}/stat")
    try:
        wait_for(lambda: stat.read_text().rpartition(") ")[2][0] == "Z", "the end of the first thread", 20)
        assert processes.start_moment(process.pid) is not None
        processes.end(process.pid)
        assert processes.start_moment(process.pid) is None
    finally:
        process.kill()
        process.wait()
