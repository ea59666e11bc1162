"""The dashboard's file: small, on its own, and allowed to run nothing but itself."""

from __future__ import annotations

import base64
import hashlib
import re

from towline.agent.surface import dashboard

BODY, POLICY = dashboard.page()
TEXT = BODY.decode()


def directives() -> dict[str, list[str]]:
    return {name: values for name, *values in (part.split() for part in POLICY.split(";"))}


def test_page_is_small() -> None:
    assert len(BODY) < dashboard.LARGEST_BYTES


def test_policy_names_the_hash_of_each_block_and_nothing_else() -> None:
    for kind in ("script", "style"):
        (block,) = re.findall(rf"<{kind}>(.*?)</{kind}>", TEXT, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(block.encode()).digest()).decode()
        assert directives()[f"{kind}-src"] == [f"'sha256-{digest}'"]
    assert "unsafe" not in POLICY


def test_policy_forbids_everything_that_is_not_named() -> None:
    found = directives()
    assert found["default-src"] == found["base-uri"] == found["form-action"] == found["frame-ancestors"] == ["'none'"]
    assert found["connect-src"] == ["'self'"]
    assert found["img-src"] == ["data:"]


def test_page_needs_nothing_from_elsewhere() -> None:
    assert re.findall(r"""(?:src|href)\s*=\s*["'](?!data:|#)""", TEXT) == []
    addresses = set(re.findall(r"https?://[^\s'\"<>)]+", TEXT))
    assert addresses <= {"http://www.w3.org/2000/svg"}
    assert "@import" not in TEXT


def test_page_has_no_inline_handlers_and_no_style_attributes() -> None:
    markup = re.sub(r"<(script|style)>.*?</\1>", "", TEXT, flags=re.DOTALL)
    assert re.findall(r"\s(?:on[a-z]+|style)\s*=", markup) == []


def test_script_never_makes_markup_out_of_text() -> None:
    for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function"):
        assert word not in TEXT


def test_token_is_never_put_into_an_address_a_cookie_or_what_stays() -> None:
    assert "document.cookie" not in TEXT
    assert re.findall(r"localStorage\.setItem\(([^,]+),", TEXT) == ['"towline-agent-theme"']
    assert re.findall(r"[?&](?:token|access_token)=", TEXT) == []


def test_each_changed_byte_changes_the_policy() -> None:
    changed = BODY.replace(b'"use strict";', b'"use strict"; ', 1)
    assert changed != BODY
    assert dashboard.policy(changed) != POLICY
