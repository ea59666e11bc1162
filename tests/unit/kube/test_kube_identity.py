"""Identities: what may be asserted in a cluster, and how it is said in header lines."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from towline.kube.identity import AUTHENTICATED, BadIdentity, Identity, check, impersonation

GROUPS = ("towline:role:viewer",)
SESSION = "towline.dev/session"


def identity(user: str = "towline:ana", groups: tuple[str, ...] = GROUPS, **extra: tuple[str, ...]) -> Identity:
    return Identity(user, groups, {f"towline.dev/{key}": values for key, values in extra.items()})


@pytest.mark.parametrize(
    "good",
    [
        identity(),
        identity("towline:ana@example.test"),
        identity("towline:robot:ci"),
        identity("towline:a,b"),
        identity(groups=("towline:role:admin", "towline:team:a,b", "towline:team:blue team", AUTHENTICATED)),
        identity(session=("s-1", "s-2")),
    ],
)
def test_identity_of_ours_is_accepted(good: Identity) -> None:
    check(good)
    assert impersonation(good, "r-1")


@pytest.mark.parametrize(
    "user",
    [
        "", " ", "towline:", "towline: ", "ana", "Towline:ana", "TOWLINE:ana", " towline:ana", "towline:ana ",
        "system:admin", "system:kube-controller-manager", "system:anonymous", "system:unauthenticated",
        "system:serviceaccount:a:b", "system:node:n", "system:masters", "x-towline:ana", "towline",
        "towline:ana\n", "towline:a\r\nImpersonate-Group: system:masters", "towline:a\x00", "towline:a\tb",
        "towline:\x7f", "towline:änne", "towline:\u202eana", "towline:ana\u00a0",
    ],
)  # fmt: skip
def test_user_that_is_not_plainly_ours_is_refused(user: str) -> None:
    with pytest.raises(BadIdentity):
        impersonation(identity(user), "r-1")


@pytest.mark.parametrize(
    "group",
    [
        "", " ", "admins", "towline:", "towline: ", "system:masters", "system:nodes", "system:unauthenticated",
        "system:serviceaccounts", "system:authenticated ", "SYSTEM:AUTHENTICATED", "Towline:role:admin",
        "towline:role:admin\n", "towline:a\r\nX: y", "towline:röle", "towline:a\x00",
    ],
)  # fmt: skip
def test_group_that_is_not_plainly_ours_is_refused(group: str) -> None:
    with pytest.raises(BadIdentity):
        impersonation(identity(groups=(*GROUPS, group)), "r-1")


def test_identity_without_any_group_is_refused() -> None:
    with pytest.raises(BadIdentity):
        impersonation(identity(groups=()), "r-1")


@pytest.mark.parametrize(
    "extra",
    [
        {"scopes": ("a",)}, {"towline.dev/": ("a",)}, {"Towline.dev/session": ("a",)}, {"towline.dev/Session": ("a",)},
        {"authentication.kubernetes.io/pod-name": ("a",)}, {"towline.dev/a b": ("a",)}, {"towline.dev/a/b": ("a",)},
        {"towline.dev/ä": ("a",)}, {"": ("a",)}, {"towline.dev/a:": ("a",)}, {"towline.dev/a\r\nX": ("a",)},
        {SESSION: ("",)}, {SESSION: ("a\nb",)}, {SESSION: ("ä",)}, {SESSION: ("fine", " a")},
    ],
)  # fmt: skip
def test_extra_that_is_not_plainly_ours_is_refused(extra: dict[str, tuple[str, ...]]) -> None:
    with pytest.raises(BadIdentity):
        impersonation(Identity("towline:ana", GROUPS, extra), "r-1")


@pytest.mark.parametrize("request_id", ["a\r\nb", " ", "ä", "a\x00"])
def test_request_id_that_a_header_cannot_carry_is_refused(request_id: str) -> None:
    with pytest.raises(BadIdentity):
        impersonation(identity(), request_id)


def test_refusal_does_not_repeat_what_it_refuses() -> None:
    with pytest.raises(BadIdentity) as caught:
        check(identity("towline:s3cret\n"))
    assert "s3cret" not in str(caught.value)


def test_each_group_is_a_line_of_its_own() -> None:
    lines = impersonation(identity(groups=("towline:role:viewer", "towline:team:a,b")), "r-1")
    assert lines[:3] == [
        (b"Impersonate-User", b"towline:ana"),
        (b"Impersonate-Group", b"towline:role:viewer"),
        (b"Impersonate-Group", b"towline:team:a,b"),
    ]


def test_extra_keys_are_percent_encoded() -> None:
    assert impersonation(identity(session=("s-1", "s-2")), "r-1")[2:] == [
        (b"Impersonate-Extra-towline.dev%2Fsession", b"s-1"),
        (b"Impersonate-Extra-towline.dev%2Fsession", b"s-2"),
        (b"Impersonate-Extra-towline.dev%2Frequest-id", b"r-1"),
    ]


def test_request_id_is_said_once_and_by_us() -> None:
    given_before = Identity("towline:ana", GROUPS, {"towline.dev/request-id": ("forged",)})
    assert [value for name, value in impersonation(given_before, "r-1") if b"request-id" in name] == [b"r-1"]
    assert not [value for name, value in impersonation(given_before, "") if b"request-id" in name]


def test_uid_is_never_sent() -> None:
    assert not [
        name for name, _ in impersonation(identity(session=("s",)), "r-1") if name.lower() == b"impersonate-uid"
    ]


def test_lines_of_one_request_are_not_those_of_the_next() -> None:
    first = impersonation(identity(), "r-1")
    first.append((b"Impersonate-Group", b"system:masters"))
    assert (b"Impersonate-Group", b"system:masters") not in impersonation(identity(), "r-2")


@given(
    st.text(max_size=20),
    st.lists(st.text(max_size=20), max_size=3),
    st.dictionaries(st.text(max_size=10), st.just(("v",))),
)
def test_whatever_passes_has_a_user_a_group_and_clean_lines(
    user: str, groups: list[str], extra: dict[str, tuple[str]]
) -> None:
    named = Identity(f"towline:{user}", [f"towline:{group}" for group in groups], extra)
    try:
        lines = impersonation(named, "r-1")
    except BadIdentity:
        return
    assert lines[0] == (b"Impersonate-User", named.user.encode())
    assert [value.decode() for name, value in lines if name == b"Impersonate-Group"] == list(named.groups) != []
    for name, value in lines:
        assert value == value.strip() != b""
        assert not any(byte < 0x20 or byte > 0x7E for byte in name + value)
