"""Jobs as commands of a REST agent, and its results as what is told of jobs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from towline.control.protocols.pipeops.rest_leases import MOST_HANDED, CommandState, after_lease
from towline.control.protocols.pipeops.rest_orders import Ending, NotCarried, ending_of, messages, order_of
from towline.wire import link, orders
from towline.wire import pipeops_rest as rest


def job(program: orders.Program, *arguments: str, **more: str) -> link.Job:
    order = orders.Command(
        project=more.pop("project", ""), program=program, arguments=arguments, user="towline:a", **more
    )
    return link.Job(job_id="job_1", kind="command.run", fence=3, attempt=1, timeout=60, payload=orders.encode(order))


def test_the_namespace_stands_among_the_arguments_of_kubectl() -> None:
    assert order_of(job("kubectl", "get", "pods", namespace="shop")).run.args == ("--namespace=shop", "get", "pods")


@pytest.mark.parametrize("flags", [("-n", "bank"), ("--namespace=bank",), ("-A",), ("--all-namespaces",), ("-nbank",)])
def test_a_namespace_that_was_typed_stays_alone(flags: tuple[str, ...]) -> None:
    try:
        found = order_of(job("kubectl", "get", "pods", *flags, namespace="shop"))
    except NotCarried:
        return  # not a spelling that Towline takes
    assert found.run.args == ("get", "pods", *flags)


def test_a_verb_without_namespaces_is_left_alone() -> None:
    assert order_of(job("kubectl", "cordon", "n1")).run.args == ("cordon", "n1")


def test_whether_a_command_writes_is_known() -> None:
    assert order_of(job("kubectl", "get", "pods")).reads
    assert not order_of(job("kubectl", "delete", "pod", "a")).reads
    assert not order_of(job("compose", "restart", project="shop")).reads


@pytest.mark.parametrize("kind", sorted(set(orders.ORDERS) - {"command.run"}))
def test_other_kinds_of_work_are_refused_by_name(kind: str) -> None:
    asked = link.Job(
        job_id="job_1", kind=kind, fence=1, attempt=1, timeout=60, payload=orders.encode(orders.Order(project="x"))
    )
    with pytest.raises(NotCarried, match=kind):
        order_of(asked)


def test_a_command_that_follows_is_refused() -> None:
    with pytest.raises(NotCarried, match="follows"):
        order_of(job("kubectl", "logs", "--follow", "web-1"))


def test_what_a_program_printed_is_no_error_that_everybody_reads() -> None:
    ending = ending_of(rest.Result(success=False, error="the password is hush"), most_bytes=1000)
    assert "hush" not in ending.error and ending.stderr == "the password is hush"


def test_what_our_own_agent_says_of_a_failure_is_kept() -> None:
    told = rest.Result(error="the host's policy", metadata={"code": "forbidden", "outcome": "refused", "exit_code": 1})
    ending = ending_of(told, most_bytes=1000)
    assert (ending.outcome, ending.code, ending.error) == ("refused", "forbidden", "the host's policy")


@pytest.mark.parametrize("value", [True, "1", 1.5, None, [1]])
def test_an_exit_code_that_is_no_number_is_none(value: object) -> None:
    assert "exit_code" not in ending_of(rest.Result(metadata={"exit_code": value}), most_bytes=10).detail


@given(st.text(max_size=200), st.text(max_size=200), st.integers(0, 300))
def test_output_is_kept_from_its_beginning_and_never_beyond_what_is_allowed(out: str, err: str, most: int) -> None:
    ending = ending_of(rest.Result(success=True, output=out, metadata={"stderr": err}), most_bytes=most)
    assert out.startswith(ending.stdout) and err.startswith(ending.stderr)
    assert len(ending.stdout.encode()) + len(ending.stderr.encode()) <= most
    assert ending.detail["truncated"] is ((ending.stdout, ending.stderr) != (out, err))


@given(st.text(max_size=20_000), st.integers(0, 5))
def test_an_ending_is_told_alike_each_time_and_whole(out: str, after: int) -> None:
    ending = Ending("succeeded", stdout=out)
    first = list(messages("job_1", 3, ending, after=after, at=1.0))
    assert first == list(messages("job_1", 3, ending, after=after, at=1.0))
    events = [event for one in first if isinstance(one, link.JobProgress) for event in one.events]
    assert "".join(event.text for event in events) == out
    assert [event.seq for event in events] == list(range(after + 1, after + 1 + len(events)))
    assert isinstance(first[-1], link.JobResult) and first[-1].last_seq == after + len(events)


def test_no_message_of_a_long_output_is_longer_than_the_link_takes() -> None:
    ending = Ending("succeeded", stdout="\\" * 4_000_000)
    assert all(len(link.encode(one)) < 2 * link.MAX_MESSAGE_BYTES for one in messages("j", 1, ending, after=0, at=0))


def test_a_lease_that_is_over_ends_what_writes_and_repeats_what_reads() -> None:
    def over(state: CommandState = CommandState.HANDED, **more: object) -> Ending | None:
        return after_lease(state, **({"reads": True, "handed": 1, "cancelling": False} | more))

    assert over() is None
    assert over(handed=MOST_HANDED) is not None
    writes, waits, cancelled = over(reads=False), over(CommandState.WAITING), over(cancelling=True)
    assert writes is not None and writes.code == "interrupted"
    assert waits is not None and waits.code == "not_fetched"
    assert cancelled is not None and cancelled.outcome == "cancelled"
