"""A short seeded run of the fuzzer; `make soak` has the long one."""

import random

from tests.support import instadeploy_fuzz

from towline.control.protocols.instadeploy.conversation import Conversation

ROUNDS = 20_000
"""Some two seconds."""


def test_no_message_of_an_agent_breaks_the_reader() -> None:
    chance, talk = random.Random(7), Conversation(lambda text: None)

    read = sum(instadeploy_fuzz.once(chance, talk) for _ in range(ROUNDS))

    assert 0 < read < ROUNDS
    assert talk.ignored.total() == read
