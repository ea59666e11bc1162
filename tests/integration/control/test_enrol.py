"""Join tokens and enrolment over the API."""

import asyncio
from datetime import timedelta

import pytest
from sqlalchemy import update
from tests.support.control_app import ControlApp
from tests.support.scripted_agent import Identity, join_token

from towline.control.access.permissions import Role
from towline.control.agents import keys
from towline.control.agents.models import Agent, AgentKey, JoinToken
from towline.control.audit.models import AuditEvent
from towline.control.clusters.models import Cluster, ClusterLabel
from towline.control.db import now
from towline.wire import tokens


async def _audited(app: ControlApp, action: str) -> list[AuditEvent]:
    return [event for event in await app.rows(AuditEvent) if event.action == action]


async def test_a_join_token_needs_an_admin(control_app: ControlApp) -> None:
    answer = await control_app.client().post("/api/v1/join-tokens", json={})
    assert answer.status_code == 401
    deployer = await control_app.user("dora", Role.DEPLOYER)
    for call in (deployer.post("/api/v1/join-tokens", json={}), deployer.get("/api/v1/join-tokens")):
        assert (await call).status_code == 403


async def test_the_text_of_a_token_is_shown_once_and_stored_nowhere(control_app: ControlApp) -> None:
    made = await join_token(control_app, cluster_name="edge-1", labels={"env": "prod"})
    assert tokens.is_well_formed(made["token"], tokens.JOIN)
    listed = (await control_app.joiner.get("/api/v1/join-tokens")).text
    assert made["id"] in listed
    assert made["token"] not in listed
    (row,) = await control_app.rows(JoinToken)
    assert made["token"] not in str(vars(row))
    assert made["token"] not in str([vars(event) for event in await control_app.rows(AuditEvent)])


async def test_an_agent_enrols_and_gets_the_name_and_labels_of_its_token(control_app: ControlApp) -> None:
    made = await join_token(control_app, cluster_name="edge-1", labels={"env": "prod"})
    identity = Identity()
    answer = (await identity.enrol(control_app.client(), made["token"])).json()
    assert answer["cluster_name"] == "edge-1"
    assert answer["generation"] == 1
    assert answer["link_path"] == "/api/v1/agents/link"
    (label,) = await control_app.rows(ClusterLabel)
    assert (label.key, label.value) == ("env", "prod")
    (event,) = await _audited(control_app, "agent.enrol")
    assert (event.result, event.target_id) == ("done", answer["agent_id"])
    shown = (await control_app.joiner.get(f"/api/v1/join-tokens/{made['id']}")).json()
    assert shown["state"] == "used"
    assert shown["agents"][0]["cluster_id"] == answer["cluster_id"]


async def test_a_host_without_a_given_name_is_called_after_itself(control_app: ControlApp) -> None:
    made = await join_token(control_app, max_uses=2)
    names = []
    for _ in range(2):
        answer = await Identity().enrol(control_app.client(), made["token"], hostname="DB_1.example.org")
        names.append(answer.json()["cluster_name"])
    assert names == ["db_1", "db_1-2"]


async def test_thirty_at_once_redeem_a_single_use_token_once(control_app: ControlApp) -> None:
    made = await join_token(control_app)
    client = control_app.client()
    bodies = [await Identity().application(client, made["token"]) for _ in range(30)]
    answers = await asyncio.gather(*(client.post("/api/v1/agents/enrol", json=body) for body in bodies))
    codes = sorted(answer.status_code for answer in answers)
    assert codes == [200] + [401] * 29
    assert {answer.json()["error"]["detail"]["reason"] for answer in answers if not answer.is_success} == {"used"}
    assert len(await control_app.rows(Agent)) == 1


async def test_a_lost_answer_is_given_again_to_the_same_key(control_app: ControlApp) -> None:
    made = await join_token(control_app)
    identity = Identity()
    first = await identity.enrol(control_app.client(), made["token"])
    again = await identity.enrol(control_app.client(), made["token"])
    assert again.status_code == 200
    assert again.json()["agent_id"] == first.json()["agent_id"]
    assert len(await control_app.rows(AgentKey)) == 1


async def test_the_same_key_at_once_makes_one_agent(control_app: ControlApp) -> None:
    made = await join_token(control_app, max_uses=5)
    identity, client = Identity(), control_app.client()
    bodies = [await identity.application(client, made["token"]) for _ in range(5)]
    answers = await asyncio.gather(*(client.post("/api/v1/agents/enrol", json=body) for body in bodies))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.json()["agent_id"] for answer in answers}) == 1


async def test_a_key_that_is_known_is_refused_with_another_token(control_app: ControlApp) -> None:
    identity = Identity()
    await identity.enrol(control_app.client(), (await join_token(control_app))["token"])
    answer = await identity.enrol(control_app.client(), (await join_token(control_app))["token"])
    assert answer.status_code == 409
    assert answer.json()["error"]["code"] == "agent_key_known"
    assert [event.result for event in await _audited(control_app, "agent.enrol")] == ["done", "refused"]


async def test_a_repeated_answer_ends_after_fifteen_minutes(control_app: ControlApp) -> None:
    made = await join_token(control_app)
    identity = Identity()
    await identity.enrol(control_app.client(), made["token"])
    async with control_app.control.db.begin() as tx:
        await tx.execute(update(Agent).values(created_at=now(-901)))
    assert (await identity.enrol(control_app.client(), made["token"])).status_code == 409


@pytest.mark.parametrize(
    ("change", "reason", "words"),
    [
        ({"expires_at": now(-1)}, "expired", "expired at"),
        ({"revoked": True}, "revoked", "was revoked"),
        ({"used": 1}, "used", "used already"),
        ({"networks": ["10.0.0.0/8"]}, "network", "may not be used from 192.0.2.7"),
    ],
)
async def test_a_token_that_cannot_be_used_says_why(
    control_app: ControlApp, change: dict[str, object], reason: str, words: str
) -> None:
    made = await join_token(control_app)
    async with control_app.control.db.begin() as tx:
        await tx.execute(update(JoinToken).values(**change))
    answer = await Identity().enrol(control_app.client(), made["token"])
    assert answer.status_code == 401
    error = answer.json()["error"]
    assert error["code"] == "join_token_refused"
    assert error["detail"]["reason"] == reason
    assert words in error["message"]
    (event,) = await _audited(control_app, "agent.enrol")
    assert (event.result, event.address) == ("refused", "192.0.2.7")
    assert await control_app.rows(Agent) == []


@pytest.mark.parametrize("token", ["", "twj_x", "twl_" + "a" * 42, "x" * 150, "twj_" + "a" * 42, "a b\n"])
async def test_a_mistyped_token_is_refused_without_asking_the_database(control_app: ControlApp, token: str) -> None:
    body = await Identity().application(control_app.client(), token)
    await control_app.control.db.close()
    answer = await control_app.client().post("/api/v1/agents/enrol", json=body)
    assert answer.status_code == 401
    assert answer.json()["error"]["detail"]["reason"] == "mistyped"


async def test_a_megabyte_as_token_is_refused(control_app: ControlApp) -> None:
    body = await Identity().application(control_app.client(), "twj_")
    answer = await control_app.client().post("/api/v1/agents/enrol", json=body | {"token": "x" * 500_000})
    assert answer.status_code == 422


async def test_an_unknown_token_says_that_it_may_be_of_another_server(control_app: ControlApp) -> None:
    answer = await Identity().enrol(control_app.client(), tokens.mint(tokens.JOIN))
    assert answer.json()["error"]["detail"]["reason"] == "unknown"
    assert "another one" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    "change",
    [
        {"nonce": "A" * 43},
        {"nonce": ""},
        {"signature": keys.pack(b"\x00" * 64)},
        {"signature": "é"},
        {"public_key": keys.pack(b"\x00" * 32)},
        {"sealing_key": keys.pack(b"\x00" * 32)},
        {"public_key": "not base64!"},
    ],
)
async def test_bad_keys_signatures_and_nonces_are_refused(control_app: ControlApp, change: dict[str, str]) -> None:
    made = await join_token(control_app)
    answer = await Identity().enrol(control_app.client(), made["token"], **change)
    assert answer.status_code == 400
    assert (await control_app.rows(JoinToken))[0].used == 0


async def test_a_signature_for_another_server_is_refused(control_app: ControlApp) -> None:
    made = await join_token(control_app)
    identity = Identity()
    body = await identity.application(control_app.client(), made["token"])
    other = identity.identity_key.sign(b"towline-enrol-v1\nhttps://evil.test")
    answer = await control_app.client().post("/api/v1/agents/enrol", json=body | {"signature": keys.pack(other)})
    assert answer.status_code == 400
    assert "address" in answer.json()["error"]["message"]


async def test_a_host_that_joins_again_keeps_its_cluster_and_ends_its_old_agent(control_app: ControlApp) -> None:
    first = Identity()
    await first.enrol(control_app.client(), (await join_token(control_app, cluster_name="edge-1"))["token"])
    made = await join_token(control_app, cluster_name="edge-1", rejoin=True)
    second = Identity()
    await second.enrol(control_app.client(), made["token"])
    assert second.cluster_id == first.cluster_id
    states = {agent.id: agent.state for agent in await control_app.rows(Agent)}
    assert states == {first.agent_id: "revoked", second.agent_id: "active"}
    assert len(await control_app.rows(Cluster)) == 1


async def test_a_taken_name_is_refused_when_the_token_is_made(control_app: ControlApp) -> None:
    await Identity().enrol(control_app.client(), (await join_token(control_app, cluster_name="edge-1"))["token"])
    answer = await control_app.joiner.post("/api/v1/join-tokens", json={"cluster_name": "edge-1"})
    assert answer.status_code == 409
    assert answer.json()["error"]["code"] == "name_taken"


@pytest.mark.parametrize(
    "wanted",
    [
        {"ttl": 59},
        {"ttl": 8 * 86400},
        {"max_uses": 0},
        {"max_uses": 1001},
        {"networks": ["10.0.0.0/33"]},
        {"cluster_name": "-rf"},
        {"cluster_name": "Ümlaut"},
        {"labels": {"a b": "c"}},
        {"labels": {f"k{n}": "v" for n in range(65)}},
        {"surprise": 1},
        {"approval_required": "perhaps"},
    ],
)
async def test_a_senseless_wish_is_refused(control_app: ControlApp, wanted: dict[str, object]) -> None:
    await join_token(control_app)
    assert (await control_app.joiner.post("/api/v1/join-tokens", json=wanted)).status_code == 422


async def test_a_revoked_token_is_on_record(control_app: ControlApp) -> None:
    made = await join_token(control_app)
    assert (await control_app.joiner.delete(f"/api/v1/join-tokens/{made['id']}")).status_code == 204
    assert (await control_app.joiner.get(f"/api/v1/join-tokens/{made['id']}")).json()["state"] == "revoked"
    assert len(await _audited(control_app, "join_token.revoke")) == 1


async def test_tokens_of_another_organisation_do_not_exist(control_app: ControlApp) -> None:
    made = await join_token(control_app)
    other = await control_app.user("eve", Role.OWNER, org_id=await control_app.org("other"))
    assert (await other.get(f"/api/v1/join-tokens/{made['id']}")).status_code == 404
    assert (await other.delete(f"/api/v1/join-tokens/{made['id']}")).status_code == 404
    assert (await other.get("/api/v1/join-tokens")).json()["items"] == []


async def test_the_lifetime_of_a_token_is_what_was_asked(control_app: ControlApp) -> None:
    await join_token(control_app, ttl=120)
    (row,) = await control_app.rows(JoinToken)
    assert row.expires_at - row.created_at == timedelta(seconds=120)
