"""What a channel sends to, with its secrets: opened only to send, never shown. Data, and its way through the seal."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any, Literal
from urllib.parse import urlsplit

Security = Literal["starttls", "tls", "none"]
PURPOSE = "alert-channel"


@dataclass(frozen=True, slots=True)
class WebhookTarget:
    """An address that gets signed JSON. Some carry their secret in the path, so it is one."""

    url: str = field(repr=False)
    secret: str = field(repr=False)

    def shown(self) -> dict[str, Any]:
        """Return what may be seen of it."""
        parts = urlsplit(self.url)
        return {"target": f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}/…"}


@dataclass(frozen=True, slots=True)
class EmailTarget:
    """A mail server, and who gets the mail."""

    host: str
    port: int
    security: Security
    sender: str
    recipients: tuple[str, ...]
    username: str = field(default="", repr=False)
    password: str = field(default="", repr=False)

    def shown(self) -> dict[str, Any]:
        """Return what may be seen of it."""
        return {
            "target": ", ".join(self.recipients), "host": self.host, "port": self.port, "security": self.security,
            "sender": self.sender, "recipients": list(self.recipients), "signs_in": bool(self.username),
        }  # fmt: skip


Target = WebhookTarget | EmailTarget


def packed(target: Target) -> bytes:
    """Return what is sealed."""
    return json.dumps(asdict(target)).encode()


def unpacked(kind: str, plain: bytes) -> Target:
    """Return the target of a channel of a kind."""
    fields = json.loads(plain)
    if kind == "webhook":
        return WebhookTarget(**fields)
    return EmailTarget(**fields | {"recipients": tuple(fields["recipients"])})
