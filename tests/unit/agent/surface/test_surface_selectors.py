"""Label selectors as kubectl takes them. Source: apimachinery labels/selector_test.go for what is one."""

import pytest

from towline.agent.surface.selectors import BadSelector, parse

LABELS = {"app": "web", "tier": "front", "app.kubernetes.io/name": "shop", "empty": ""}


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "app=web", "app==web", "app = web", "app!=api", "other!=web", "app in (web)", "app in (api, web)",
        "app notin (api,db)", "other notin (a)", "app", "!other", "app=web,tier=front", " app=web , !other ",
        "app.kubernetes.io/name=shop", "empty=", "empty in ()", "app in (web,),tier",
    ],
)  # fmt: skip
def test_selector_matches(text: str) -> None:
    assert parse(text).matches(LABELS)


@pytest.mark.parametrize(
    "text",
    [
        "app=api", "app!=web", "app in (api,db)", "app notin (web)", "!app", "other", "other=", "app=web,tier=back",
        "app.kubernetes.io/name in (a,b)", "other in (web)",
    ],
)  # fmt: skip
def test_selector_does_not_match(text: str) -> None:
    assert not parse(text).matches(LABELS)


@pytest.mark.parametrize(
    "text",
    [
        ",", "app=web,", ",app=web", "app=web,,tier", "app in web", "app in (web", "app)", "(app)", "app=a=b",
        "app=we b",
        "-app", "app-=x", "app in (we b)", "app in (-x)", "a/b/c=x", "/name", "app>1", "!app=web", "app\n=x\n,", "äpp",
        "x" * 5000,
    ],
)  # fmt: skip
def test_what_is_no_selector_is_refused(text: str) -> None:
    with pytest.raises(BadSelector):
        parse(text)
