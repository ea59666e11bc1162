"""The long fuzz of what InstaDeploy's agents say; the short one is a unit test."""

import random
import time

import pytest
from tests.support import instadeploy_fuzz

from towline.control.protocols.instadeploy.conversation import Conversation

SECONDS = 1800.0


@pytest.mark.soak
def test_half_an_hour_of_nonsense_breaks_nothing() -> None:
    seed = random.SystemRandom().randrange(2**32)
    chance, talk = random.Random(seed), Conversation(lambda text: None)
    print(f"seed {seed}")
    end, rounds = time.monotonic() + SECONDS, 0
    while time.monotonic() < end:
        instadeploy_fuzz.once(chance, talk)
        rounds += 1
    print(f"{rounds} messages")
