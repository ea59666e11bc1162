"""Which server the command line speaks to, with which token and which trust; one file that only its user reads."""

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path

import platformdirs

from towline.cli.errors import NOT_ALLOWED, CliError

FILE = "credentials.json"


@dataclass(frozen=True, slots=True)
class Login:
    """One server. `authority` is the PEM of the certificate that its pin named; empty: the system's trust."""

    url: str
    token: str = field(repr=False)
    username: str = ""
    authority: str = field(default="", repr=False)


def folder() -> Path:
    """Return the folder of the file; `TOWLINE_CONFIG_DIR` moves it."""
    return Path(os.environ.get("TOWLINE_CONFIG_DIR") or platformdirs.user_config_path("towline"))


def load_all() -> dict[str, Login]:
    """Return every stored login by its URL; the one used last stands first."""
    try:
        entries = json.loads((folder() / FILE).read_text())
        return {entry["url"]: Login(**entry) for entry in entries}
    except FileNotFoundError:
        return {}
    except (ValueError, TypeError, KeyError) as error:
        raise CliError(f"{folder() / FILE} is damaged", hint="remove it and sign in again") from error


def current() -> Login:
    """Return the login to use: the environment's, else the last one stored.

    Raises: CliError: nobody signed in.
    """
    stored = load_all()
    url, token = os.environ.get("TOWLINE_URL", "").rstrip("/"), os.environ.get("TOWLINE_TOKEN", "")
    if url or token:
        known = stored.get(url) if url else next(iter(stored.values()), None)
        authority = _authority_from_environment() or (known.authority if known else "")
        login = Login(url or (known.url if known else ""), token or (known.token if known else ""), "", authority)
        if login.url and login.token:
            return login
    elif stored:
        return next(iter(stored.values()))
    raise CliError("you are not signed in", hint="run `towline login https://SERVER`", code=NOT_ALLOWED)


def store(login: Login) -> None:
    """Keep a login as the current one."""
    others = [entry for url, entry in load_all().items() if url != login.url]
    _write([login, *others])


def forget(url: str) -> None:
    """Drop the login of a server."""
    _write([entry for known, entry in load_all().items() if known != url])


def _authority_from_environment() -> str:
    path = os.environ.get("TOWLINE_CA_FILE", "")
    return Path(path).read_text() if path else ""


def _write(logins: list[Login]) -> None:
    target = folder() / FILE
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    partial = target.with_suffix(".partial")
    partial.unlink(missing_ok=True)
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump([asdict(login) for login in logins], file, indent=1)
    partial.replace(target)
