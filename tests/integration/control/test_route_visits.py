"""Signing in to published services with the platform's users: the whole way round, and every way to cheat."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from tests.support.control_app import ORIGIN, PASSWORD
from tests.support.gateway import Scene, http_target, published

from towline.control.access.permissions import Role
from towline.control.audit.models import AuditEvent
from towline.control.routes import visits
from towline.gateway.route_policy import visit_cookie

HOST = "shop.example.net"
HTML = "text/html"


@dataclass
class Visit:
    """A published service that wants a sign-in, and a browser of somebody who is signed in to the dashboard."""

    scene: Scene
    dashboard: httpx.AsyncClient
    cookies: dict[str, str]

    async def browse(self, path: str, host: str = HOST, **headers: str) -> httpx.Response:
        """Ask for a page with the cookies of the published host."""
        jar = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        answer = await self.scene.get(host, path, accept=HTML, **({"cookie": jar} if jar else {}), **headers)
        for line in answer.headers.get_list("set-cookie"):
            name, _, value = line.partition(";")[0].partition("=")
            self.cookies.pop(name, None)
            if "Max-Age=0;" not in line:
                self.cookies[name] = value
        return answer

    async def ticket(self, path: str = "/x?y=1") -> str:
        """Begin a visit; return the address that redeems its ticket."""
        away = await self.browse(path)
        assert away.status_code == 302, away.text
        there = urlsplit(away.headers["location"])
        back = await self.dashboard.get(f"{there.path}?{there.query}")
        assert back.status_code == 303, back.text
        return back.headers["location"]


@asynccontextmanager
async def visiting(folder: Path, *roles: Role) -> AsyncIterator[Visit]:
    def show(head: bytes) -> bytes:
        return head

    url = f"sqlite:///{folder / 'towline.sqlite'}"
    async with published(url, folder) as scene, http_target(show) as port:
        await scene.agent("edge-1")
        await scene.verify("example.net")
        dora = await scene.app.user("dora", Role.DEPLOYER)
        body = {"name": "web", "to": f"tcp/127.0.0.1:{port}", "host": HOST, "options": {"sign_in": True}}
        made = await dora.post("/api/v1/routes", json=body)
        assert made.status_code == 201, made.text
        await scene.settled()
        dashboard = scene.app.client()
        actor = (await scene.app.access("root")).actor
        await scene.app.control.accounts.create_user(actor, "vera", PASSWORD, roles=roles)
        login = {"username": "vera", "password": PASSWORD}
        assert (await dashboard.post("/api/v1/login", json=login)).status_code == 200
        yield Visit(scene, dashboard, {})


async def test_visitor_signs_in_by_the_dashboard_and_the_target_learns_the_name_alone(tmp_path: Path) -> None:
    async with visiting(tmp_path, Role.VIEWER) as visit:
        back = await visit.ticket("/x?y=1")
        parts = urlsplit(back)
        assert parts.hostname == HOST
        entered = await visit.browse(f"{parts.path}?{parts.query}")
        assert (entered.status_code, entered.headers["location"]) == (303, "/x?y=1")
        cookies = [line for line in entered.headers.get_list("set-cookie") if "visit" in line]
        assert all(word in cookies[0] for word in ("HttpOnly", "Secure", "SameSite=Lax", "Path=/"))
        assert "domain" not in cookies[0].lower()
        seen = await visit.browse("/x?y=1", **{"x-forwarded-user": "root"})
        assert seen.status_code == 200
        assert "X-Forwarded-User: vera\r\n" in seen.text
        assert "root" not in seen.text
        assert "towline-visit" not in seen.text
        actions = [row.action for row in await visit.scene.app.rows(AuditEvent)]
        assert actions.count("route.visit") == 1


async def test_ticket_is_good_once_and_in_the_browser_that_began_alone(tmp_path: Path) -> None:
    async with visiting(tmp_path, Role.VIEWER) as visit:
        parts = urlsplit(await visit.ticket())
        thief = Visit(visit.scene, visit.dashboard, {})
        assert (await thief.browse(f"{parts.path}?{parts.query}")).status_code == 403
        state = dict(visit.cookies)
        assert (await visit.browse(f"{parts.path}?{parts.query}")).status_code == 303
        again = Visit(visit.scene, visit.dashboard, state)
        assert (await again.browse(f"{parts.path}?{parts.query}")).status_code == 403


async def test_two_tabs_sign_in_at_once(tmp_path: Path) -> None:
    async with visiting(tmp_path, Role.VIEWER) as visit:
        tabs = [Visit(visit.scene, visit.dashboard, {}) for _ in range(2)]
        backs = [urlsplit(await tab.ticket(f"/tab/{number}")) for number, tab in enumerate(tabs)]
        for tab in tabs:  # one browser: what came later stands in the same jar
            visit.cookies |= tab.cookies
        for number, back in enumerate(backs):
            entered = await visit.browse(f"{back.path}?{back.query}")
            assert (entered.status_code, entered.headers["location"]) == (303, f"/tab/{number}")
        assert not [name for name in visit.cookies if "state" in name]
        assert (await visit.browse("/")).status_code == 200


async def test_a_browser_keeps_few_sign_ins_that_it_began_and_the_last_ones_work(tmp_path: Path) -> None:
    async with visiting(tmp_path, Role.VIEWER) as visit:
        for _ in range(visits.MAX_STATES + 3):
            assert (await visit.browse("/")).status_code == 302
        back = urlsplit(await visit.ticket("/last"))
        assert len([name for name in visit.cookies if "state" in name]) == visits.MAX_STATES
        assert (await visit.browse(f"{back.path}?{back.query}")).status_code == 303


async def test_ticket_of_a_path_goes_to_the_route_of_that_path_alone(tmp_path: Path) -> None:
    async with visiting(tmp_path, Role.VIEWER) as visit:
        dora = await visit.scene.app.user("doris", Role.DEPLOYER)
        target = (await dora.get("/api/v1/routes/web")).json()["targets"][0]["to"]
        body = {"name": "admin", "to": target, "host": HOST, "path": "/admin", "options": {"sign_in": True}}
        assert (await dora.post("/api/v1/routes", json=body)).status_code == 201
        assert (await dora.patch("/api/v1/routes/web", json={"options": {"sign_in": None}})).status_code == 200
        await visit.scene.settled()
        parts = urlsplit(await visit.ticket("/admin/x"))
        assert parts.path == "/admin/.towline/visit"
        seen = await visit.browse("/")
        assert seen.status_code == 200
        assert "towline" not in seen.text
        entered = await visit.browse(f"{parts.path}?{parts.query}")
        assert (entered.status_code, entered.headers["location"]) == (303, "/admin/x")
        assert "X-Forwarded-User: vera\r\n" in (await visit.browse("/admin/x")).text
        assert "towline" not in (await visit.browse("/")).text


async def test_signing_out_ends_the_visit(tmp_path: Path) -> None:
    async with visiting(tmp_path, Role.VIEWER) as visit:
        parts = urlsplit(await visit.ticket())
        await visit.browse(f"{parts.path}?{parts.query}")
        assert (await visit.browse("/")).status_code == 200
        origin = {"origin": ORIGIN}
        assert (await visit.dashboard.post("/api/v1/logout", headers=origin)).status_code in (200, 204)
        visit.scene.app.control.visits._known.clear()  # as after the seconds that a look-up holds
        assert (await visit.browse("/")).status_code == 302


async def test_programs_are_told_and_forged_cookies_open_nothing(tmp_path: Path) -> None:
    async with visiting(tmp_path, Role.VIEWER) as visit:
        assert (await visit.scene.get(HOST)).status_code == 401
        away = urlsplit((await visit.browse("/")).headers["location"])
        route_id = parse_qs(away.query)["route"][0]
        visit.cookies[visit_cookie(route_id).decode()] = "AQJ4eHh4"
        assert (await visit.browse("/")).status_code == 302
        plain = await visit.scene.get(HOST, **{"x-forwarded-proto": "http"})
        assert plain.status_code == 301


@pytest.mark.parametrize("to", ["//evil.test/", "https://evil.test/", "/\\evil", "/.towline/visit?ticket=x"])
async def test_visit_never_leads_elsewhere(tmp_path: Path, to: str) -> None:
    async with visiting(tmp_path, Role.VIEWER) as visit:
        away = urlsplit((await visit.browse("/")).headers["location"])
        asked = {key: values[0] for key, values in parse_qs(away.query).items()} | {"to": to}
        back = urlsplit((await visit.dashboard.get(away.path, params=asked)).headers["location"])
        entered = await visit.browse(f"{back.path}?{back.query}")
        assert (entered.status_code, entered.headers["location"]) == (303, "/")


async def test_dashboard_gives_tickets_for_names_of_the_route_alone(tmp_path: Path) -> None:
    async with visiting(tmp_path, Role.VIEWER) as visit:
        away = urlsplit((await visit.browse("/")).headers["location"])
        asked = {key: values[0] for key, values in parse_qs(away.query).items()}
        for wrong in ({"host": "evil.test"}, {"route": "rte_nothing"}, {"state": "x"}):
            answer = await visit.dashboard.get(away.path, params=asked | wrong)
            assert answer.status_code >= 400, wrong
        nobody = visit.scene.app.client()
        assert (await nobody.get(away.path, params=asked)).status_code in (303, 401)


async def test_user_without_a_role_on_the_cluster_is_not_let_in(tmp_path: Path) -> None:
    async with visiting(tmp_path) as visit:
        away = urlsplit((await visit.browse("/")).headers["location"])
        answer = await visit.dashboard.get(f"{away.path}?{away.query}")
        assert answer.status_code >= 400
