"""Challenges are answered whatever else is asked for: noise is limited, and only for who makes it."""

from datetime import UTC, datetime
from typing import cast

from towline.aio.clock import SimulatedClock
from towline.control.certificates.answers import LOOKUPS_PER_SECOND, PATH, ChallengeAnswers
from towline.control.certificates.models import AcmeChallenge
from towline.gateway.certificates import Certificates
from towline.gateway.interfaces import Answer, Later, Peer
from towline.wire.http1 import parse_request_head

NOISE, AUTHORITY = "203.0.113.66", "192.0.2.1"


class Showing:
    """Handshakes without open challenges."""

    def challenge(self, name: str, material: object) -> None: ...

    def end_challenge(self, name: str) -> None: ...


def challenge(token: str) -> AcmeChallenge:
    return AcmeChallenge(
        token=token, certificate_id="crt_1", kind="http-01", name="a.test", answer=f"{token}.key",
        expires_at=datetime(2027, 1, 1, tzinfo=UTC),
    )  # fmt: skip


async def nothing(token: str) -> None: ...


def new_answers(clock: SimulatedClock) -> ChallengeAnswers:
    answers = ChallengeAnswers(cast(Certificates, Showing()), nothing, clock)
    answers.is_on = True
    return answers


def ask(answers: ChallengeAnswers, token: str, address: str) -> Answer | Later | None:
    head = parse_request_head(b"GET %s%s HTTP/1.1\r\nHost: a.test\r\n\r\n" % (PATH, token.encode()))
    return answers.route(head, Peer(address, 1, "http", address))


def test_made_up_tokens_are_limited_for_their_address_alone() -> None:
    clock = SimulatedClock()
    answers = new_answers(clock)
    noise = [ask(answers, f"made-up-token-{number:04}", NOISE) for number in range(LOOKUPS_PER_SECOND * 5)]
    assert sum(isinstance(one, Later) for one in noise) == LOOKUPS_PER_SECOND
    assert isinstance(ask(answers, "token-of-a-replica", AUTHORITY), Later)


def test_known_tokens_are_answered_however_often_they_are_asked_for() -> None:
    answers = new_answers(SimulatedClock())
    answers.add(challenge("token-of-our-own"))
    answers.replace([challenge("token-of-another")])
    for number in range(LOOKUPS_PER_SECOND * 5):
        ask(answers, f"made-up-token-{number:04}", NOISE)
    for token in ("token-of-our-own", "token-of-another"):
        for _ in range(LOOKUPS_PER_SECOND * 5):
            found = ask(answers, token, NOISE)
            assert isinstance(found, Answer) and found.body == f"{token}.key".encode()
