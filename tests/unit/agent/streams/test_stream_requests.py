"""What a stream's header may ask for, before anything is done about it."""

import pytest

from towline.agent.docker.containers import Config, Inspected
from towline.agent.errors import DockerAway, DockerError, DockerNotFound, PolicyRefused, StorageError
from towline.agent.streams.exec import BEST_SHELL, not_started, order
from towline.agent.streams.hangup import MARK
from towline.agent.streams.log_source import ALL
from towline.agent.streams.logs import Wanted
from towline.agent.streams.names import container_name
from towline.agent.streams.refusal import Refused, as_refusal
from towline.wire.streams import Exec, Logs


def container(
    name: str, project: str = "", service: str = "", *, created: str = "", one_off: bool = False
) -> Inspected:
    labels = {"com.docker.compose.project": project, "com.docker.compose.service": service}
    if one_off:
        labels["com.docker.compose.oneoff"] = "True"
    return Inspected(id=f"{name}-id", name=f"/{name}", created=created, config=Config(labels=labels))


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (Refused("busy", "x"), "busy"),
        (PolicyRefused("x"), "forbidden"),
        (DockerNotFound("x", 404), "not_found"),
        (DockerError("x", 400), "bad_request"),
        (DockerError("x", 500), "unreachable"),
        (DockerAway("x"), "unreachable"),
        (StorageError("x"), "unreachable"),
    ],
)
def test_every_failure_has_a_code_of_the_protocol(error, code):
    assert as_refusal(error).code == code
    assert as_refusal(error).reason == "x"


def test_unexpected_failure_tells_nothing_of_itself():
    assert "secret" not in as_refusal(RuntimeError("secret")).reason


@pytest.mark.parametrize("text", ["", "../images", "a/b", "a?b", "a b", "é", "-a", "a" * 256, "a\n"])
def test_text_that_is_no_container_name_is_refused(text):
    with pytest.raises(Refused):
        container_name(text)


def test_empty_command_is_a_shell_with_a_terminal_type():
    body = order(Exec(container="c", tty=True), "mark")
    assert body["Cmd"] == list(BEST_SHELL)
    assert body["Env"] == ["TERM=xterm-256color", f"{MARK}=mark"]


def test_mark_and_the_openers_terminal_type_win():
    body = order(Exec(container="c", argv=("top",), tty=True, environment={"TERM": "dumb", MARK: "forged"}), "mark")
    assert body["Env"] == ["TERM=dumb", f"{MARK}=mark"]


def test_command_without_a_terminal_gets_no_terminal_type():
    assert order(Exec(container="c", argv=("ls",)), "mark")["Env"] == [f"{MARK}=mark"]


def test_missing_shell_and_missing_command_are_explained_apart():
    assert "has no shell" in not_started(b"OCI runtime exec failed: x\r\n", Exec(container="c"))
    assert not_started(b"OCI runtime exec failed: x\r\n", Exec(container="c", argv=("x",))).endswith("failed: x")


def test_services_of_a_project_fit_and_one_off_containers_do_not():
    wanted = Wanted(Logs(project="shop", services=("web",)))
    assert wanted.fits(container("a", "shop", "web"))
    assert not wanted.fits(container("a", "shop", "db"))
    assert not wanted.fits(container("a", "other", "web"))
    assert not wanted.fits(container("a", "shop", "web", one_off=True))


def test_containers_fit_by_name_and_by_the_beginning_of_their_id():
    wanted = Wanted(Logs(containers=("web", "db-i")))
    assert wanted.fits(container("web"))
    assert wanted.fits(container("db"))
    assert not wanted.fits(container("other"))


def test_container_made_while_nobody_listened_is_read_from_its_first_line():
    wanted = Wanted(Logs(project="shop", tail=5, cursors={"a-id": "2026-01-01T00:00:10Z/1"}))
    assert wanted.tail(container("b", created="2026-01-01T00:00:11.5Z")) == ALL
    assert wanted.tail(container("b", created="2026-01-01T00:00:09.5Z")) == 5


def test_log_that_ends_at_a_moment_is_not_followed():
    assert not Wanted(Logs(project="shop", follow=True, until="2026-01-01T00:00:10Z")).follow


@pytest.mark.parametrize(
    "target",
    [
        Logs(),
        Logs(containers=("a/b",)),
        Logs(project="shop", since="yesterday"),
        Logs(project="shop", until="2026"),
        Logs(project="shop", cursors={"a": "x"}),
    ],
)
def test_target_that_cannot_be_read_is_a_bad_request(target):
    with pytest.raises(Refused) as refused:
        Wanted(target)
    assert refused.value.code == "bad_request"
