"""What slow readers hold together is one number."""

from dataclasses import dataclass

from towline.gateway.memory import shed


@dataclass(eq=False)
class Slow:
    full_since: float
    held_bytes: int
    is_aborted: bool = False

    def abort(self) -> None:
        self.is_aborted = True


def test_those_that_wait_longest_go_until_the_rest_fits() -> None:
    readers = [Slow(3.0, 100), Slow(1.0, 100), Slow(2.0, 100), Slow(0.0, 100)]
    assert shed(readers, 150) == 2
    assert [reader.is_aborted for reader in readers] == [False, True, True, False]


def test_nobody_goes_while_all_fit() -> None:
    readers = [Slow(1.0, 100), Slow(2.0, 50)]
    assert shed(readers, 150) == 0
    assert not any(reader.is_aborted for reader in readers)
