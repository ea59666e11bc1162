"""What commands for a Docker host are read as; and how arguments are masked."""

import pytest

from towline.commandline.catalogue import PROGRAMS
from towline.commandline.errors import BadCommand
from towline.commandline.masking import mask
from towline.commandline.plan import Level, Plan
from towline.commandline.reading import parse


def docker(*arguments: str) -> Plan:
    return parse("docker", arguments)


def compose(*arguments: str, project: str = "") -> Plan:
    return parse("compose", arguments, project=project)


def test_listing_containers_only_sees() -> None:
    plan = docker("ps", "-a", "--filter", "name=web", "--filter", "status=exited")
    assert plan.level is Level.SEE
    assert not plan.writes
    assert plan.parsed.values["filter"] == ("name=web", "status=exited")


def test_a_restart_names_its_containers() -> None:
    plan = docker("restart", "web", "db", "-t", "5")
    assert plan.writes
    assert [(each.verb, each.group, each.resource, each.name) for each in plan.touches] == [
        ("restart", "docker", "containers", "web"),
        ("restart", "docker", "containers", "db"),
    ]


def test_verbs_of_two_words_are_found() -> None:
    assert docker("system", "df").verb == "system df"


@pytest.mark.parametrize(
    "arguments",
    [
        ("-H", "tcp://x", "ps"), ("--host=x", "ps"), ("--context", "x", "ps"), ("--config", "x", "ps"),
        ("ps", "--tlsverify"), ("--tlscacert=x", "ps"),
    ],
)  # fmt: skip
def test_flags_that_lead_elsewhere_are_refused(arguments: tuple[str, ...]) -> None:
    with pytest.raises(BadCommand, match="is not taken: "):
        docker(*arguments)


@pytest.mark.parametrize("verb", ["run", "create", "build", "exec", "attach", "cp", "rm", "volume", "compose", "login"])
def test_verbs_that_are_not_run_say_what_to_do(verb: str) -> None:
    with pytest.raises(BadCommand, match="is not run by Towline"):
        docker(verb, "x")


@pytest.mark.parametrize("text", ["; rm -rf /", "$(id)", "`id`", "a\nb", "../x", "a/b", "a?all=1", "-"])
def test_words_of_a_shell_are_no_names(text: str) -> None:
    with pytest.raises(BadCommand):
        docker("restart", text)
    with pytest.raises(BadCommand):
        compose("restart", text, project="shop")


def test_statistics_are_shown_once() -> None:
    with pytest.raises(BadCommand, match="--no-stream"):
        docker("stats")
    assert docker("stats", "--no-stream").level is Level.SEE


def test_a_project_comes_from_the_run_or_from_the_flag() -> None:
    assert compose("ps", project="shop").project == "shop"
    assert compose("-p", "shop", "ps").project == "shop"
    assert compose("ps", "-p", "shop", project="shop").touches[0].namespace == "shop"
    with pytest.raises(BadCommand, match="-p says"):
        compose("ps", "-p", "other", project="shop")
    with pytest.raises(BadCommand, match="name the Compose project"):
        compose("ps")
    with pytest.raises(BadCommand):
        compose("ps", project="../etc")


def test_what_would_make_containers_is_a_deploy() -> None:
    with pytest.raises(BadCommand, match="towline deploy"):
        compose("up", "-d", project="shop")


def test_there_are_three_programs() -> None:
    assert set(PROGRAMS) == {"kubectl", "docker", "compose"}
    with pytest.raises(BadCommand, match="the program is"):
        parse("sh", ["-c", "id"])


@pytest.mark.parametrize(
    ("arguments", "kept"),
    [
        (("get", "pods", "-n", "web"), ("get", "pods", "-n", "web")),
        (("--token=abc", "get"), ("--token=***", "get")),
        (("--token", "abc", "get"), ("--token", "***", "get")),
        (("--password", "abc"), ("--password", "***")),
        (("-l", "password=hunter2"), ("-l", "password=***")),
        (("API_KEY=xyz",), ("API_KEY=***",)),
        (("-H", "https://user:pass@host/x"), ("-H", "https://***@host/x")),
        (("Authorization: Bearer abc",), ("Authorization: Bearer ***",)),
        (("-l", "app=web"), ("-l", "app=web")),
    ],
)
def test_secrets_in_arguments_are_masked(arguments: tuple[str, ...], kept: tuple[str, ...]) -> None:
    assert mask(arguments) == kept


def test_every_verb_says_what_it_does() -> None:
    for program in PROGRAMS.values():
        for verb in program.verbs:
            assert verb.words.endswith("."), verb.name
            assert all(flag.words for flag in verb.flags), verb.name
