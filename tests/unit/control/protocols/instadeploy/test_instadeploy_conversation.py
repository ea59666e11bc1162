"""Commands and answers with an InstaDeploy agent: one at a time, each answer to whoever waits for it."""

import asyncio
import json

import pytest

from towline.control.protocols.instadeploy import conversation
from towline.control.protocols.instadeploy.conversation import Conversation
from towline.tunnel.errors import TunnelClosed
from towline.wire import instadeploy
from towline.wire.instadeploy import Response, Standing


class Line:
    """What was sent, and a way to wait for it."""

    def __init__(self) -> None:
        self.sent: asyncio.Queue[str] = asyncio.Queue()
        self.talk = Conversation(lambda text: self.sent.put_nowait(json.loads(text)["id"]))

    def answer(self, job_id: str, status: Standing = Standing.COMPLETED, logs: str = "") -> None:
        self.talk.heard(Response(job_id=job_id, status=status, logs=logs))


async def test_the_second_command_waits_for_the_answer_to_the_first() -> None:
    line = Line()
    first = asyncio.ensure_future(line.talk.ask(instadeploy.status("a", "x"), timeout=5))
    second = asyncio.ensure_future(line.talk.ask(instadeploy.status("b", "x"), timeout=5))
    assert await line.sent.get() == "a"
    assert line.sent.empty()

    line.answer("a")

    assert (await first).job_id == "a"
    assert await line.sent.get() == "b"
    line.answer("b")
    assert (await second).job_id == "b"


async def test_answers_that_are_not_final_are_news() -> None:
    line, news = Line(), []
    asked = asyncio.ensure_future(line.talk.ask(instadeploy.status("a", "x"), timeout=5, on_news=news.append))
    await line.sent.get()
    line.answer("a", Standing.IN_PROGRESS, "received")
    line.answer("a")
    await asked

    assert [each.logs for each in news] == ["received"]


async def test_repeated_and_unasked_answers_change_nothing_and_are_counted() -> None:
    line = Line()
    line.answer("nobody")
    asked = asyncio.ensure_future(line.talk.ask(instadeploy.status("a", "x"), timeout=5))
    await line.sent.get()
    line.answer("b")
    line.answer("a")
    line.answer("a", Standing.FAILED)

    assert (await asked).status is Standing.COMPLETED
    assert line.talk.ignored == {"unasked": 2, "repeated": 1}


async def test_a_command_waits_until_a_late_answer_came() -> None:
    line = Line()
    with pytest.raises(TimeoutError):
        await line.talk.ask(instadeploy.status("a", "x"), timeout=0)
    assert await line.sent.get() == "a"
    asked = asyncio.ensure_future(line.talk.ask(instadeploy.status("b", "x"), timeout=5))
    await asyncio.sleep(0)
    assert line.sent.empty()

    line.answer("a")

    assert await line.sent.get() == "b"
    line.answer("b")
    assert (await asked).job_id == "b"


async def test_an_answer_that_never_comes_holds_nobody_up_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversation, "OWED_TIMEOUT", 0.0)
    line = Line()
    with pytest.raises(TimeoutError):
        await line.talk.ask(instadeploy.status("a", "x"), timeout=0)
    asked = asyncio.ensure_future(line.talk.ask(instadeploy.status("b", "x"), timeout=5))
    assert [await line.sent.get(), await line.sent.get()] == ["a", "b"]
    line.answer("b")

    assert (await asked).job_id == "b"


async def test_the_end_of_the_line_ends_what_was_asked_and_what_would_be() -> None:
    line = Line()
    asked = asyncio.ensure_future(line.talk.ask(instadeploy.status("a", "x"), timeout=5))
    waiting = asyncio.ensure_future(line.talk.ask(instadeploy.status("b", "x"), timeout=5))
    await line.sent.get()

    line.talk.end("the agent went away")

    for each in (asked, waiting):
        with pytest.raises(TunnelClosed, match="went away"):
            await each
