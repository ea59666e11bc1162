"""The command line as a new user has it: real server, real agent, real Docker; every exit code."""

import json
import re
from pathlib import Path

import pytest
import yaml
from tests.support.commands import (
    AWAY,
    FAILED,
    NOT_ALLOWED,
    NOT_FOUND,
    USAGE,
    Going,
    answer,
    fail,
    succeed,
    terminal,
)
from tests.support.product import Product
from tests.testbed import processes

pytestmark = [pytest.mark.docker, pytest.mark.timeout(180)]

LISTS = ("clusters", "deployments", "jobs", "tokens", "users", "audit", "join-token", "revisions here/w4cli")


@pytest.mark.parametrize("command", LISTS)
def test_lists_are_tables_for_people_and_data_for_programs(shop: Product, command: str) -> None:
    table = succeed(shop, f"towline {command}")
    found = answer(shop, f"towline {command}")
    assert isinstance(found, list)
    assert yaml.safe_load(succeed(shop, f"towline {command} -o yaml")) is not None
    assert len(table.splitlines()) == len(found) + 1 if found else not table
    assert "\x1b" not in table


@pytest.mark.parametrize("command", ["whoami", "clusters show here", "link show here", "users show ada"])
def test_single_things_are_shown_both_ways(shop: Product, command: str) -> None:
    assert succeed(shop, f"towline {command}")
    assert isinstance(answer(shop, f"towline {command}"), dict)


@pytest.mark.parametrize(
    ("command", "code", "words"),
    [
        ("towline deploy here/w4cli -f missing.yaml", USAGE, "there is no file missing.yaml"),
        ("towline deploy here", USAGE, "is not CLUSTER/PROJECT"),
        ("echo 'services: {web: {}}' > bad.yaml; towline deploy here/w4bad -f bad.yaml", USAGE, "line 1"),
        ("towline clusters --state purple", USAGE, "purple"),
        ("towline remove here/w4cli", USAGE, "add --yes"),
        ("towline deployments --nonsense", USAGE, "No such option"),
        ("towline forward here nonsense", USAGE, "is not HOST:PORT"),
        ("towline login ftp://x", USAGE, "is no server's address"),
        ("towline revisions here/nothing", NOT_FOUND, "does not exist"),
        ("towline logs elsewhere/shop", NOT_FOUND, "does not exist"),
        ("towline exec here/w4cli nothing -- true", NOT_FOUND, "no container"),
        ("towline jobs show nothing", NOT_FOUND, "does not exist"),
        ("TOWLINE_TOKEN=twl_wrong towline whoami", NOT_ALLOWED, ""),
        ("TOWLINE_CONFIG_DIR=empty towline whoami", NOT_ALLOWED, "you are not signed in"),
        ("towline ssh here 192.0.2.77:22", NOT_ALLOWED, "the policy of this host does not allow"),
        ("towline ssh here 127.0.0.1:1", FAILED, "127.0.0.1:1"),
    ],
)
def test_each_failure_has_its_exit_code_and_its_words(shop: Product, command: str, code: int, words: str) -> None:
    fail(shop, command, code, words)


def test_a_server_that_is_away_is_code_5(shop: Product) -> None:
    fail(
        shop,
        f"TOWLINE_URL=http://127.0.0.1:{processes.free_port()} TOWLINE_TOKEN=x towline whoami",
        AWAY,
        "cannot reach",
    )


def test_a_viewer_sees_and_changes_nothing(shop: Product) -> None:
    made = answer(shop, "towline tokens create for-the-screen --role viewer --on cluster=here")
    as_viewer = f"TOWLINE_TOKEN={made['token']} towline"
    assert "w4cli" in succeed(shop, f"{as_viewer} deployments")
    fail(shop, f"{as_viewer} deploy here/w4cli -f shop/compose.yaml", NOT_ALLOWED)
    fail(shop, f"{as_viewer} exec here/w4cli web -- true", NOT_ALLOWED)
    succeed(shop, f"towline tokens revoke {made['id']}")
    fail(shop, f"{as_viewer} deployments", NOT_ALLOWED)
    refused = answer(shop, "towline audit --result refused")
    assert [event for event in refused if event["action"].endswith("/revisions")], refused


def test_a_user_is_made_given_a_role_and_removed(shop: Product) -> None:
    succeed(shop, "printf 'another long password' | towline users create bob --password-file -")
    succeed(shop, "towline users grant bob deployer --on project=here/w4cli")
    found = answer(shop, "towline users show bob")
    (grant,) = [grant["id"] for grant in found["grants"] if grant["role"] == "deployer"]
    succeed(shop, f"towline users revoke-grant {grant}")
    fail(shop, f"towline users revoke-grant {grant}", NOT_FOUND)
    succeed(shop, "towline users remove bob --yes")
    fail(shop, "towline users show bob", NOT_FOUND)


def test_diff_says_what_would_change_and_changes_nothing(shop: Product) -> None:
    assert "no container would change" in succeed(shop, "towline diff here/w4cli --folder shop")
    changed = succeed(shop, "towline diff here/w4cli --folder shop --var COLOUR=blue")
    assert "recreated  web" in changed
    assert len(answer(shop, "towline revisions here/w4cli")) == 1


def test_logs_and_pipes(shop: Product) -> None:
    assert succeed(shop, "towline logs here/w4cli") == "web | the shop is open\nweb | mind the step\n"
    assert succeed(shop, "towline logs here/w4cli web --no-prefix --grep step") == "mind the step\n"
    assert succeed(shop, "echo hello | towline exec here/w4cli web -- cat") == "hello\n"
    assert succeed(shop, "towline exec here/w4cli web -- sh -c 'echo $COLOUR'") == "red\n"
    assert shop.run("towline exec here/w4cli web -- sh -c 'exit 42'").returncode == 42


def test_a_shell_has_a_real_terminal(shop: Product) -> None:
    with terminal(shop, "towline", "exec", "here/w4cli", "web", "--", "sh", columns=91, rows=33) as shell:
        shell.shows("# ")
        shell.type("stty size\n")
        shell.shows("33 91")
        shell.resize(77, 22)
        shell.type("sleep 0.3; stty size\n")
        shell.shows("22 77")
        shell.shows("# ")
        shell.type("sh -c 'echo begun; exec sleep 1000'\n")
        shell.shows("begun\r")  # the command itself, not its echo
        shell.type("\x03")
        shell.shows("# ")
        shell.type("echo still-$((40 + 2))\n")
        shell.shows("still-42")
        shell.shows("# ")
        shell.type("exit 7\n")
        assert shell.wait() == 7


def test_ctrl_c_leaves_the_job_running_and_says_how_to_follow_it(shop: Product) -> None:
    words = "towline deploy here/w4cli --folder shop --settle 3 --var COLOUR=green -m second"
    with Going(shop, *words.split()) as deploy:
        deploy.says("watching")
        assert deploy.interrupt() == 130
        found = re.search(r"towline jobs follow (job_\w+)", deploy.text)
    assert found, deploy.text
    done = shop.run(found[0])
    assert done.returncode == 0, done.stderr
    assert "here/w4cli: deploy succeeded" in done.stderr
    assert succeed(shop, "towline exec here/w4cli web -- sh -c 'echo $COLOUR'") == "green\n"


def test_without_waiting_the_job_is_named(shop: Product) -> None:
    done = shop.run("towline restart here/w4cli --no-wait")
    assert done.returncode == 0
    job = re.search(r"job_\w+", done.stderr)
    assert job, done.stderr
    assert shop.run(f"towline jobs follow {job[0]}").returncode == 0
    shown = json.loads(succeed(shop, f"towline jobs show {job[0]} -o json"))
    assert shown["state"] == "succeeded"
    assert json.loads(succeed(shop, "towline stop here/w4cli -o json"))["state"] == "succeeded"
    assert json.loads(succeed(shop, "towline start here/w4cli --no-wait -o json"))["job"]["kind"] == "compose.start"


def test_a_host_that_is_away_is_code_5_and_its_work_waits(shop: Product, tmp_path: Path) -> None:
    """A host that joined and was never started."""
    made = answer(shop, "towline join-token create --cluster ghost --label env=lab")
    (tmp_path / "token").write_text(made["token"])
    url = shop.text.split("Towline runs at", 1)[1].split()[0]
    join = f"towline agent join --server {url} --fingerprint {made['fingerprint']} --state-folder {tmp_path}/ghost"
    succeed(shop, f"{join} --token-file {tmp_path}/token")
    assert [each["name"] for each in answer(shop, "towline clusters -l env=lab")] == ["ghost"]
    fail(shop, "towline logs ghost/shop", AWAY, "ghost")
    fail(shop, "towline link test ghost", AWAY, "ghost")
    with Going(shop, "towline", "deploy", "ghost/w4cli", "-f", "shop/compose.yaml", "--var", "COLOUR=x") as deploy:
        deploy.says("waiting")
        assert deploy.interrupt() == 130
        job = re.search(r"job_\w+", deploy.text)
    assert job, deploy.text
    succeed(shop, f"towline jobs cancel {job[0]}")
    fail(shop, f"towline jobs follow {job[0]}", FAILED, "cancelled")
    succeed(shop, "towline clusters remove ghost --yes")
    fail(shop, "towline clusters show ghost", NOT_FOUND)


def test_the_completion_script_completes_in_bash(shop: Product) -> None:
    script = """
    set -e
    eval "$(towline completion bash)"
    COMP_WORDS=(towline dep) COMP_CWORD=1
    "$(complete -p towline | sed 's/.*-F \\([^ ]*\\).*/\\1/')" towline
    printf '%s\\n' "${COMPREPLY[@]}"
    """
    assert succeed(shop, script).split() == ["deploy", "deployments"]
