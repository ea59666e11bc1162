"""Verbs of the host's own kubectl: what they touch, what is refused, and the argument list that it gets."""

from __future__ import annotations

import json

import pytest
from tests.unit.commandline.test_commandline_kubectl import kubectl, touched

from towline.commandline import hosted
from towline.commandline.errors import BadCommand

CONFIG_MAP = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {x: 'y'}\n"


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        (("label", "po/a", "x=y", "z-"), ["get pods default/a", "patch pods default/a"]),
        (("label", "pods", "a", "b", "x=y"), [
            "get pods default/a", "get pods default/b", "patch pods default/a", "patch pods default/b",
        ]),
        (("annotate", "pods", "-l", "app=web", "x=y"), ["list pods default/", "patch pods default/"]),
        (("taint", "nodes", "n1", "k=v:NoSchedule"), ["get nodes /n1", "patch nodes /n1"]),
        (("patch", "deploy/web", "-p", '{"spec":{"replicas":2}}'), [
            "get deployments.apps default/web", "patch deployments.apps default/web",
        ]),
        (("wait", "po/a", "--for=condition=Ready"), [
            "get pods default/a", "list pods default/a", "watch pods default/a",
        ]),
        (("events", "-A"), ["list events /"]),
        (("events", "--for", "pod/a", "-n", "web"), ["list events web/"]),
        (("auth", "can-i", "get", "pods"), ["create selfsubjectaccessreviews.authorization.k8s.io /"]),
        (("auth", "can-i", "--list"), ["create selfsubjectrulesreviews.authorization.k8s.io /"]),
        (("auth", "whoami"), ["create selfsubjectreviews.authentication.k8s.io /"]),
        (("cluster-info",), ["list services kube-system/"]),
    ],
)  # fmt: skip
def test_each_verb_names_every_request_that_it_makes(arguments: tuple[str, ...], found: list[str]) -> None:
    plan = kubectl(*arguments)

    assert plan.hosted
    assert touched(plan) == found


@pytest.mark.parametrize(
    ("verb", "found"),
    [
        ("create", ["create configmaps default/"]),
        ("replace", ["get configmaps default/a", "update configmaps default/a"]),
    ],
)
def test_a_manifest_comes_by_standard_input_alone(verb: str, found: list[str]) -> None:
    plan = kubectl(verb, "-f", "-", stdin=CONFIG_MAP)

    assert touched(plan) == found
    assert json.loads(hosted.standard_input(plan))["items"][0]["data"] == {"x": "y"}
    with pytest.raises(BadCommand, match="only `-f -`"):
        kubectl(verb, "-f", "/etc/passwd")


@pytest.mark.parametrize("words", [("version",), ("api-resources",), ("api-versions",), ("explain", "pods.spec")])
def test_what_asks_about_the_api_touches_no_object(words: tuple[str, ...]) -> None:
    (touch,) = kubectl(*words).touches

    assert not touch.is_resource


def test_the_argument_list_is_made_anew_with_names_behind_the_options() -> None:
    plan = kubectl("-n", "web", "label", "--overwrite", "deploy/a", "x=--as=admin", "--dry-run=server")

    assert hosted.arguments(plan, "--kubeconfig=/private") == [
        "label", "--overwrite=true", "--dry-run=server", "--namespace=web", "--field-manager=towline",
        "--kubeconfig=/private", "--", "deploy/a", "x=--as=admin",
    ]  # fmt: skip
    assert not plan.writes


def test_durations_are_written_as_kubectl_reads_them() -> None:
    plan = kubectl("wait", "po/a", "--for=delete", "--timeout=90", "-A=false")

    assert "--timeout=90s" in hosted.arguments(plan)
    assert "--namespace=default" in hosted.arguments(plan)


@pytest.mark.parametrize("flag", ["--as=admin", "--token=t", "--kubeconfig=/x", "--server=https://x", "-s", "-H"])
@pytest.mark.parametrize("words", [("auth", "whoami"), ("label", "po/a", "x=y"), ("wait", "po/a", "--for=delete")])
def test_flags_that_change_who_or_where_stay_refused(words: tuple[str, ...], flag: str) -> None:
    with pytest.raises(BadCommand, match="is not taken"):
        kubectl(*words, flag)


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("label", "po/a"), "KEY=VALUE"),
        (("label", "x=y"), "KEY=VALUE"),
        (("label", "po/a", "x=y", "pods/b"), "neither"),
        (("taint", "pods", "a", "k=v:NoSchedule"), "is for nodes"),
        (("wait", "po/a"), "--for is needed"),
        (("wait", "po/a", "--for=anything"), "--for is needed"),
        (("auth", "can-i"), "name a verb"),
        (("auth", "can-i", "get", "pods", "more"), "name a verb"),
        (("explain",), "one kind"),
        (("explain", "$(id)"), "one kind"),
        (("version", "--client"), "does not take"),
        (("events", "a"), "no names"),
        (("events", "--watch"), "not taken|does not take"),
        (("patch", "po/a", "-p", "nonsense"), "JSON"),
        (("patch", "po/a", "-p", "[]"), "JSON object"),
        (("patch", "po/a", "-p", "{}", "--type=json"), "one of merge, strategic"),
    ],
)
def test_what_cannot_be_read_is_refused_with_words(words: tuple[str, ...], why: str) -> None:
    with pytest.raises(BadCommand, match=why):
        kubectl(*words)


@pytest.mark.parametrize(
    ("target", "patch"),
    [
        ("deploy/web", '{"spec":{"template":{"spec":{"hostNetwork":true}}}}'),
        ("cronjob/web", '{"spec":{"jobTemplate":{}}}'),
        ("deploy/web", '{"spec":{"$patch":"replace"}}'),
        ("deploy/web", '{"spec":null}'),
        ("deploy/web", '{"$patch":"delete"}'),
        ("pod/web", '{"spec":{"containers":[]}}'),
    ],
)
def test_a_patch_never_changes_what_runs(target: str, patch: str) -> None:
    with pytest.raises(BadCommand, match="apply alone"):
        kubectl("patch", target, "-p", patch)


def test_a_patch_of_a_secret_is_refused_because_arguments_are_kept() -> None:
    with pytest.raises(BadCommand, match="secrets are not patched"):
        kubectl("patch", "secret/a", "-p", '{"data":{"x":"eQ=="}}')


def test_what_looks_like_a_secret_in_a_patch_is_masked() -> None:
    plan = kubectl("patch", "cm/a", "-p", '{"data":{"password":"hunter2"}}')

    assert plan.masked == ("patch", "cm/a", "-p", "***")
    assert kubectl("patch", "cm/a", '--patch={"data":{"apiKey":"k"}}').masked[-1] == "--patch=***"
