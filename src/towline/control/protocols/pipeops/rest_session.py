"""The session of a PipeOps REST agent: it lives while the agent beats, and carries commands and status.

There is no connection: the agent asks and tells at its own pace, and a session ends when it was silent for too long.
"""

from __future__ import annotations

from towline.aio.clock import REAL_CLOCK, Clock
from towline.aio.tasks import TaskOwner
from towline.control.agents.connect import Admitted
from towline.control.protocols.pipeops.rest_commands import Commands, Who
from towline.control.protocols.pipeops.rest_status import Book, moment
from towline.control.protocols.session import AdaptedSession
from towline.tunnel.errors import TargetRefused
from towline.wire import link, streams
from towline.wire import pipeops_rest as rest

NO_STREAMS = "a PipeOps REST agent carries commands and status, no streams; a newer PipeOps agent or Towline's own does"
LONGEST_FACT = 255
"""Characters of what an agent says of itself."""


class RestSession(AdaptedSession):
    """One REST agent that beats.

    Args: secret_digest: of the token that it presents with each request.
    """

    what = "a PipeOps REST agent"

    def __init__(
        self,
        admitted: Admitted,
        commands: Commands,
        registration: rest.Registration,
        *,
        owner: TaskOwner,
        remote_address: str = "",
        clock: Clock = REAL_CLOCK,
    ) -> None:
        super().__init__(admitted, owner=owner, remote_address=remote_address, clock=clock)
        self.who = Who(admitted.agent_id, admitted.org_id, admitted.epoch)
        self.registration = registration
        self.checked_at = self.heard_at
        """Monotonic moment at which its token was looked up last."""
        self.book = Book()
        self.commands = commands

    # -- upward ----------------------------------------------------------------------------------

    @property
    def capabilities(self) -> tuple[link.Capability, ...]:
        """What such an agent can do: the same for all of them."""
        version = self.registration.k8s_version[:LONGEST_FACT]
        return (
            link.Capability(name="kubernetes", ready=True, version=version),
            link.Capability(name="compose", ready=False, reason=NO_COMPOSE),
            link.Capability(name="forward", ready=False, reason=NO_STREAMS),
        )

    async def begin(self) -> None:
        """Say who the agent is and what it holds: the first words of a session."""
        self.tell(facts(self.registration))
        await self.commands.resume(self.who, self.tell)

    def registered(self, registration: rest.Registration) -> None:
        """The agent says again who it is."""
        self.registration = registration
        self.tell(facts(registration))

    def beat(self, heartbeat: rest.Heartbeat) -> None:
        """Pass a heartbeat on. What it does not say is not told."""
        now = self._clock.now().timestamp()
        self.tell(link.Heartbeat(sent_at=moment(heartbeat.timestamp) or now, capabilities=self.capabilities))

    def status(self, status: rest.Status) -> bool:
        """Pass a status on. Returns: whether it changes anything."""
        now = self._clock.now().timestamp()
        told = self.book.take(status, now=now, version=self.registration.k8s_version)
        if told is not None:
            self.tell(told)
        return told is not None

    async def fetch(self) -> list[rest.Command]:
        """Return the commands that the agent gets now."""
        return await self.commands.hand_out(self.who, self.tell)

    async def result(self, job_id: str, result: rest.Result) -> bool:
        """Take a command's result. Returns: False: the agent never had such a command."""
        return await self.commands.result(self.who, job_id, result, self.tell)

    # -- downward --------------------------------------------------------------------------------

    async def deliver(self, message: link.Message) -> None:
        match message:
            case link.Job():
                await self.commands.order(self.who, message, self.tell)
            case link.JobCancel():
                await self.commands.cancel(self.who, message.job_id, self.tell)
            case link.JobStored():
                await self.commands.stored(self.who, message.job_id)
            case _:
                return  # the agent has no words for the rest, and needs none

    def no_stream(self, target: streams.Target) -> TargetRefused:
        return TargetRefused("unsupported", NO_STREAMS)


NO_COMPOSE = "a PipeOps REST agent carries commands and status, no Compose projects; Towline's own agent deploys them"


def facts(registration: rest.Registration) -> link.Facts:
    """Return what an agent says of its machine; empty where it does not."""
    told = {"agent": registration.version, "kubernetes": registration.k8s_version}
    return link.Facts(
        hostname=(registration.hostname or registration.labels.get("hostname", "") or registration.name)[:LONGEST_FACT],
        addresses=(registration.server_ip[:LONGEST_FACT],) if registration.server_ip else (),
        cloud=registration.cloud_provider[:LONGEST_FACT],
        region=registration.region[:LONGEST_FACT],
        versions={name: version[:LONGEST_FACT] for name, version in told.items() if version},
    )
