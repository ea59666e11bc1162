"""Settings of the server: one typed object, from a TOML file and `TOWLINE_SERVER_…`, environment before file.

Unknown keys are errors that name the nearest known one. Values that are secrets come from files, never from here.
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Mapping
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import platformdirs
from pydantic import AfterValidator, BeforeValidator, Field, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from towline.control.errors import StartupError

PREFIX = "TOWLINE_SERVER_"
FILE_VARIABLE = "TOWLINE_SERVER_CONFIG_FILE"
"""Names the TOML file; without it `server.toml` in the data folder is read when it exists."""


LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
"""Addresses that nobody else reaches."""


def _words(value: object) -> object:
    """A list from the environment: words between commas."""
    return [word.strip() for word in value.split(",") if word.strip()] if isinstance(value, str) else value


def _pairs(value: object) -> object:
    """A table from the environment: `name=value` between commas."""
    if not isinstance(value, str):
        return value
    return dict(word.split("=", 1) if "=" in word else (word, "") for word in _words(value))  # type: ignore[attr-defined]


def _absolute(path: Path) -> Path:
    return path.expanduser().absolute()


Words = Annotated[list[str], NoDecode, BeforeValidator(_words)]
Pairs = Annotated[dict[str, str], NoDecode, BeforeValidator(_pairs)]
AbsolutePath = Annotated[Path, AfterValidator(_absolute)]


def default_data_folder() -> Path:
    """Return where a server keeps its data: the system's place as root, else the user's."""
    if os.geteuid() == 0:
        return Path("/var/lib/towline")
    return Path(platformdirs.user_data_path("towline"))


class Settings(BaseSettings):
    """Everything that an operator may choose. Each field's description is its documentation."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="forbid", frozen=True, hide_input_in_errors=True)

    # -- where
    data_folder: AbsolutePath = Field(
        default_factory=default_data_folder,
        description="Folder of the database, the keys and the certificates. Everything worth a backup is in it.",
    )
    listen: str = Field(
        "0.0.0.0:8443",
        description="Address and port of the one listening socket. Plain HTTP is answered on it for loopback only.",
    )
    hostnames: Words = Field(
        default_factory=list,
        description="Names and addresses that people and agents reach the server by: they go into its certificate and "
        "into the list of hosts it answers for. The first one is shown in join commands. Loopback and the "
        "machine's own name and addresses are always included.",
    )
    public_url: str = Field(
        "",
        description="Address for join commands and links, when not `https://HOSTNAME:PORT`, e.g. behind a balancer.",
    )
    agent_urls: Words = Field(
        default_factory=list,
        description="Every address that agents may dial, in order of preference. Empty: the public address alone.",
    )

    # -- database
    database_url: str = Field(
        "",
        description="`sqlite:////path` or `postgresql://user@host/name`. Empty: `towline.sqlite` in the data folder. "
        "A password belongs into `database_url_file`.",
        repr=False,
    )
    database_url_file: AbsolutePath | None = Field(
        None, description="File that holds the database URL, for one with a password in it."
    )
    backups_kept: int = Field(5, ge=1, le=1000, description="Backups made before migrations that are kept.")

    # -- TLS
    tls_certificate_file: AbsolutePath | None = Field(
        None,
        description="Certificate chain in PEM, read again when it changes. Empty: our own authority signs one.",
    )
    tls_key_file: AbsolutePath | None = Field(None, description="Private key in PEM of the certificate.")
    trusted_proxies: Words = Field(
        default_factory=list,
        description="Networks (CIDR) of proxies that may speak plain HTTP and whose `X-Forwarded-*` is believed.",
    )
    allowed_origins: Words = Field(
        default_factory=list,
        description="Further origins (`https://name`) whose pages may use the API with a cookie. Usually none.",
    )

    # -- first start
    admin_username: str = Field("admin", description="Name of the first user when `admin_password_file` makes one.")
    admin_password_file: AbsolutePath | None = Field(
        None, description="File with the first user's password (12 characters or more), for unattended installs."
    )

    # -- secrets at rest
    sealing_key_files: Words = Field(
        default_factory=list,
        description="Files with 32 bytes each (raw, or base64) that wrap the keys of secrets; the last one wraps new "
        "secrets. Empty: `keys/sealing-*.key` in the data folder, made at first start. Mode 0400 or 0600.",
    )

    # -- logs and figures
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least level that is logged.")
    log_format: Literal["auto", "json", "console"] = Field(
        "auto", description="Shape of log lines. `auto`: for people on a terminal, JSON otherwise."
    )
    metrics_public: bool = Field(
        False, description="Answer `/metrics` without a token to anybody. Loopback is always answered."
    )

    # -- limits
    api_rate: float = Field(20.0, gt=0, description="Requests per second of one token or session.")
    api_burst: int = Field(60, ge=1, description="Requests that one token or session may make at once.")
    login_per_account: int = Field(5, ge=1, description="Attempts to sign in per minute and account.")
    login_per_address: int = Field(20, ge=1, description="Attempts to sign in per minute and address.")
    enrol_per_address: int = Field(10, ge=1, description="Attempts to enrol an agent per minute and address.")
    connections_per_address: int = Field(100, ge=1, description="Open connections of one address.")
    streams_per_user: int = Field(64, ge=1, description="Open streams (terminals, logs, forwards) of one user.")
    body_bytes: int = Field(
        1024 * 1024, ge=1024, description="Longest body of an API request, in bytes. Bundles have their own limit."
    )
    drain_timeout: float = Field(
        30.0, ge=0, description="Seconds that running requests and streams get when the server stops."
    )

    # -- sessions and tokens
    session_idle: float = Field(12 * 3600.0, gt=0, description="Seconds after which an unused session ends.")
    session_lifetime: float = Field(7 * 86400.0, gt=0, description="Seconds after which any session ends.")
    token_lifetime: float = Field(
        90 * 86400.0, gt=0, description="Seconds that a token lives when nothing else is asked."
    )

    # -- retention, in days
    keep_audit_days: int = Field(365, ge=30, description="Days that audit events are kept.")
    keep_job_days: int = Field(90, ge=1, description="Days that finished jobs and their progress are kept.")
    keep_session_days: int = Field(7, ge=1, description="Days that ended sessions and used tickets are kept.")
    keep_token_days: int = Field(30, ge=1, description="Days that expired and revoked tokens and join tokens are kept.")
    keep_bundle_days: int = Field(7, ge=1, description="Days that bundles no revision refers to are kept.")
    keep_inventory_days: int = Field(
        30, ge=1, description="Days that the last known state of an agent that is away is kept."
    )

    keep_recording_days: int = Field(90, ge=1, description="Days that recorded sessions are kept.")
    keep_alert_days: int = Field(90, ge=1, description="Days that alerts which ended, and silences, are kept.")

    # -- alerts
    alert_group_seconds: float = Field(
        30.0, ge=0, le=3600, description="Seconds from the first alert of a rule to the message: others join it."
    )
    outgoing_networks: Words = Field(
        default_factory=list,
        description="Networks (CIDR) beside public addresses that webhooks and mail servers of alerts may be in, like "
        "`10.0.0.0/8` or `127.0.0.0/8`. In these, plain text is allowed too. Metadata services never are.",
    )

    # -- recorded sessions; a cluster's own policy goes before these
    recording: Literal["off", "interactive", "all"] = Field(
        "off",
        description="Shells that are recorded: none, those with input or a terminal, or every exec and attach.",
    )
    recording_namespaces: Words = Field(
        default_factory=list, description="Namespaces whose shells are recorded, on Kubernetes. Empty: all."
    )
    recording_on_loss: Literal["continue", "end"] = Field(
        "continue",
        description="What a session does whose recording cannot go on (disk, size, time): go on unrecorded, or end.",
    )
    recording_on_unreadable: Literal["refuse", "unrecorded"] = Field(
        "refuse", description="What happens to a shell in a protocol that cannot be recorded. It is audited either way."
    )
    recording_keys: bool = Field(False, description="Record what is typed as well: passwords too.")
    recording_minutes: int = Field(480, ge=1, le=10_080, description="Longest recording, in minutes.")
    recording_bytes: int = Field(
        64 * 1024 * 1024, ge=64 * 1024, description="Most that one recording shows, in bytes before compression."
    )

    # -- agents
    heartbeat_interval: float = Field(30.0, ge=0.1, description="Seconds between two heartbeats of an agent.")
    offline_after: float = Field(90.0, ge=0.3, description="Seconds of silence after which a cluster is away.")

    # -- published services
    published: Pairs = Field(
        default_factory=dict,
        description="Host names and what answers for them, `CLUSTER/ADDRESS:PORT`, through the cluster's agent.",
    )

    # -- gateway
    gateway_domain: str = Field(
        "",
        description="Domain below which routes get names by themselves, `NAME-CLUSTER.GATEWAY_DOMAIN`. Needs a "
        "wildcard DNS record that leads here, and a registrable domain other than the dashboard's.",
    )
    gateway_allow_shared_domain: bool = Field(
        False,
        description="Take a `gateway_domain` that shares its registrable domain with the dashboard. For development "
        "only: published services could then set cookies that the dashboard's browsers send.",
    )
    gateway_source_grace: float = Field(
        60.0, ge=0, description="Seconds that a route stays when its source is missing from what the agent tells anew."
    )
    gateway_away_grace: float = Field(
        3600.0,
        ge=60,
        description="Seconds that a cluster may be away before its sources' routes give their names up to others.",
    )
    gateway_tcp_ports: str = Field(
        "",
        description="Ports that raw TCP routes may ask for with `tcp_port`, `FIRST-LAST` or one port; on the address "
        "of `listen`. Empty: none.",
    )
    dns_resolvers: Words = Field(
        default_factory=list,
        description="Name servers to ask about domains, `ADDRESS` or `ADDRESS:PORT`. Empty: those of the system.",
    )

    # -- certificates
    gateway_listen_http: str = Field(
        "",
        description="Address and port for plain HTTP, e.g. `0.0.0.0:80`: answers HTTP-01 challenges and redirects "
        "everything else to HTTPS. Empty: none.",
    )
    acme_directory: str = Field(
        "",
        description="Directory of the ACME authority that certifies published names, like "
        "`https://acme-v02.api.letsencrypt.org/directory`. Whoever sets it agrees to its terms. Empty: our own "
        "authority signs them, which is for development.",
    )
    acme_email: str = Field("", description="Address that the authority may write to about our account.")
    acme_ca_file: AbsolutePath | None = Field(
        None, description="Certificates (PEM) to check the authority's own HTTPS with. Empty: the usual ones."
    )
    acme_eab_key_id: str = Field(
        "", description="Key id of the external account that ours is bound to, where the authority asks for one."
    )
    acme_eab_hmac_file: AbsolutePath | None = Field(
        None, description="File with the key (base64url) of the external account."
    )
    acme_challenges: Words = Field(
        default_factory=lambda: ["http-01", "tls-alpn-01", "dns-01"],
        description="Challenges that may be used, the best first. Wildcards need `dns-01`.",
    )
    acme_dns: Pairs = Field(
        default_factory=dict,
        description="How `dns-01` sets records, `provider` and its options: `rfc2136` (`server`, `key_file`, `zone`), "
        "`webhook` (`url`, `token_file`), or a plugin's name. Empty: not at all.",
    )
    acme_server_names: bool = Field(
        False,
        description="Have the authority certify the server's own host names too, and `*.` `kubernetes_host` by "
        "`dns-01`. Not those of `agent_urls`: agents that pinned our own authority need a name that shows it.",
    )
    acme_orders_per_domain: int = Field(
        40, ge=1, description="Certificates a week for the names of one registered domain; Let's Encrypt gives 50."
    )
    acme_orders_per_account: int = Field(
        250, ge=1, description="Certificates in three hours in all; Let's Encrypt gives 300."
    )
    acme_http_port: int = Field(
        80, ge=1, le=65535, description="Port at which the authority looks for HTTP-01; another one in tests only."
    )
    acme_tls_port: int = Field(
        443, ge=1, le=65535, description="Port at which the authority looks for TLS-ALPN-01; another one in tests only."
    )

    # -- Kubernetes
    kubernetes_host: str = Field(
        "",
        description="Host below which each cluster has a name of its own (`k8s.example.com`: `NAME.k8s.example.com`), "
        "beside `/k8s/clusters/NAME`. Needs a wildcard DNS record; our own authority's certificate covers it.",
    )
    kubernetes_audit_reads: bool = Field(
        True,
        description="Record plain reads of clusters too. Changes, shells, secrets and refusals are always recorded.",
    )
    kubernetes_requests_per_user: int = Field(
        500, ge=1, description="Requests to clusters of one user that run at once, watches and shells included."
    )

    # -- agents and API of InstaDeploy
    instadeploy_host: str = Field(
        "",
        description="Host name at which InstaDeploy's REST API is answered (`GET /agents`, `POST /deploy`, …), with "
        "tokens of ours. Empty: at none.",
    )
    instadeploy_listen: str = Field(
        "",
        description="Address and port of a listener of its own for InstaDeploy's REST API and agents, without TLS "
        "(`127.0.0.1:8000`). Empty: none. Its agents reach `/ws` on the main port as well.",
    )
    instadeploy_open: bool = Field(
        False,
        description="Answer that listener's API without a token, as InstaDeploy does: with a deployer's rights, to "
        "callers on this machine. Only with `instadeploy_listen` on a loopback address.",
    )

    @field_validator("instadeploy_open")
    @classmethod
    def _is_local(cls, value: bool, info: ValidationInfo) -> bool:
        host = str(info.data.get("instadeploy_listen", "")).rpartition(":")[0].strip("[]")
        if value and host not in LOOPBACK:
            raise ValueError("needs instadeploy_listen on a loopback address, e.g. 127.0.0.1:8000")
        return value

    @field_validator("instadeploy_listen")
    @classmethod
    def _is_listener(cls, value: str) -> str:
        host, _, port = value.rpartition(":")
        if value and (not host or not port.isascii() or not port.isdigit() or int(port) > 65535):
            raise ValueError("must be an address and a port, e.g. 127.0.0.1:8000")
        return value

    @field_validator("kubernetes_host", "gateway_domain", "instadeploy_host")
    @classmethod
    def _is_host(cls, value: str) -> str:
        name = value.strip().strip(".").lower()
        if name and not re.fullmatch(r"(?!-)[a-z0-9-]{1,63}(\.[a-z0-9-]{1,63})*", name):
            raise ValueError("must be a host name, e.g. k8s.example.com or apps.example.net")
        return name

    @field_validator("outgoing_networks")
    @classmethod
    def _networks(cls, value: list[str]) -> list[str]:
        for text in value:
            try:
                ip_network(text, strict=False)
            except ValueError as error:
                raise ValueError(f"{text} is no network: write it like 10.0.0.0/8") from error
        return value

    @field_validator("gateway_tcp_ports")
    @classmethod
    def _ports(cls, value: str) -> str:
        if not value:
            return value
        first, dash, last = value.replace(" ", "").partition("-")
        ports = [first, last] if dash else [first]
        if not all(port.isascii() and port.isdigit() and 0 < int(port) < 65_536 for port in ports):
            raise ValueError("must be a port, or FIRST-LAST")
        if int(ports[0]) > int(ports[-1]):
            raise ValueError("the first port is above the last")
        return "-".join(ports)

    @field_validator("listen", "gateway_listen_http")
    @classmethod
    def _has_port(cls, value: str, info: ValidationInfo) -> str:
        if not value and info.field_name != "listen":
            return value
        host, colon, port = value.rpartition(":")
        if not colon or not host or not port.isdigit() or int(port) > 65535:
            raise ValueError("must be ADDRESS:PORT, e.g. 0.0.0.0:8443 or [::]:8443")
        return value

    @field_validator("public_url")
    @classmethod
    def _is_url(cls, value: str) -> str:
        if value and not value.startswith(("https://", "http://")):
            raise ValueError("must begin with https://")
        return value.rstrip("/")

    @property
    def listen_host(self) -> str:
        return self.listen.rpartition(":")[0].strip("[]")

    @property
    def listen_port(self) -> int:
        return int(self.listen.rpartition(":")[2])

    def own_hosts(self) -> list[str]:
        """Return the host names that the settings give this server."""
        urls = (urlsplit(url).hostname or "" for url in (self.public_url, *self.agent_urls))
        own = (host.strip().strip("[]").lower() for host in self.hostnames)
        return [name for name in (*own, *urls, self.instadeploy_host) if name]

    @property
    def tcp_ports(self) -> range:
        """Ports that raw TCP routes may ask for."""
        first, _, last = self.gateway_tcp_ports.partition("-")
        return range(int(first), int(last or first) + 1) if first else range(0)

    @property
    def listen_http(self) -> tuple[str, int] | None:
        """Address and port for plain HTTP; None for no such listener."""
        host, _, port = self.gateway_listen_http.rpartition(":")
        return (host.strip("[]"), int(port)) if port else None

    @property
    def instadeploy_place(self) -> tuple[str, int] | None:
        """Address and port of InstaDeploy's listener; None for no such listener."""
        host, _, port = self.instadeploy_listen.rpartition(":")
        return (host.strip("[]"), int(port)) if port else None

    def resolved_database_url(self) -> str:
        """Return the database's URL; it may hold a password, so never log it. Raises: StartupError."""
        if self.database_url_file is not None:
            try:
                return self.database_url_file.read_text().strip()
            except OSError as error:
                raise StartupError(f"database_url_file cannot be read: {error.strerror}") from error
        return self.database_url or f"sqlite:///{self.data_folder / 'towline.sqlite'}"

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only what `load` hands in: it has merged file and environment, and explains what is wrong better."""
        return (init_settings,)


def load(environment: Mapping[str, str] | None = None, file: Path | None = None, **overrides: Any) -> Settings:
    """Read the settings. Raises: StartupError: every problem, one per line."""
    settings, problems = _read(os.environ if environment is None else environment, file, overrides)
    if settings is None or problems:
        raise StartupError("\n".join(problems))
    return settings


def check(environment: Mapping[str, str] | None = None, file: Path | None = None) -> list[str]:
    """Return every problem of the settings, in words; nothing when all is well."""
    return _read(os.environ if environment is None else environment, file, {})[1]


def _read(
    environment: Mapping[str, str], file: Path | None, overrides: dict[str, Any]
) -> tuple[Settings | None, list[str]]:
    given = {
        name.removeprefix(PREFIX).lower(): value
        for name, value in environment.items()
        if name.startswith(PREFIX) and name != FILE_VARIABLE
    }
    problems = [_unknown(f"{PREFIX}{key.upper()}", key, PREFIX) for key in given if key not in Settings.model_fields]
    path = _file(environment, file, overrides.get("data_folder") or given.get("data_folder"))
    from_file, more = ({}, []) if path is None else _read_file(path)
    problems += more
    merged = {key: value for key, value in {**from_file, **given, **overrides}.items() if key in Settings.model_fields}
    try:
        settings = Settings(**merged)
    except ValidationError as error:
        return None, problems + [_explain(dict(entry), given) for entry in error.errors(include_input=False)]
    return settings, problems + _contradictions(settings)


def _file(environment: Mapping[str, str], file: Path | None, data_folder: object) -> Path | None:
    named = file or (Path(environment[FILE_VARIABLE]) if environment.get(FILE_VARIABLE) else None)
    if named is not None:
        return named
    usual = Path(str(data_folder) if data_folder else default_data_folder()) / "server.toml"
    return usual if usual.is_file() else None


def _read_file(path: Path) -> tuple[dict[str, Any], list[str]]:
    try:
        content = tomllib.loads(path.read_text())
    except (OSError, UnicodeDecodeError) as error:
        return {}, [f"{path}: cannot be read: {error}"]
    except tomllib.TOMLDecodeError as error:
        return {}, [f"{path}: is no TOML: {error}"]
    return content, [f"{path}: {_unknown(key, key, '')}" for key in content if key not in Settings.model_fields]


def _unknown(shown: str, key: str, prefix: str) -> str:
    near = difflib.get_close_matches(key, Settings.model_fields, n=1, cutoff=0.5)
    name = f"{prefix}{near[0].upper()}" if near and prefix else (near[0] if near else "")
    return f"{shown} is no setting" + (f"; did you mean {name}?" if name else "")


def _explain(entry: dict[str, Any], given: Mapping[str, str]) -> str:
    key = str(entry["loc"][0]) if entry["loc"] else "settings"
    shown = f"{PREFIX}{key.upper()}" if key in given else key
    field = Settings.model_fields.get(key)
    about = f" ({field.description})" if field is not None and field.description else ""
    return f"{shown}: {str(entry['msg']).removeprefix('Value error, ')}{about}"


def _contradictions(settings: Settings) -> list[str]:
    problems = []
    if (settings.tls_certificate_file is None) != (settings.tls_key_file is None):
        problems.append("tls_certificate_file and tls_key_file belong together: name both or neither")
    if settings.database_url and settings.database_url_file:
        problems.append("database_url and database_url_file contradict each other: name one")
    if settings.session_idle > settings.session_lifetime:
        problems.append("session_idle is longer than session_lifetime, so it would never be reached")
    if settings.offline_after < 2 * settings.heartbeat_interval:
        problems.append(
            "offline_after is shorter than two heartbeats: clusters would go away and come back all the time"
        )
    return problems + _shared_domains(settings)


def _shared_domains(settings: Settings) -> list[str]:
    """Refuse a gateway whose services could set cookies for the dashboard."""
    if not settings.gateway_domain or settings.gateway_allow_shared_domain:
        return []
    from towline.control.domains.names import shares_domain  # its list of suffixes is for servers with a gateway

    shared = {host: shares_domain(settings.gateway_domain, host) for host in settings.own_hosts()}
    return [
        f"gateway_domain {settings.gateway_domain} shares the registrable domain {domain} with the dashboard at "
        f"{host}, so published services could set cookies for it: use another registrable domain, or set "
        "gateway_allow_shared_domain for development"
        for host, domain in shared.items()
        if domain
    ][:1]
