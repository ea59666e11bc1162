"""What many ask at the same time is asked in one call, and each gets the own answer."""

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest

from towline.aio.tasks import TaskOwner
from towline.aio.together import Together


class Closed(Exception):
    """The desk takes no more."""


def is_outage(error: Exception) -> bool:
    return isinstance(error, OSError)


class Desk:
    """Doubles numbers, a call at a time; a call waits while the desk is shut."""

    def __init__(self) -> None:
        self.calls: list[list[int]] = []
        self.open = asyncio.Event()
        self.open.set()
        self.called = asyncio.Event()

    async def answer(self, questions: Sequence[int]) -> list[int | Exception]:
        self.calls.append(list(questions))
        self.called.set()
        await self.open.wait()
        return [2 * one if one >= 0 else ValueError(f"{one} is negative") for one in questions]


@pytest.fixture
async def owner() -> AsyncIterator[TaskOwner]:
    async with TaskOwner("desks") as owner:
        yield owner


def together(owner: TaskOwner, desk: Desk, *, most: int = 10, waiting: int = 100) -> Together[int, int]:
    return Together(owner, "desk", desk.answer, most=most, waiting=waiting, unavailable=Closed, is_outage=is_outage)


async def shut_with(desk: Desk, asked: Together[int, int], *questions: int) -> list[asyncio.Task[int]]:
    """Ask, and wait until the first of it is being answered by a desk that does not go on."""
    desk.open.clear()
    tasks = [asyncio.ensure_future(asked.ask(one)) for one in questions]
    await desk.called.wait()
    return tasks


async def test_a_question_alone_is_asked_at_once(owner: TaskOwner):
    desk = Desk()
    assert await together(owner, desk).ask(4) == 8
    assert desk.calls == [[4]]


async def test_what_is_asked_at_the_same_time_is_one_call(owner: TaskOwner):
    desk = Desk()
    asked = together(owner, desk)
    assert await asyncio.gather(*(asked.ask(number) for number in range(5))) == [0, 2, 4, 6, 8]
    assert desk.calls == [[0, 1, 2, 3, 4]]


async def test_what_is_asked_during_a_call_is_answered_by_the_next(owner: TaskOwner):
    desk = Desk()
    asked = together(owner, desk)
    tasks = await shut_with(desk, asked, 1)
    tasks += [asyncio.ensure_future(asked.ask(number)) for number in (2, 3)]
    await asyncio.sleep(0)
    desk.open.set()
    assert await asyncio.gather(*tasks) == [2, 4, 6]
    assert desk.calls == [[1], [2, 3]]


async def test_a_call_has_no_more_questions_than_it_may(owner: TaskOwner):
    desk = Desk()
    asked = together(owner, desk, most=2)
    await asyncio.gather(*(asked.ask(number) for number in range(5)))
    assert desk.calls == [[0, 1], [2, 3], [4]]


async def test_each_sees_its_own_error(owner: TaskOwner):
    asked = together(owner, Desk())
    answers = await asyncio.gather(asked.ask(1), asked.ask(-1), asked.ask(2), return_exceptions=True)
    assert answers[0::2] == [2, 4]
    assert repr(answers[1]) == "ValueError('-1 is negative')"


async def test_one_that_fails_the_call_is_no_harm_to_the_others(owner: TaskOwner):
    async def fail(questions: Sequence[int]) -> list[int]:
        if 0 in questions:
            raise ValueError("0 is nothing")
        return list(questions)

    asked = Together(owner, "desk", fail, most=10, waiting=100, unavailable=Closed, is_outage=is_outage)
    answers = await asyncio.gather(asked.ask(1), asked.ask(0), asked.ask(2), return_exceptions=True)
    assert [str(one) for one in answers] == ["1", "0 is nothing", "2"]


async def test_an_outage_is_everybodys_at_once_and_the_next_call_is_made(owner: TaskOwner):
    calls = []

    async def fail(questions: Sequence[int]) -> list[int]:
        calls.append(len(questions))
        if 0 in questions:
            raise OSError("no database")
        return list(questions)

    asked = Together(owner, "desk", fail, most=10, waiting=100, unavailable=Closed, is_outage=is_outage)
    answers = await asyncio.gather(asked.ask(0), asked.ask(1), return_exceptions=True)
    assert ([str(one) for one in answers], calls) == (["no database", "no database"], [2])
    assert await asked.ask(1) == 1


async def test_too_few_answers_are_an_error_and_nobody_waits_for_ever(owner: TaskOwner):
    async def lose(questions: Sequence[int]) -> list[int]:
        return []

    with pytest.raises(RuntimeError, match="0 answers to 1 questions"):
        await Together(owner, "desk", lose, most=10, waiting=100, unavailable=Closed, is_outage=is_outage).ask(1)


async def test_more_than_may_wait_are_refused(owner: TaskOwner):
    desk = Desk()
    asked = together(owner, desk, waiting=1)
    tasks = await shut_with(desk, asked, 1)
    tasks.append(asyncio.ensure_future(asked.ask(2)))
    await asyncio.sleep(0)
    with pytest.raises(Closed):
        await asked.ask(3)
    desk.open.set()
    assert await asyncio.gather(*tasks) == [2, 4]


async def test_nothing_is_asked_for_somebody_who_went_away(owner: TaskOwner):
    desk = Desk()
    asked = together(owner, desk)
    first = await shut_with(desk, asked, 1)
    gone = asyncio.ensure_future(asked.ask(2))
    await asyncio.sleep(0)
    gone.cancel()
    desk.open.set()
    assert await asyncio.gather(*first, asked.ask(3)) == [2, 6]
    assert desk.calls == [[1], [3]]


async def test_who_asked_a_moment_before_the_end_is_told_too(owner: TaskOwner):
    task = asyncio.ensure_future(together(owner, Desk()).ask(1))
    await asyncio.sleep(0)
    await owner.close()
    with pytest.raises(Closed):
        await task


async def test_the_end_tells_those_who_wait_and_those_who_come_later(owner: TaskOwner):
    desk = Desk()
    asked = together(owner, desk)
    tasks = await shut_with(desk, asked, 1)
    tasks.append(asyncio.ensure_future(asked.ask(2)))
    await asyncio.sleep(0)
    await owner.close()
    assert [type(one) for one in await asyncio.gather(*tasks, return_exceptions=True)] == [Closed, Closed]
    with pytest.raises(Closed):
        await asked.ask(3)
