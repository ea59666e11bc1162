"""Merging into kubeconfig files: whatever is not ours survives, and a second run changes nothing."""

import string
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from towline.cli.kube.entries import Server, entries_of
from towline.cli.kube.merging import Broken, Foreign, merge

SERVER = Server("https://towline.example", authority="-----BEGIN-----\nx\n")
KINDS = {"clusters": "cluster", "users": "user", "contexts": "context"}

COMMENTED = """\
# mine
apiVersion: v1
kind: Config
preferences: {}
clusters:
# the old one
- cluster:
    server: https://10.0.0.1:6443  # at home
    insecure-skip-tls-verify: true
  name: home
contexts:
  - name: home
    context:
      cluster: home
      user: me # myself
      namespace: "0123"
users:
- name: me
  user:
    token: 0123
    # end of the token
current-context: home
# the end
"""


def merged(text: str, *names: str, current: str = "") -> str:
    return merge(text, entries_of(SERVER, names or ("edge-1",)), current)


def by_name(text: str, kind: str) -> dict[str, Any]:
    return {entry["name"]: entry[KINDS[kind]] for entry in entries(read(text), kind)}


def read(text: str) -> dict[str, Any]:
    """Every scalar as it was written."""
    return yaml.load(text, Loader=yaml.BaseLoader) or {}


def entries(document: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    listed = document.get(kind)
    return listed if isinstance(listed, list) else []


def test_an_empty_file_becomes_the_kubeconfig_of_the_documentation() -> None:
    found = yaml.safe_load(merged(""))
    assert found["kind"], found["apiVersion"] == ("Config", "v1")
    assert found["current-context"] == "edge-1"
    assert found["clusters"][0]["cluster"]["server"] == "https://towline.example/k8s/clusters/edge-1"
    assert found["contexts"][0]["context"] == {"cluster": "edge-1", "user": "towline.example", "namespace": "default"}
    plugin = found["users"][0]["user"]["exec"]
    assert plugin["args"] == ["k8s-token", "--server", "https://towline.example"]
    assert (plugin["interactiveMode"], plugin["provideClusterInfo"]) == ("IfAvailable", True)


def test_without_a_private_authority_there_is_no_authority_in_the_file() -> None:
    text = merge("", entries_of(Server("https://towline.example"), ["a"]))
    assert "certificate-authority" not in text and "insecure" not in text


def test_comments_layout_and_foreign_scalars_stay_as_they_were() -> None:
    text = merged(COMMENTED)
    for line in COMMENTED.splitlines():
        assert line in text.splitlines()
    assert by_name(text, "users")["me"] == {"token": "0123"}
    assert set(by_name(text, "clusters")) == {"home", "edge-1"}
    assert yaml.safe_load(text)["current-context"] == "home"


def test_one_user_serves_all_clusters_of_a_control_plane() -> None:
    text = merged(merged("", "a"), "b", "c")
    assert list(by_name(text, "users")) == ["towline.example"]
    assert list(by_name(text, "contexts")) == ["a", "b", "c"]


def test_another_port_is_another_control_plane() -> None:
    text = merge(merged("", "a"), entries_of(Server("https://towline.example:8443"), ["b"]))
    assert list(by_name(text, "users")) == ["towline.example", "towline.example:8443"]


def test_a_namespace_and_a_proxy_that_the_user_chose_stay() -> None:
    text = merged("").replace("namespace: default", "namespace: shop")
    text = text.replace("    server:", "    proxy-url: socks5://localhost:1080\n    server:")
    again = merged(text)
    assert again == text
    moved = merge(text, entries_of(Server("https://towline.example", "other"), ["edge-1"]))
    assert by_name(moved, "clusters")["edge-1"]["proxy-url"] == "socks5://localhost:1080"
    assert by_name(moved, "contexts")["edge-1"]["namespace"] == "shop"


def test_an_authority_that_is_public_now_is_taken_out() -> None:
    text = merge(merged(""), entries_of(Server("https://towline.example"), ["edge-1"]))
    assert "certificate-authority-data" not in text


def test_verification_that_somebody_turned_off_for_our_cluster_is_on_again() -> None:
    text = merged("").replace("    server:", "    insecure-skip-tls-verify: true\n    server:")
    assert "insecure" not in merged(text)


def test_a_context_is_made_current_when_asked() -> None:
    text = merged(COMMENTED, current="edge-1")
    assert yaml.safe_load(text)["current-context"] == "edge-1"
    assert "# the end" in text and "# mine" in text


@pytest.mark.parametrize(
    ("kind", "name"), [("clusters", "edge-1"), ("contexts", "edge-1"), ("users", "towline.example")]
)
def test_a_foreign_entry_of_the_same_name_is_never_overwritten(kind: str, name: str) -> None:
    inner = {"clusters": {"server": "https://other"}, "contexts": {"cluster": "x"}, "users": {"token": "t"}}[kind]
    text = yaml.safe_dump({"kind": "Config", kind: [{"name": name, KINDS[kind]: inner}]})
    with pytest.raises(Foreign) as caught:
        merged(text)
    assert (caught.value.kind, caught.value.name) == (kind, name)


@pytest.mark.parametrize(
    "text",
    [
        "clusters: [", "- a\n- b\n", "just words", "kind: Pod\n", "clusters: {}x\n", "clusters:\n- 5\n",
        "clusters:\n- cluster: {}\n", "users: words\n", "a: 1\n---\nb: 2\n", "a: &x [*x]\n", "clusters: &x [*x]\n",
        "contexts:\n- name: a\n  context: []5\n", "contexts:\n- name: a\n  context: 5\n",
        "\tkind: Config\n", "a: *gone\n",
    ],
)  # fmt: skip
def test_a_broken_file_is_refused(text: str) -> None:
    with pytest.raises(Broken):
        merged(text)


@pytest.mark.parametrize(
    "text",
    [
        "clusters: []\nusers: null\ncontexts:\n", "clusters: [] # none\nusers: ~ # nobody\n", "# only words\n", "{}",
        "---\n",
        "kind: Config\n...\n", '{"kind": "Config", "clusters": [{"name": "a", "cluster": {"server": "x"}}]}',
        "clusters: [{name: a, cluster: {server: x}}]\n", "kind: Config\r\nclusters:\r\n- name: a\r\n  cluster: {}\r\n",
        "clusters:\n- name: a\n  cluster: &c\n    server: x\n- name: b\n  cluster: *c\n", "\ufeffkind: Config\n",
        "current-context:\nkind: Config", 'current-context: ""\n',
        "users:\n- name: a\n  user:\n    token: |\n      x\n      y\n\n",
    ],
)  # fmt: skip
def test_unusual_layouts_keep_their_entries_and_settle_at_once(text: str) -> None:
    once = merged(text, "a1", "a2")
    before, after = read(text), read(once)
    for kind in KINDS:
        for entry in entries(before, kind):
            assert entry in after[kind]
    assert after["current-context"] == "a1"
    assert merged(once, "a1", "a2") == once


words = st.text(string.ascii_letters + string.digits + " :#-\"'@{}[]&*!%|>\\é\n\t", max_size=12)
scalars = st.one_of(words, st.integers(), st.booleans(), st.none())
values = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(words, inner, max_size=3)),
    max_leaves=6,
)
names = words.filter(lambda word: word not in {"edge-1", "towline.example"})


@st.composite
def configs(draw: st.DrawFn) -> str:
    document: dict[str, Any] = {"apiVersion": "v1", "kind": "Config"}
    for kind, inner in KINDS.items():
        if draw(st.booleans()):
            bodies = st.dictionaries(words, values, max_size=3)
            document[kind] = [
                {"name": name, inner: draw(bodies)} for name in draw(st.lists(names, max_size=3, unique=True))
            ]
    if draw(st.booleans()):
        document["current-context"] = draw(names)
    for key in draw(st.lists(words.map(lambda word: f"x-{word}"), max_size=2, unique=True)):
        document[key] = draw(values)
    return yaml.safe_dump(
        document, sort_keys=draw(st.booleans()), default_flow_style=draw(st.sampled_from([False, None, True])),
        indent=draw(st.sampled_from([2, 4])), width=draw(st.sampled_from([20, 80])), allow_unicode=True,
        explicit_start=draw(st.booleans()), explicit_end=draw(st.booleans()),
    )  # fmt: skip


@given(configs(), st.booleans())
def test_every_foreign_entry_survives_and_a_second_run_changes_nothing(text: str, switch: bool) -> None:
    current = "edge-1" if switch else ""
    once = merged(text, current=current)
    before, after = read(text), read(once)
    ours = {"edge-1", "towline.example"}
    for kind in KINDS:
        assert [entry for entry in after[kind] if entry["name"] not in ours] == entries(before, kind)
    rest = {key: value for key, value in before.items() if key not in KINDS and key != "current-context"}
    assert rest == {key: value for key, value in after.items() if key not in KINDS and key != "current-context"}
    assert merged(once, current=current) == once
