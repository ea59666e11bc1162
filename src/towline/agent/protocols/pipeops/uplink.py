"""One stay at a PipeOps WebSocket control plane: connect, register, go where it sends us, beat, and talk.

A stay begins at the controller each time, with a registration: so an agent that was sent to a gateway is never lost
there, whatever that says. Source: pipeops.md 1, 2 and 7.
"""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from urllib.parse import parse_qsl, urlencode

import msgspec
import structlog

import towline
from towline.agent import files
from towline.agent.errors import AgentError, SettingsError, StorageError
from towline.agent.protocols.choosing import Means
from towline.agent.protocols.keeper import Up
from towline.agent.protocols.line import Line
from towline.agent.protocols.pipeops import standing
from towline.agent.protocols.pipeops.calls import Calls
from towline.agent.protocols.pipeops.conversation import Conversation
from towline.agent.protocols.pipeops.routes import RouteCaller
from towline.agent.protocols.pipeops.upstream import Upstream
from towline.agent.protocols.place import Place, endpoint, hostname
from towline.agent.surface.cache import ClusterCache
from towline.aio.tasks import TaskOwner
from towline.tunnel import dial
from towline.tunnel.dial import Endpoint
from towline.tunnel.errors import ProtocolFailed, TunnelClosed
from towline.tunnel.websocket import Channel, MessageLimits
from towline.wire import pipeops
from towline.wire import pipeops_messages as messages

REGISTER_TIMEOUT = 30.0
HEARTBEAT_INTERVAL = 30.0
PING_INTERVAL = 10.0
"""Seconds, as the original has them."""

STATE_FILE = "cluster.json"
GATEWAY_PATH = "/ws"
_FEATURES = (
    "supports_streaming", "supports_binary_protocol", "supports_websocket_proxy", "supports_gateway",
    "supports_response_streaming",
)  # fmt: skip
_GATEWAY_FLAGS = (
    "supports_streaming", "supports_binary", "supports_websocket", "supports_yamux", "supports_response_streaming",
)  # fmt: skip

_log = structlog.get_logger("towline.agent.pipeops")


class State(msgspec.Struct, frozen=True):
    """What stays over restarts."""

    cluster_id: str = ""


class Uplink:
    """Has one stay after the other; `hold` is for a `Keeper`."""

    def __init__(self, place: Place, means: Means) -> None:
        self._place = place
        self._means = means
        self._clock = means.host.clock
        self._state_file = place.store.path.parent / STATE_FILE
        self.state = _read_state(self._state_file)

    def __repr__(self) -> str:
        return f"<PipeOps WebSocket {self._place.agent_id} cluster={self.state.cluster_id}>"

    def job_said(self, job_id: str) -> None:
        """This protocol carries no jobs."""

    async def hold(self, up: Up) -> str:
        """Have one stay; returns why it ended. Raises: LinkDown, SettingsError."""
        async with TaskOwner("pipeops") as owner:
            talk = await self._connected(self._place.endpoint(pipeops.WEBSOCKET_PATH), owner)
            running = owner.spawn("messages", talk.run())
            try:
                success = await self._register(talk)
                if success.gateway_ws_url:
                    running.cancel()
                    talk.line.close(reason="going on at the gateway")
                    talk = await self._connected(self._gateway(success), owner)
                    running = owner.spawn("messages", talk.run())
                up(talk)
                return await self._stay(talk, running, owner, is_gateway=bool(success.gateway_ws_url))
            finally:
                self._means.routes.disconnected()
                talk.line.close(reason="the agent goes")

    async def _stay(self, talk: Conversation, running: asyncio.Task[str], owner: TaskOwner, *, is_gateway: bool) -> str:
        cache = ClusterCache(self._means.api, self._means.host.policy, owner, clock=self._clock)
        beating = owner.spawn("heartbeats", self._beat(talk, cache))
        async with await Calls.open(self._place) as calls:
            self._tell_routes(calls)
            while True:
                lost = owner.spawn("lost", _wait(talk.is_lost))
                await asyncio.wait({running, beating, lost}, return_when=asyncio.FIRST_COMPLETED)
                lost.cancel()
                if running.done():
                    return running.result()
                if beating.done():
                    return beating.result()
                if is_gateway:
                    return "the gateway does not know this agent: it registers anew at the controller"
                talk.is_lost.clear()
                self._keep(State())
                await self._register(talk)
                self._tell_routes(calls)

    def _tell_routes(self, calls: Calls) -> None:
        """Tell all routes, for the cluster that we were registered as last."""
        self._means.routes.connected(RouteCaller(calls, self.state.cluster_id, self._means.is_private))

    async def _connected(self, server: Endpoint, owner: TaskOwner) -> Conversation:
        place = self._place
        channel = Channel(
            clock=self._clock, ping_interval=PING_INTERVAL, limits=MessageLimits(text_bytes=pipeops.MAX_MESSAGE_BYTES)
        )
        talk = Conversation(Line(channel), self._means, owner)
        headers = {"Authorization": f"Bearer {place.token()}", "User-Agent": place.route.user_agent}
        await dial.open_channel(
            server, place.route, channel, headers, context=await place.context(server),
            max_message_bytes=pipeops.MAX_MESSAGE_BYTES, clock=self._clock,
        )  # fmt: skip
        return talk

    def _gateway(self, success: messages.RegisterSuccess) -> Endpoint:
        """Return where the control plane sends us. Raises: LinkDown: no address."""
        try:
            found = endpoint(success.gateway_ws_url, GATEWAY_PATH, default_path=True)
        except SettingsError as error:
            raise ProtocolFailed(f"the address of the gateway: {error}") from error
        path, _, query = found.path.partition("?")
        told = {
            **dict(parse_qsl(query)),
            "cluster_uuid": success.cluster_uuid or success.cluster_id,
            **dict.fromkeys(_GATEWAY_FLAGS, "true"),
            "agent_version": towline.__version__,
        }
        return Endpoint(found.scheme, found.host, found.port, f"{path}?{urlencode(sorted(told.items()))}")

    # -- registration ------------------------------------------------------------------------------

    async def _register(self, talk: Conversation) -> messages.RegisterSuccess:
        """Say who we are, and keep what the answer says. Raises: LinkDown: there is none."""
        talk.register_id = f"req_{time.time_ns()}_{self._place.agent_id}"
        talk.registered = asyncio.get_running_loop().create_future()
        try:
            await talk.voice.say(await self._registration(), talk.register_id)
            async with asyncio.timeout(REGISTER_TIMEOUT):
                success = await self._answered(talk)
        except TimeoutError as error:
            raise ProtocolFailed(f"no answer to the registration within {REGISTER_TIMEOUT:g} s") from error
        except TunnelClosed as error:
            raise ProtocolFailed(f"closed during the registration: {error.reason}") from error
        self._keep(State(cluster_id=success.cluster_id))
        _log.info("registered", cluster=success.cluster_id[:60], gateway=bool(success.gateway_ws_url))
        return success

    async def _answered(self, talk: Conversation) -> messages.RegisterSuccess:
        """Wait for the answer, or the end of the connection. Raises: TunnelClosed."""
        waiting = talk.registered
        assert waiting is not None
        while not waiting.done():
            if talk.line.channel.closed is not None:
                raise TunnelClosed(talk.line.ending)
            await asyncio.wait({waiting}, timeout=0.5)
        return waiting.result()

    async def _registration(self) -> messages.Register:
        place, about = self._place, self._means.inventory.teller.book.about
        mode = "resume" if self.state.cluster_id else "fresh"
        return messages.Register(
            agent_id=place.agent_id,
            name=place.cluster_name,
            k8s_version=about.version,
            hostname=hostname(),
            agent_version=towline.__version__,
            server_ip="",
            region="",
            cloud_provider="agent",
            tunnel_port_config=messages.TunnelPorts(kubernetes_api=6443, kubelet=10250, agent_http=8080),
            labels={**place.older.labels, "hostname": hostname(), "agent.pipeops.io/version": towline.__version__},
            server_specs=messages.ServerSpecs(cpu_cores=os.cpu_count() or 0, os="linux"),
            features={**dict.fromkeys(_FEATURES, True), "supports_compression": False},
            metadata={
                "agent_mode": "vm-agent",
                "registration_mode": mode,
                "registration_timestamp": str(int(self._clock.now().timestamp())),
            },
            cluster_id=self.state.cluster_id,
            k8s_service_token=self._token_of_cluster(),
        )

    def _token_of_cluster(self) -> str:
        """Return the token that the control plane acts with; none where the host's policy keeps something from it."""
        scheme, _, token = Upstream(self._means).own_authorization().partition(" ")
        return token if scheme.lower() == "bearer" else ""

    # -- heartbeats --------------------------------------------------------------------------------

    async def _beat(self, talk: Conversation, cache: ClusterCache) -> str:
        """Beat for ever; returns why that ended."""
        while True:
            try:
                cache.use()
            except AgentError as error:
                _log.debug("cluster not counted", reason=str(error))
            try:
                await talk.voice.say(self._heartbeat(cache))
            except TunnelClosed as error:
                return error.reason
            await self._clock.sleep(HEARTBEAT_INTERVAL)

    def _heartbeat(self, cache: ClusterCache) -> messages.Heartbeat:
        counts, means = standing.counts(cache), self._means
        return messages.Heartbeat(
            agent_id=self._place.agent_id,
            cluster_id=self.state.cluster_id,
            status="healthy",
            tunnel_status="connected",
            metadata=messages.HeartbeatMetadata(
                agent_version=towline.__version__,
                cpu_usage="",
                memory_usage="",
                gateway_routes=len(means.routes.book),
                is_private=means.is_private() is not False,
                k8s_nodes=counts.get("k8s_nodes", 0),
                k8s_pods=counts.get("k8s_pods", 0),
                k8s_version=means.inventory.teller.book.about.version,
            ),
        )

    def _keep(self, state: State) -> None:
        if state == self.state:
            return
        self.state = state
        try:
            files.write_durably(self._state_file, msgspec.json.encode(state))
        except StorageError as error:
            _log.error("the cluster's id is not kept over a restart", reason=str(error))


def _read_state(path: Path) -> State:
    try:
        return msgspec.json.decode(path.read_bytes(), type=State)
    except FileNotFoundError:
        return State()
    except (OSError, msgspec.DecodeError) as error:
        _log.warning("the cluster's id is asked for anew", reason=str(error))
        return State()


async def _wait(event: asyncio.Event) -> None:
    await event.wait()
