"""What the API of alerts takes and gives. Addresses with secrets, passwords and keys go in and never come out."""

from datetime import datetime
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, StringConstraints

from towline.control.alerts.catalogue import LONGEST_AFTER, SHORTEST_AFTER, RuleName, Severity

MOST_RECIPIENTS = 50
LONGEST_SILENCE = 90 * 86400
"""Seconds: what is quiet for longer should be switched off, where everybody sees it."""
SHORTEST_SILENCE = 60
MOST_SECRET_CHARACTERS = 1024


def _url(value: SecretStr) -> SecretStr:
    parts = urlsplit(value.get_secret_value())
    if parts.scheme not in ("https", "http") or not parts.hostname or parts.fragment:
        raise ValueError("write an address like https://hooks.example.com/path")
    try:
        parts.port  # noqa: B018 - raises for one that does not exist
    except ValueError as error:
        raise ValueError("the port of the address does not exist") from error
    return value


Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")]
Address = Annotated[
    str, StringConstraints(max_length=254, pattern=r"^[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]+@[A-Za-z0-9.-]+$")
]
Host = Annotated[str, StringConstraints(min_length=1, max_length=253, pattern=r"^[A-Za-z0-9.:_-]+$")]
Url = Annotated[SecretStr, Field(min_length=10, max_length=2000), AfterValidator(_url)]
Secret = Annotated[SecretStr, Field(min_length=16, max_length=MOST_SECRET_CHARACTERS)]
Reason = Annotated[str, StringConstraints(min_length=1, max_length=500, pattern=r"^[^\x00]*$", strip_whitespace=True)]
_STRICT = ConfigDict(extra="forbid", hide_input_in_errors=True)


class AlertOut(BaseModel):
    id: str
    rule: RuleName
    title: str
    severity: Severity
    state: Literal["pending", "firing", "resolved"]
    name: str
    """What people call the thing that it is about."""
    summary: str
    cluster: str
    """Empty: of the whole organisation."""
    cluster_id: str
    project: str
    namespace: str
    page: str
    """Path of the page that shows the thing."""
    began_at: datetime
    fired_at: datetime | None
    resolved_at: datetime | None
    times: int
    """How often it fired."""
    silenced: bool
    told: bool
    """Whether channels were told that it fires."""


class RuleOut(BaseModel):
    """A rule as it holds, and what the organisation changed of it."""

    rule: RuleName
    title: str
    meaning: str
    enabled: bool
    severity: Severity
    after_seconds: float
    """How long it must be so before anybody is told."""
    clear_seconds: float
    """How long it must not be so before it has ended."""
    longest_clear_seconds: float
    """What may be set of it."""
    threshold: float | None
    threshold_word: str
    channels: list[str] | None
    """Names; null: every channel."""
    changed: bool


class RulePatch(BaseModel):
    """Changes of one rule. What is absent stays; null follows the usual again."""

    model_config = _STRICT

    rule: RuleName
    enabled: bool | None = None
    severity: Severity | None = None
    after_seconds: Annotated[float, Field(ge=SHORTEST_AFTER, le=LONGEST_AFTER)] | None = None
    clear_seconds: Annotated[float, Field(ge=SHORTEST_AFTER, le=LONGEST_AFTER)] | None = None
    """Of `crash_loop` 600 at most."""
    threshold: Annotated[float, Field(gt=0, le=1000)] | None = None
    channels: Annotated[list[Name], Field(max_length=100)] | None = None


class WebhookIn(BaseModel):
    """An address that gets JSON, signed."""

    model_config = _STRICT

    kind: Literal["webhook"]
    url: Url
    secret: Secret | None = None
    """Signs what is sent. Absent: one is made, and is in the answer, once."""


class EmailIn(BaseModel):
    """A mail server and who gets the mail."""

    model_config = _STRICT

    kind: Literal["email"]
    host: Host
    port: Annotated[int, Field(ge=1, le=65535)] = 587
    security: Literal["starttls", "tls", "none"] = "starttls"
    sender: Address
    recipients: Annotated[list[Address], Field(min_length=1, max_length=MOST_RECIPIENTS)]
    username: Annotated[str, StringConstraints(max_length=255, pattern=r"^[^\x00-\x1f]*$")] = ""
    password: Annotated[SecretStr, Field(max_length=MOST_SECRET_CHARACTERS)] = SecretStr("")


TargetIn = Annotated[WebhookIn | EmailIn, Field(discriminator="kind")]


class ChannelIn(BaseModel):
    model_config = _STRICT

    name: Name
    target: TargetIn


class ChannelPatch(BaseModel):
    """Changes of a channel. A target is replaced as a whole, its secrets included."""

    model_config = _STRICT

    name: Name | None = None
    enabled: bool | None = None
    target: TargetIn | None = None


class ChannelOut(BaseModel):
    id: str
    name: str
    kind: Literal["webhook", "email"]
    enabled: bool
    target: str
    """Where it goes, without what may be secret."""
    host: str = ""
    port: int = 0
    security: str = ""
    sender: str = ""
    recipients: list[str] = Field(default_factory=list)
    signs_in: bool = False
    waiting: int
    """Messages that are not sent yet."""
    sent_at: datetime | None
    failing_at: datetime | None
    error: str
    created_by: str
    created_at: datetime


class ChannelMade(ChannelOut):
    """A channel, and the secret that was made for it: in this answer and nowhere else."""

    secret: str = ""


class TestOut(BaseModel):
    sent: bool
    error: str


class SilenceIn(BaseModel):
    """Nothing is told of what it covers, until it ends."""

    model_config = _STRICT

    cluster: Annotated[str, StringConstraints(max_length=63)] = ""
    """Name or id; empty: everywhere."""
    rule: RuleName | None = None
    """None: every rule."""
    seconds: Annotated[int, Field(ge=SHORTEST_SILENCE, le=LONGEST_SILENCE)]
    reason: Reason


class SilenceOut(BaseModel):
    id: str
    cluster: str
    cluster_id: str
    rule: str
    reason: str
    created_by: str
    created_at: datetime
    ends_at: datetime
