"""Answers in one call what many ask at the same time: one query, one transaction, one flush to disk for all of them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import structlog

from towline.aio.tasks import TaskOwner

Q = TypeVar("Q")
A = TypeVar("A")

Answer = Callable[[Sequence[Q]], Awaitable[Sequence[A | Exception]]]
"""Returns for each question, in their order, its answer or what its asker is to see raised."""


@dataclass(slots=True)
class _Asked(Generic[Q, A]):
    question: Q
    done: asyncio.Future[A] = field(repr=False)


class Together(Generic[Q, A]):
    """Gathers questions while a call is on its way, and asks them all in the next one.

    A question that comes alone is asked at once: there is no pause in which others are waited for. What is asked while
    a call runs is never answered by that call, so an answer is at least as new as its question.

    A call that fails is made again for each of its questions alone, so that one that cannot be answered is no harm to
    the others.

    Args: answer: gets at least one question and at most `most`. waiting: questions that may wait for the next call.
        unavailable: makes what an asker sees when more wait, or when the owner is closed. is_outage: tells a failure
        that no question is to blame for: it is everybody's at once.
    """

    def __init__(
        self,
        owner: TaskOwner,
        name: str,
        answer: Answer[Q, A],
        *,
        most: int,
        waiting: int,
        unavailable: Callable[[], Exception],
        is_outage: Callable[[Exception], bool],
    ) -> None:
        self._owner = owner
        self._name = name
        self._answer = answer
        self._most = most
        self._room = waiting
        self._unavailable = unavailable
        self._is_outage = is_outage
        self._asked: list[_Asked[Q, A]] = []
        self._under_way: list[_Asked[Q, A]] = []
        self._is_calling = False

    def __repr__(self) -> str:
        return f"<Together {self._name} {len(self._under_way)} under way, {len(self._asked)} waiting>"

    async def ask(self, question: Q) -> A:
        """Return the answer. Raises: what the call says or raises, and what `unavailable` makes."""
        if self._owner.closed or len(self._asked) >= self._room:
            raise self._unavailable()
        one = _Asked[Q, A](question, asyncio.get_running_loop().create_future())
        self._asked.append(one)
        if not self._is_calling:
            self._is_calling = True
            self._owner.spawn(self._name, self._call_until_none_waits()).add_done_callback(self._ended)
        return await one.done

    async def _call_until_none_waits(self) -> None:
        structlog.contextvars.clear_contextvars()  # what is logged is not about whoever asked first
        while self._asked:
            asked, self._asked = self._asked[: self._most], self._asked[self._most :]
            self._under_way = [one for one in asked if not one.done.done()]  # others were cancelled: they wait no more
            if self._under_way:
                await self._call()
        self._is_calling = False

    async def _call(self) -> None:
        answers = await self._answers([one.question for one in self._under_way])
        settled, self._under_way = self._under_way, []
        for one, answer in zip(settled, answers, strict=True):
            _settle(one.done, answer)

    async def _answers(self, questions: list[Q]) -> Sequence[A | Exception]:
        try:
            answers = await self._answer(questions)
        except Exception as error:
            if len(questions) == 1 or self._is_outage(error):
                return [error] * len(questions)
            return [answer for question in questions for answer in await self._answers([question])]
        if len(answers) != len(questions):
            return [RuntimeError(f"{self._name}: {len(answers)} answers to {len(questions)} questions")] * len(
                questions
            )
        return answers

    def _ended(self, task: asyncio.Task[None]) -> None:
        """Tell those who wait when the owner was closed in the middle."""
        if not task.cancelled():
            return
        left, self._under_way, self._asked = self._under_way + self._asked, [], []
        for one in left:
            _settle(one.done, self._unavailable())


def _settle(done: asyncio.Future[A], answer: A | Exception) -> None:
    if done.done():
        return
    if isinstance(answer, Exception):
        done.set_exception(answer)
    else:
        done.set_result(answer)
