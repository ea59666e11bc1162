"""What the registries API takes and gives. A password goes in and never comes out."""

from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, SecretStr, StringConstraints

MAX_PASSWORD_CHARACTERS = 16 * 1024
"""Cloud registries hand out JSON key files and signed tokens as passwords; they stay under 8 KiB."""
MAX_PLACES = 200

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")]
Host = Annotated[str, StringConstraints(min_length=1, max_length=255)]
"""`host[:port]`, no scheme and no path; the service checks it."""
Username = Annotated[str, StringConstraints(min_length=1, max_length=255, pattern=r"^[^\x00-\x1f:]+$")]
Password = Annotated[SecretStr, Field(min_length=1, max_length=MAX_PASSWORD_CHARACTERS)]
LabelKey = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9][a-zA-Z0-9._/-]{0,62}$")]
LabelValue = Annotated[str, StringConstraints(max_length=253)]


class Places(BaseModel):
    """Where a registry may be used. Each list that is not empty must fit; all empty: anywhere in the organisation."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    clusters: list[Name] = Field(default_factory=list, max_length=MAX_PLACES)
    projects: list[Name] = Field(default_factory=list, max_length=MAX_PLACES)
    labels: dict[LabelKey, LabelValue] = Field(default_factory=dict, max_length=64)


class RegistryRequest(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    name: Name
    host: Host
    username: Username
    password: Password
    places: Places = Field(default_factory=Places)


class RegistryPatch(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    host: Host | None = None
    username: Username | None = None
    password: Password | None = None
    places: Places | None = None


class RegistryOut(BaseModel):
    id: str
    name: str
    host: str
    username: str
    places: Places
    created_at: datetime
    updated_at: datetime
    password_changed_at: datetime
