"""Who may play which recordings: as the condition finds them among rows."""

from datetime import UTC, datetime

import pytest
from sqlalchemy import create_engine, select
from sqlalchemy.orm import Session

from towline.control.access.actor import Access, Actor
from towline.control.access.permissions import Reach, Right, Rights, Role, ScopeKind
from towline.control.ids import DEFAULT_ORG
from towline.control.recordings.models import Recording
from towline.control.recordings.repository import visible

MOMENT = datetime(2026, 1, 1, tzinfo=UTC)
LIMIT = (Right(Role.ADMIN, Reach(ScopeKind.CLUSTER, cluster_id="clu_a")),)


def row(name: str, cluster: str, token: str = "", user: str = "usr_1") -> Recording:
    return Recording(
        id=name, org_id=DEFAULT_ORG, cluster_id=cluster, cluster_name=cluster, kind="kubernetes", action="exec",
        user_id=user, user_name=user, token_id=token, began_at=MOMENT, expires_at=MOMENT, state="whole", columns=80,
        rows=24,
    )  # fmt: skip


def seen(rights: Rights, token: str = "") -> set[str]:
    """Return what somebody may play of four sessions."""
    actor = Actor(kind="token" if token else "session", org_id=DEFAULT_ORG, user_id="usr_1", token_id=token)
    engine = create_engine("sqlite://")
    Recording.metadata.create_all(engine, tables=[Recording.metadata.tables["recording"]])
    rows = [row("own-b", "clu_b"), row("own-a", "clu_a"), row("by-token-b", "clu_b", "tok_1")]
    with Session(engine) as session:
        session.add_all([*rows, row("other-b", "clu_b", user="usr_2")])
        session.flush()
        found = set(session.scalars(select(Recording.id).where(visible(Access(actor, rights)))))
    engine.dispose()
    return found


def test_people_play_their_own_sessions_everywhere() -> None:
    assert seen(Rights((Right(Role.VIEWER),))) == {"own-a", "own-b", "by-token-b"}


@pytest.mark.parametrize(("limit", "places"), [(LIMIT, {"own-a"}), ((Right(Role.VIEWER),), set[str]())])
def test_limited_token_plays_what_its_limit_reaches_and_what_it_did_itself(
    limit: tuple[Right, ...], places: set[str]
) -> None:
    assert seen(Rights((Right(Role.OWNER),), limit), "tok_1") == places | {"by-token-b"}
