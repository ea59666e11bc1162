"""Records of projects: which revisions are kept, and that damage to one hides no other."""

from pathlib import Path

import msgspec
import pytest

from towline.agent.errors import StorageError
from towline.agent.projects.records import KEPT_FAILED, Record, Records, Revision
from towline.compose.errors import NameRefused
from towline.wire import orders


@pytest.fixture
def records(tmp_path: Path) -> Records:
    return Records(tmp_path / "revisions", tmp_path / "projects")


def revision(number: int, *, good: bool = True, bundle: str = "") -> Revision:
    order = orders.Deploy(
        project="shop", org_id="o", deployment_id="d", revision=number, revision_id=f"rev_{number}", compose="x",
        bundle=bundle,
    )  # fmt: skip
    return Revision(order=order, is_good=good, deployed_at=float(number))


def keep(records: Records, record: Record, made: Revision, count: int = 2) -> Record:
    return records.keep(msgspec.structs.replace(record, running=made.revision_id), made, count)


def test_last_good_revisions_are_kept_and_older_ones_forgotten(records: Records) -> None:
    record = records.new("shop")
    for number in range(1, 6):
        record = keep(records, record, revision(number))

    assert record.revisions == ("rev_5", "rev_4")
    assert records.revision("shop", "rev_3") is None
    assert [each.revision_id for each in records.good(record, 5)] == ["rev_5", "rev_4"]


def test_failed_revisions_never_push_the_good_one_out(records: Records) -> None:
    record = keep(records, records.new("shop"), revision(1))
    record = msgspec.structs.replace(record, last_good="rev_1")
    for number in range(2, 10):
        record = keep(records, record, revision(number, good=False))

    assert "rev_1" in record.revisions
    assert len(record.revisions) == 1 + KEPT_FAILED


def test_bundles_of_kept_revisions_are_in_use(records: Records) -> None:
    record = records.new("shop")
    for number in (1, 2, 3):
        record = keep(records, record, revision(number, bundle=f"sha256:{number}"))

    assert records.bundles_in_use() == {"sha256:2", "sha256:3"}


def test_damaged_record_hides_no_other(records: Records, tmp_path: Path) -> None:
    records.save(records.new("shop"))
    records.save(records.new("blog"))
    (tmp_path / "revisions/blog/project.json").write_text("{")

    assert [record.project for record in records.known()] == ["shop"]
    with pytest.raises(StorageError, match="blog"):
        records.project("blog")


def test_changes_are_seen_and_removed_projects_are_gone(records: Records) -> None:
    records.save(records.new("shop"))
    assert records.project("shop") is not None
    records.save(msgspec.structs.replace(records.new("shop"), running="rev_9"))

    found = records.project("shop")
    assert found is not None
    assert found.running == "rev_9"
    records.forget("shop")
    assert records.project("shop") is None


@pytest.mark.parametrize("name", ["../x", "", "-rf", "A", "x" * 64])
def test_names_that_are_no_projects_touch_no_file(records: Records, name: str) -> None:
    with pytest.raises(NameRefused):
        records.project(name)
