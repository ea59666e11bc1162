from datetime import UTC, datetime, timedelta

import pytest

from towline.control import forms
from towline.control.access.actor import Access, Actor
from towline.control.access.permissions import Right, Rights, Role
from towline.control.deployments.schemas import DiffLine
from towline.control.deployments.side_by_side import side_by_side
from towline.control.errors import ApiError, ErrorCode
from towline.control.web import ROOT, Web, ago, hops_of, iso, navigation, query, seconds, size

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def test_times_are_the_same_for_every_form_that_the_api_carries() -> None:
    assert iso(NOW) == iso("2026-01-02T03:04:05Z") == iso(NOW.timestamp()) == "2026-01-02T03:04:05Z"
    assert iso(None) == iso("") == iso(0) == ""


def test_a_relative_time_stays_the_same_within_its_unit() -> None:
    assert ago(NOW - timedelta(seconds=59), NOW) == "just now"
    assert ago(NOW - timedelta(minutes=5, seconds=59), NOW) == "5 min ago"
    assert ago(NOW + timedelta(minutes=1), NOW) == "soon"
    assert ago(None) == "never"


def test_sizes_and_durations_have_units() -> None:
    assert (size(1536), size(20 * 1024**2), seconds(0.25), seconds(90), seconds(600)) == (
        "1.5 KiB",
        "20 MiB",
        "250 ms",
        "90 s",
        "10 min",
    )


def test_an_address_keeps_only_parameters_with_a_value() -> None:
    assert query("/fleet", {"search": "a b", "state": ""}) == "/fleet?search=a%20b&"
    assert query("/fleet", {}) == "/fleet?"


@pytest.mark.parametrize("target", ["//evil", "/\\evil", "https:evil", "https://evil", "evil", "", "/a\nb", "/a\\b"])
def test_signing_in_never_leads_off_this_server(target: str) -> None:
    assert forms.local_path(target) == "/fleet"


def test_signing_in_leads_where_one_wanted_to() -> None:
    assert forms.local_path("/jobs?state=failed") == "/jobs?state=failed"


def test_labels_are_read_as_people_write_them() -> None:
    assert forms.labels(" env=prod, site=berlin ,") == {"env": "prod", "site": "berlin"}
    with pytest.raises(ApiError):
        forms.labels("env")


def line(sign: str, text: str, old: int = 0, new: int = 0) -> DiffLine:
    return DiffLine.model_validate({"sign": sign, "text": text, "old": old, "new": new})


def test_a_removed_line_stands_beside_the_one_that_took_its_place() -> None:
    rows = list(side_by_side([line(" ", "a", 1, 1), line("-", "b", 2), line("+", "c", 0, 2), line("+", "d", 0, 3)]))
    assert [(row["kind"], row["old"], row["new"]) for row in rows[0]["rows"]] == [
        ("same", "a", "a"),
        ("change", "b", "c"),
        ("add", None, "d"),
    ]


def test_unchanged_parts_are_folded() -> None:
    blocks = list(side_by_side([line("-", "a", 1), line("@", "12 lines"), line("+", "z", 0, 20)]))
    assert [block["folded"] for block in blocks] == ["", "12 lines", ""]


def test_the_first_page_loads_less_than_sixty_kilobytes() -> None:
    files = Web().static_files
    loaded = (
        "css/tokens.css",
        "css/towline.css",
        "vendor/htmx.js",
        "js/app.js",
        "js/events.js",
        "js/live.js",
        "js/times.js",
    )
    assert sum(len(files[name].compressed) or len(files[name].content) for name in loaded) < 60 * 1024


def test_an_error_on_the_way_to_a_host_names_the_hop_that_failed() -> None:
    hops = hops_of(ApiError(ErrorCode.AGENT_AWAY, "edge-1 is away since noon"))
    assert [(hop["name"], hop["state"]) for hop in hops] == [
        ("browser", "healthy"),
        ("control plane", "healthy"),
        ("link", "down"),
        ("agent", "unknown"),
        ("target", "unknown"),
    ]
    assert hops[2]["text"] == "edge-1 is away since noon"
    assert hops_of(ApiError(ErrorCode.INVALID, "no")) == []


def test_nobody_is_offered_a_place_that_refuses_them() -> None:
    viewer = Access(Actor("user", "org_default"), Rights((Right(Role.VIEWER),)))
    offered = ["fleet", "deployments", "routes", "jobs", "alerts", "access", "settings"]
    assert [key for key, _, _ in navigation(viewer)] == offered
    assert navigation(None) == []


def test_every_template_can_be_read() -> None:
    web = Web()
    for path in (ROOT / "templates").rglob("*.html"):
        web._environment.get_template(str(path.relative_to(ROOT / "templates")))


def test_no_template_holds_inline_script_or_style() -> None:
    for path in (ROOT / "templates").rglob("*.html"):
        text = path.read_text()
        assert " style=" not in text and "<style" not in text and "onclick=" not in text, path
        assert "|safe" not in text.replace(" ", ""), path
