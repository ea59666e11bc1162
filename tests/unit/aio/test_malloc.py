"""glibc takes the thresholds; other C libraries are left alone."""

import platform

from towline.aio.malloc import keep_large_blocks


def test_thresholds_are_set_where_there_is_glibc() -> None:
    assert keep_large_blocks() is (platform.libc_ver()[0] == "glibc")
