"""`login`, `logout`, `whoami`: who is signed in where."""

import os
import socket
import sys
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import typer

from towline.cli import credentials, trust
from towline.cli.client import sign_in
from towline.cli.credentials import Login
from towline.cli.errors import USAGE, CliError
from towline.cli.options import Output, client, confirm, readable, secret
from towline.cli.output import Format, done, reach, show_facts

LOOPBACK = {"localhost", "127.0.0.1", "::1"}


def register(app: typer.Typer) -> None:
    for function in (login, logout, whoami):
        app.command()(function)


def login(
    server: Annotated[str, typer.Argument(help="Address of the server, like https://towline.example:8443.")] = "",
    username: Annotated[str, typer.Option("--user", "-u", help="User name; asked for when missing.")] = "",
    password_file: Annotated[
        Path | None, typer.Option(help="File with the password; - for standard input. Asked for when missing.")
    ] = None,
    token_file: Annotated[
        Path | None, typer.Option(help="File with an API token to use instead of a password; - for standard input.")
    ] = None,
    fingerprint: Annotated[str, typer.Option(help="Fingerprint of the server's own authority, sha256:….")] = "",
    ca_file: Annotated[Path | None, typer.Option(help="Certificates of authorities to trust (PEM).")] = None,
) -> None:
    """Sign in to a server and keep the token for later commands."""
    url = _address(server or os.environ.get("TOWLINE_URL", ""))
    authority = _authority(url, fingerprint or os.environ.get("TOWLINE_FINGERPRINT", ""), ca_file)
    if token_file:
        stored = Login(url, secret("Token", token_file), authority=authority)
    else:
        stored = _with_password(url, authority, username, password_file)
    credentials.store(stored)
    with client() as api:
        name = api.get("whoami")["user"]["username"]
    credentials.store(Login(url, stored.token, name, authority))
    done(f"signed in to {url} as {name}")


def logout() -> None:
    """Revoke the stored token and forget it."""
    current = credentials.current()
    with client() as api:
        try:
            api.post("logout")
        finally:
            credentials.forget(current.url)
    done(f"signed out of {current.url}")


def whoami(output: Output = Format.TABLE) -> None:
    """Show who you are, your roles and where they hold."""
    with client() as api:
        me = api.get("whoami")
        url = api.login.url
    roles = ", ".join(f"{entry['role']} on {reach(entry['scope'])}" for entry in me["roles"])
    facts = [
        ("user", me["user"]["username"]), ("organisation", me["org"]["name"]), ("roles", roles),
        ("signed in by", me["via"]), ("server", url),
    ]  # fmt: skip
    show_facts(me, output, facts)


def _with_password(url: str, authority: str, username: str, password_file: Path | None) -> Login:
    if not username:
        if not sys.stdin.isatty():
            raise CliError("who signs in?", hint="name the user with --user", code=USAGE)
        username = typer.prompt("User", err=True)
    body = {
        "username": username, "password": secret("Password", password_file), "client": "cli",
        "name": f"towline on {socket.gethostname()}",
    }  # fmt: skip
    return Login(url, sign_in(url, authority, body)["token"], username, authority)


def _address(server: str) -> str:
    url = server if "://" in server else f"https://{server}"
    parts = urlsplit(url)
    if not server or parts.scheme not in {"http", "https"} or not parts.hostname or parts.path.strip("/"):
        raise CliError(
            f"{server!r} is no server's address", hint="for example: https://towline.example:8443", code=USAGE
        )
    if parts.scheme == "http" and parts.hostname not in LOOPBACK:
        raise CliError("plain HTTP is for this machine only", hint=f"use https://{parts.netloc}", code=USAGE)
    return f"{parts.scheme}://{parts.netloc}"


def _authority(url: str, fingerprint: str, ca_file: Path | None) -> str:
    if url.startswith("http:"):
        return ""
    if ca_file:
        return readable(ca_file)
    if fingerprint:
        return trust.pinned(url, fingerprint)
    known = credentials.load_all().get(url)
    if known and known.authority:
        return known.authority
    if trust.is_trusted(url):
        return ""
    seen, authority = trust.offered(url)
    confirm(
        f"{url} uses an authority of its own: {seen}\nIs this the fingerprint that its administrator shows?", yes=False
    )
    return trust.pinned(url, seen) and authority
