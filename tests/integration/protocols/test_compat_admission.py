"""Agents of older systems: their tokens over the API, and who is let in with them."""

import asyncio
from typing import Any

import pytest
from sqlalchemy import update
from tests.support.control_app import ControlApp

from towline.control.access.permissions import Role
from towline.control.agents.connect import Admitted
from towline.control.agents.models import Agent
from towline.control.agents.refusals import Refused
from towline.control.audit.models import AuditEvent
from towline.control.clusters.models import Cluster
from towline.control.protocols.admission import Caller, Recognised
from towline.control.protocols.models import CompatAgent, CompatToken
from towline.control.protocols.session import AdaptedSession
from towline.tunnel.errors import TargetRefused
from towline.wire import link, streams

ADDRESS = "192.0.2.9"
TOKENS = "/api/v1/compat/tokens"


async def _token(app: ControlApp, *, by: str = "ada", **wanted: Any) -> dict[str, Any]:
    admin = await app.user(by, Role.ADMIN)
    answer = await admin.post(TOKENS, json={"protocol": "pipeops", **wanted})
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


async def _recognised(app: ControlApp, secret: str, protocol: str = "pipeops") -> Recognised:
    return await app.control.protocols.admission.recognise(protocol, secret, ADDRESS)


def _caller(name: str, **more: str) -> Caller:
    return Caller(name, hostname=f"{name}-host", address=ADDRESS, **more)


async def test_a_token_of_older_agents_needs_an_admin(control_app: ControlApp) -> None:
    body = {"protocol": "pipeops"}
    assert (await control_app.client().post(TOKENS, json=body)).status_code == 401
    deployer = await control_app.user("dora", Role.DEPLOYER)
    assert (await deployer.post(TOKENS, json=body)).status_code == 403
    assert (await deployer.get(TOKENS)).status_code == 403


async def test_its_text_is_shown_once_and_stored_nowhere(control_app: ControlApp) -> None:
    made = await _token(control_app, secret="taken-over-from-there")
    assert made["token"] == "taken-over-from-there"
    owner = await control_app.user("olga", Role.OWNER)
    assert "taken-over" not in (await owner.get(TOKENS)).text
    rows = [*await control_app.rows(CompatToken), *await control_app.rows(AuditEvent)]
    assert "taken-over" not in str([vars(row) for row in rows])


@pytest.mark.parametrize(
    ("wanted", "says"),
    [
        ({"protocol": "chisel"}, "pipeops"),
        ({"secret": "short"}, "at least 8"),
        ({"shared": True, "cluster": "edge-1"}, "name none"),
        ({"open_for": 60}, "only a shared token"),
        ({"networks": ["somewhere"]}, "10.0.0.0/8"),
    ],
)
async def test_a_wrong_wish_is_refused_with_what_is_wrong(
    control_app: ControlApp, wanted: dict[str, Any], says: str
) -> None:
    admin = await control_app.user("ada", Role.ADMIN)
    answer = await admin.post(TOKENS, json={"protocol": "pipeops", **wanted})
    assert answer.status_code == 422
    assert says in answer.text


async def test_a_secret_is_known_to_its_own_protocol_alone_until_it_is_revoked(control_app: ControlApp) -> None:
    made = await _token(control_app)
    await _recognised(control_app, made["token"])
    for secret, protocol in ((made["token"], "instadeploy"), (made["token"] + "x", "pipeops"), ("", "pipeops")):
        with pytest.raises(Refused, match="does not know the token"):
            await _recognised(control_app, secret, protocol)
    admin = await control_app.user("anna", Role.ADMIN)
    assert (await admin.delete(f"{TOKENS}/{made['id']}")).status_code == 204
    with pytest.raises(Refused, match="revoked"):
        await _recognised(control_app, made["token"])


async def test_a_token_counts_only_from_its_networks(control_app: ControlApp) -> None:
    made = await _token(control_app, networks=["10.0.0.0/8"])
    with pytest.raises(Refused, match="from this address"):
        await _recognised(control_app, made["token"])


async def test_a_token_of_its_own_is_one_agent_whatever_that_calls_itself(control_app: ControlApp) -> None:
    known = await _recognised(control_app, (await _token(control_app, cluster="edge-1"))["token"])
    first = await control_app.control.protocols.admission.admit(known, _caller("pod-1"))
    again = await control_app.control.protocols.admission.admit(known, _caller("pod-2"))
    assert (first.agent_id, first.cluster_name, first.pending) == (again.agent_id, "edge-1", False)
    assert again.epoch == first.epoch + 1
    (compat,) = await control_app.rows(CompatAgent)
    assert compat.external_id == "pod-2"
    (agent,) = await control_app.rows(Agent)
    assert (agent.protocol, agent.hostname) == ("pipeops", "pod-2-host")


async def test_those_who_come_at_once_are_each_let_in_or_refused_as_who_they_are(control_app: ControlApp) -> None:
    made = await _token(control_app, shared=True, open_for=3600)
    shared = await _recognised(control_app, made["token"])
    own = await _recognised(control_app, (await _token(control_app, by="anna"))["token"])
    admit = control_app.control.protocols.admission.admit
    a, b, pod = [await admit(shared, _caller("a")), await admit(shared, _caller("b")), await admit(own, _caller("1"))]
    revoked = await admit(shared, _caller("revoked"))
    async with control_app.control.db.begin() as tx:
        await tx.execute(update(Agent).where(Agent.id == revoked.agent_id).values(state="revoked"))

    callers = [(shared, "a"), (shared, "b"), (own, "2"), (shared, "new"), (shared, "revoked"), (shared, "a")]
    coming = [admit(known, _caller(name)) for known, name in callers]
    *back, new, refused, twice = await asyncio.gather(*coming, return_exceptions=True)

    assert [(one.agent_id, one.epoch) for one in back] == [(one.agent_id, one.epoch + 1) for one in (a, b, pod)]
    assert new.cluster_name == "new-host"
    assert isinstance(refused, Refused) and refused.refusal.final
    assert (twice.agent_id, twice.epoch) == (a.agent_id, a.epoch + 2)


async def test_what_no_database_takes_keeps_nobody_else_out(control_app: ControlApp) -> None:
    made = await _token(control_app, shared=True, open_for=3600)
    known = await _recognised(control_app, made["token"])
    admission = control_app.control.protocols.admission
    good = await admission.admit(known, _caller("good"))
    callers = (_caller("good"), _caller("\0"), Caller("odd\0", hostname="\0odd", version="\0", address=ADDRESS))
    again, nameless, odd = await asyncio.gather(
        *(admission.admit(known, one) for one in callers), return_exceptions=True
    )
    assert isinstance(again, Admitted) and again.agent_id == good.agent_id
    assert isinstance(nameless, Refused) and nameless.refusal.code == "nameless"
    assert isinstance(odd, Admitted)
    assert (await admission.find(known, "odd\0")).agent_id == odd.agent_id


async def test_a_shared_token_makes_an_agent_of_each_name_and_each_waits_for_approval(control_app: ControlApp) -> None:
    known = await _recognised(control_app, (await _token(control_app, shared=True))["token"])
    admit = control_app.control.protocols.admission.admit
    one, other = await admit(known, _caller("a")), await admit(known, _caller("b"))
    assert one.agent_id != other.agent_id
    assert one.pending
    admin = await control_app.user("anna", Role.ADMIN)
    answer = await admin.post(f"/api/v1/clusters/{one.cluster_name}/agents/{one.agent_id}/approve")
    assert answer.status_code == 200
    assert not (await admit(known, _caller("a"))).pending
    with pytest.raises(Refused, match="who it is"):
        await admit(known, _caller(""))


async def test_an_open_window_lets_in_without_approval_until_it_is_closed(control_app: ControlApp) -> None:
    made = await _token(control_app, shared=True, open_for=3600)
    known = await _recognised(control_app, made["token"])
    admit = control_app.control.protocols.admission.admit
    assert not (await admit(known, _caller("a"))).pending
    admin = await control_app.user("anna", Role.ADMIN)
    assert (await admin.post(f"{TOKENS}/{made['id']}/open", json={"seconds": 0})).status_code == 200
    assert (await admit(known, _caller("b"))).pending
    assert not (await admit(known, _caller("a"))).pending


async def test_a_revoked_agent_is_refused_though_its_token_counts(control_app: ControlApp) -> None:
    known = await _recognised(control_app, (await _token(control_app))["token"])
    admitted = await control_app.control.protocols.admission.admit(known, _caller("a"))
    async with control_app.control.db.begin() as tx:
        await tx.execute(update(Agent).where(Agent.id == admitted.agent_id).values(state="revoked"))
    with pytest.raises(Refused, match="revoked by an administrator"):
        await control_app.control.protocols.admission.admit(known, _caller("a"))


async def test_two_that_take_one_name_from_each_other_are_put_aside(control_app: ControlApp) -> None:
    made = await _token(control_app, shared=True, open_for=3600)
    known = await _recognised(control_app, made["token"])
    admission = control_app.control.protocols.admission
    with pytest.raises(Refused, match="two machines"):
        for turn in range(20):
            admitted = await admission.admit(known, _caller("twin", instance=f"machine-{turn % 2}"))
            session = AdaptedSession(admitted, owner=control_app.control.protocols.tasks)
            admission.attach(session, admitted, ())


async def test_an_adapted_session_shows_its_cluster_connected_and_says_what_it_does_not_carry(
    control_app: ControlApp,
) -> None:
    known = await _recognised(control_app, (await _token(control_app, cluster="edge-1"))["token"])
    admission, control = control_app.control.protocols.admission, control_app.control
    admitted = await admission.admit(known, _caller("a"))
    session = AdaptedSession(admitted, owner=control.protocols.tasks, remote_address=ADDRESS)
    admission.attach(session, admitted, [link.Capability(name="kubernetes", ready=True)])
    await control.fleet.reports.flush()
    (cluster,) = await control_app.rows(Cluster)
    assert cluster.connected
    with pytest.raises(TargetRefused, match="carries no streams to a logs"):
        await control.fleet.links.session(cluster.id).open_stream(streams.Logs(project="shop"))
    session.close(1000, "done")
    await control.fleet.reports.flush()
    (cluster,) = await control_app.rows(Cluster)
    assert not cluster.connected


async def test_a_newer_session_of_the_same_agent_ends_the_older_one(control_app: ControlApp) -> None:
    known = await _recognised(control_app, (await _token(control_app))["token"])
    admission = control_app.control.protocols.admission
    sessions = []
    for _ in range(2):
        admitted = await admission.admit(known, _caller("a"))
        sessions.append(AdaptedSession(admitted, owner=control_app.control.protocols.tasks))
        admission.attach(sessions[-1], admitted, ())
    assert sessions[0].closed is not None
    assert control_app.control.fleet.links.session(sessions[1].cluster_id) is sessions[1]


async def test_the_page_makes_a_token_and_says_what_to_set_on_the_host(control_app: ControlApp) -> None:
    path = "/fleet/join/older"
    assert (await control_app.client().get(path)).status_code in (303, 401)
    admin = await control_app.user("ada", Role.ADMIN)
    answer = await admin.post(path, data={"protocol": "instadeploy", "shared": "1", "open_for": "3600"})
    assert answer.status_code == 200
    (row,) = await control_app.rows(CompatToken)
    assert "SERVER_URL=wss://towline.test/ws" in answer.text
    assert answer.headers["cache-control"] == "no-store"
    assert "AGENT_TOKEN=twc_" in answer.text
    listed = (await admin.get(path)).text
    assert row.id in listed
    assert "twc_" not in listed
    await admin.post(f"{path}/{row.id}/close")
    await admin.post(f"{path}/{row.id}/revoke")
    (row,) = await control_app.rows(CompatToken)
    assert (row.open_until, row.revoked) == (None, True)


async def test_what_is_wrong_with_a_form_is_said_on_the_page(control_app: ControlApp) -> None:
    admin = await control_app.user("ada", Role.ADMIN)
    answer = await admin.post("/fleet/join/older", data={"protocol": "pipeops", "secret": "short"})
    assert "secret" in answer.text
    assert await control_app.rows(CompatToken) == []
