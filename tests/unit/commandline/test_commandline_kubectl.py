"""What kubectl commands are read as, and what they touch."""

import pytest

from towline.commandline.errors import BadCommand
from towline.commandline.plan import Plan
from towline.commandline.reading import parse
from towline.kube.access import AccessTuple


def kubectl(*arguments: str, stdin: str = "", namespace: str = "default") -> Plan:
    return parse("kubectl", arguments, stdin=stdin, namespace=namespace)


def touched(plan: Plan) -> list[str]:
    """`verb kind[.group] namespace/name`, as the gate is asked."""
    return [
        f"{each.verb} {each.kind}{'.' if each.group else ''}{each.group} {each.namespace}/{each.name}"
        for each in plan.touches
    ]


def test_a_list_touches_the_kind_in_its_namespace() -> None:
    plan = kubectl("get", "pods", "-n", "web", "-o", "wide")
    assert touched(plan) == ["list pods web/"]
    assert not plan.writes
    assert plan.parsed.text("output") == "wide"


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        (("get", "po", "a", "b"), ["get pods default/a", "get pods default/b"]),
        (("get", "deploy/web", "svc/web"), ["get deployments.apps default/web", "get services default/web"]),
        (("get", "pods,services", "-A"), ["list pods /", "list services /"]),
        (("-n", "x", "get", "pods"), ["list pods x/"]),
        (("get", "--namespace=x", "pods"), ["list pods x/"]),
        (("get", "pods", "-nx"), ["list pods x/"]),
        (("get", "nodes"), ["list nodes /"]),
        (("get", "certificates.cert-manager.io"), ["list certificates.cert-manager.io default/"]),
        (("get", "clusterissuers.v1.cert-manager.io", "-A"), ["list clusterissuers.cert-manager.io /"]),
        (("get", "pods", "-w"), ["list pods default/", "watch pods default/"]),
        (("get", "pod/a", "--watch"), ["get pods default/a", "watch pods default/a"]),
        (("describe", "pod", "a"), ["get pods default/a", "list events default/"]),
        (("describe", "pod", "a", "--show-events=false"), ["get pods default/a"]),
        (("logs", "a", "main"), ["get pods default/a", "get pods/log default/a"]),
        (("logs", "-f", "sts/a"), ["get statefulsets.apps default/a", "list pods default/", "get pods/log default/"]),
        (("logs", "-l", "app=web"), ["list pods default/", "get pods/log default/"]),
        (("delete", "pod", "a"), ["delete pods default/a", "get pods default/a"]),
        (("delete", "pods", "-l", "a=b", "--wait=false"), ["delete pods default/", "list pods default/"]),
        (
            ("scale", "sts/a", "--replicas", "3"),
            ["patch statefulsets/scale.apps default/a", "get statefulsets/scale.apps default/a"],
        ),
        (("rollout", "restart", "ds/a"), ["get daemonsets.apps default/a", "patch daemonsets.apps default/a"]),
        (("rollout", "history", "ds/a"), ["get daemonsets.apps default/a", "list controllerrevisions.apps default/"]),
        (("cordon", "n1"), ["get nodes /n1", "patch nodes /n1"]),
        (("drain", "n1"), ["get nodes /n1", "patch nodes /n1", "list pods /", "get pods /", "create pods/eviction /"]),
        (("top", "pods", "-A"), ["list pods.metrics.k8s.io /"]),
    ],
)  # fmt: skip
def test_each_verb_names_every_request_that_it_makes(arguments: tuple[str, ...], found: list[str]) -> None:
    assert touched(kubectl(*arguments)) == found


@pytest.mark.parametrize(
    "flag",
    [
        "--kubeconfig=/etc/x", "--as=admin", "--as-group=system:masters", "--as-uid=1", "--token=t", "--server=https://x",
        "-s", "--cluster=x", "--context=x", "--user=x", "--username=x", "--password=x", "--client-key=x",
        "--client-certificate=x", "--certificate-authority=x", "--insecure-skip-tls-verify", "--tls-server-name=x",
        "-H", "--cache-dir=/tmp", "--profile=cpu", "--profile-output=x",
    ],
)  # fmt: skip
@pytest.mark.parametrize("first", [True, False])
def test_flags_that_change_who_or_where_are_refused_by_name(flag: str, first: bool) -> None:
    arguments = (flag, "get", "pods") if first else ("get", "pods", flag)
    with pytest.raises(BadCommand, match="is not taken: "):
        kubectl(*arguments)


@pytest.mark.parametrize(
    "verb", ["exec", "attach", "port-forward", "proxy", "cp", "edit", "run", "debug", "config", "plugin"]
)
def test_verbs_of_a_terminal_are_sent_to_the_users_own_kubectl(verb: str) -> None:
    with pytest.raises(BadCommand, match="towline kubeconfig"):
        kubectl(verb, "x")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "needs a verb"),
        (("frobnicate",), "has no verb"),
        (("get",), "name a kind"),
        (("get", "pods", "--nonsense"), "does not take"),
        (("get", "pods", "-x"), "does not take"),
        (("get", "widgets"), "with their group"),
        (("get", "pods", "-o", "go-template={{.}}"), "--output"),
        (("get", "pods", "a", "-l", "x=y"), "exclude"),
        (("get", "pods", "a", "-A"), "exclude|cannot"),
        (("get", "pods,nodes", "-w"), "one kind or one object"),
        (("get", "pods", "a", "b", "-w"), "one kind or one object"),
        (("get", "pods", "-w", "-o", "json"), "as a table"),
        (("get", "pods/a", "b"), "KIND/NAME"),
        (("get", "pods", "-n", "../kube-system"), "no name of a namespace"),
        (("get", "pods", "a/../../secrets/b"), "no name|KIND/NAME|all arguments"),
        (("get", "pods", "--namespace"), "needs a value"),
        (("get", "pods", "-n", "a", "-n", "b"), "twice"),
        (("logs",), "name a pod"),
        (("logs", "a", "--tail", "many"), "whole number"),
        (("logs", "a", "--since", "yesterday"), "duration"),
        (("logs", "service/a"), "is for"),
        (("delete", "pods"), "say which"),
        (("delete", "-f", "/etc/passwd"), "only `-f -`"),
        (("apply", "-f", "https://example.org/x.yaml"), "only `-f -`"),
        (("apply", "-f", "-"), "holds no object"),
        (("scale", "deploy/web"), "--replicas"),
        (("scale", "pod/web", "--replicas=1"), "is for"),
        (("scale", "deploy/web", "--replicas=-1"), "--replicas"),
        (("rollout", "restart", "pod/a"), "is for"),
        (("drain",), "name the nodes"),
        (("get", "pods", "--no-headers=maybe"), "true or false"),
    ],
)  # fmt: skip
def test_what_cannot_be_run_is_refused_with_the_reason(arguments: tuple[str, ...], words: str) -> None:
    with pytest.raises(BadCommand, match=words):
        kubectl(*arguments)


@pytest.mark.parametrize("text", ["; rm -rf /", "$(id)", "`id`", "a\nb", "a && b", "| sh", "../x", "a%2f..%2fb", "*"])
def test_words_of_a_shell_are_plain_text_and_no_names(text: str) -> None:
    with pytest.raises(BadCommand, match=r"no name|KIND/NAME"):
        kubectl("get", "pods", text)
    with pytest.raises(BadCommand):
        kubectl("get", text)
    assert kubectl("get", "pods", "-l", text).parsed.text("selector") == text


MANIFEST = """
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {a: "1"}
---
# only words
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: reader}
---
apiVersion: cert-manager.io/v1
kind: Policy
metadata: {name: mine}
"""


def test_a_manifest_touches_each_of_its_objects() -> None:
    plan = kubectl("apply", "-f", "-", stdin=MANIFEST, namespace="team")
    assert plan.writes
    assert touched(plan) == [
        "patch configmaps team/settings",
        "patch deployments.apps shop/web",
        "patch clusterroles.rbac.authorization.k8s.io /reader",
        "patch policies.cert-manager.io team/mine",
    ]
    assert plan.manifests[0].body["data"] == {"a": "1"}
    assert "data" not in repr(plan)


def test_a_manifest_keeps_to_the_namespace_that_was_named() -> None:
    with pytest.raises(BadCommand, match="is of the namespace shop"):
        kubectl("apply", "-f", "-", "-n", "team", stdin=MANIFEST)


def test_a_list_is_unfolded_and_json_is_yaml() -> None:
    item = '{"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}}'
    plan = kubectl("delete", "-f", "-", "--wait=false", stdin=f'{{"kind": "List", "items": [{item}]}}')
    assert touched(plan) == ["delete secrets default/s"]


def test_standard_input_that_nobody_reads_is_refused() -> None:
    with pytest.raises(BadCommand, match="reads no standard input"):
        kubectl("get", "pods", stdin="x")
    with pytest.raises(BadCommand, match="reads no standard input"):
        parse("docker", ["ps"], stdin="x")


def test_a_dry_run_writes_nothing() -> None:
    assert not kubectl("delete", "pod", "a", "--dry-run=server").writes
    assert kubectl("delete", "pod", "a", "--dry-run").parsed.text("dry-run") == "server"
    assert kubectl("delete", "pod", "a", "--dry-run=none").writes


def test_a_plan_covers_what_it_announced_and_nothing_else() -> None:
    plan = kubectl("get", "pods", "a", "-n", "web")
    assert plan.covers(AccessTuple("get", "", "v1", "pods", "", "web", "a"))
    assert not plan.covers(AccessTuple("get", "", "v1", "pods", "", "web", "b"))
    assert not plan.covers(AccessTuple("get", "", "v1", "pods", "", "other", "a"))
    assert not plan.covers(AccessTuple("get", "", "v1", "pods", "log", "web", "a"))
    assert not plan.covers(AccessTuple("list", "", "v1", "pods", "", "web", ""))
    assert not plan.covers(AccessTuple("list", "", "v1", "pods", "", "", ""))


def test_all_namespaces_cover_each_of_them() -> None:
    plan = kubectl("get", "pods", "-A")
    assert plan.covers(AccessTuple("list", "", "v1", "pods", "", "web", ""))


def test_arguments_behind_two_dashes_are_no_flags() -> None:
    assert kubectl("get", "pods", "--", "a").targets[0].names == ("a",)


def test_too_much_is_refused() -> None:
    with pytest.raises(BadCommand, match="at most 200 arguments"):
        kubectl("get", "pods", *["a"] * 200)
    with pytest.raises(BadCommand, match="bytes"):
        kubectl("get", "pods", "-l", "x" * 9000)
    with pytest.raises(BadCommand, match="bytes"):
        kubectl("apply", "-f", "-", stdin="a" * 600_000)
    with pytest.raises(BadCommand, match="character that is none"):
        kubectl("get", "po\0ds")
