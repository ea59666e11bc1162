"""`certs`: certificates of published names, and trust in the server's own authority while developing."""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer

from towline.cli.client import quoted
from towline.cli.errors import USAGE, CliError
from towline.cli.options import Output, client, confirm, readable, secret
from towline.cli.output import Column, Format, ago, done, err, moment, show_facts, show_list, state

app = typer.Typer(help="Certificates of published names.", invoke_without_command=True)
Name = Annotated[str, typer.Argument(help="Host name, or a wildcard like '*.example.com'.", metavar="NAME")]

STORES = (
    ("update-ca-certificates", "/usr/local/share/ca-certificates/towline-{}.crt", ["update-ca-certificates"]),
    ("update-ca-trust", "/etc/pki/ca-trust/source/anchors/towline-{}.pem", ["update-ca-trust", "extract"]),
)
"""Program to look for, where it wants the certificate, and what to run: Debian and Alpine, Fedora and its kin."""
MACOS = ["security", "add-trusted-cert", "-d", "-r", "trustRoot", "-k", "/Library/Keychains/System.keychain"]
RUN_TIMEOUT = 120.0


def register(root: typer.Typer) -> None:
    root.add_typer(app, name="certs")


@app.callback()
def _list(
    context: typer.Context,
    search: Annotated[str, typer.Option(help="Part of a name.")] = "",
    output: Output = Format.TABLE,
) -> None:
    """List certificates with their state and its reason."""
    if context.invoked_subcommand:
        return
    with client() as api:
        items = api.items("certificates", search=search)
        show_list(items, output, COLUMNS, empty="no name needs a certificate yet; publish a route first")


@app.command("show")
def show_certificate(name: Name, output: Output = Format.TABLE) -> None:
    """Show one certificate: what is served, until when, and what happens next."""
    with client() as api:
        found = api.get(f"certificates/{quoted(name)}")
    facts = [
        ("name", found["name"]), ("state", state(found["state"], found["reason"])), ("source", found["source"]),
        ("names", ", ".join(found["names"])), ("issuer", found["issuer"]), ("from", moment(found["begins_at"])),
        ("until", _until(found)), ("renewed", ago(found["renew_at"]) if found["renew_at"] else ""),
        ("next try", ago(found["next_try_at"]) if found["next_try_at"] and not found["served"] else ""),
        ("challenge", found["challenge"]), ("budget left", found["budget"]), ("fingerprint", found["fingerprint"]),
    ]  # fmt: skip
    show_facts(found, output, facts)


@app.command()
def renew(
    name: Name,
    force: Annotated[bool, typer.Option("--force", help="Ask even if the authority seems not to reach us.")] = False,
) -> None:
    """Look again and ask for a certificate now."""
    with client() as api:
        api.post(f"certificates/{quoted(name)}/renew", {"force": force})
    done(f"{name} is asked for now; see how it goes with: towline certs show {name}")


@app.command()
def upload(
    chain: Annotated[Path, typer.Argument(help="Certificate chain, PEM.")],
    key: Annotated[Path, typer.Option("--key", help="Private key, PEM, not encrypted; - for standard input.")],
) -> None:
    """Serve a certificate of your own."""
    body = {"chain": readable(chain), "key": secret("Key", key)}
    with client() as api:
        answer = api.post("certificates", body)
    for note in answer["notes"]:
        err.print(note)
    found = answer["certificate"]
    done(f"{', '.join(found['names'])}: served until {moment(found['ends_at'])}")


@app.command("rm")
def remove(
    name: Name,
    revoke: Annotated[bool, typer.Option("--revoke", help="Have its authority withdraw it.")] = False,
    compromised: Annotated[bool, typer.Option("--compromised", help="Withdraw it because its key leaked.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Forget an uploaded or unneeded certificate, or have an authority withdraw one."""
    withdraw = revoke or compromised
    question = f"Forget {name}?"
    if withdraw:
        question = f"Withdraw the certificate of {name}? A route that needs one gets a new one."
    confirm(question, yes=yes)
    with client() as api:
        if withdraw:
            reason = "key_compromise" if compromised else "unspecified"
            api.post(f"certificates/{quoted(name)}/revoke", {"reason": reason})
        else:
            api.call("DELETE", f"certificates/{quoted(name)}")
    done(f"{name} was {'withdrawn' if withdraw else 'forgotten'}")


@app.command()
def trust(
    print_only: Annotated[bool, typer.Option("--print", help="Only print the authority's certificate (PEM).")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Have this machine trust the server's own authority, so that browsers show local names without warning."""
    with client() as api:
        found = api.get("certificates/authority")
    if print_only:
        sys.stdout.write(found["pem"])
        return
    confirm(f"Trust every certificate of {found['fingerprint']} on this machine?", yes=yes)
    _install(found["pem"], found["fingerprint"].partition(":")[2][:12])
    done("trusted; browsers with a list of their own, like Firefox, need it imported there")


def _install(pem: str, short: str) -> None:
    """Put a certificate into the system's store. Raises: CliError: no store that we know, or no rights."""
    if sys.platform == "darwin":
        with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:
            file.write(pem)
            file.flush()
            _run([*MACOS, file.name])
        return
    for program, place, command in STORES:
        if shutil.which(program):
            Path(place.format(short)).write_text(pem)
            _run(command)
            return
    raise CliError("no certificate store that Towline knows", hint="print it with --print and import it by hand")


def _run(command: list[str]) -> None:
    ended = subprocess.run(command, capture_output=True, text=True, timeout=RUN_TIMEOUT, check=False)  # noqa: S603
    if ended.returncode:
        raise CliError(f"{command[0]} failed: {ended.stderr.strip()[-300:]}", hint="run it as root", code=USAGE)


def _until(entry: dict[str, Any]) -> str:
    if not entry["served"]:
        return ""
    return f"{moment(entry['ends_at'])} ({entry['days_left']} days)"


COLUMNS: list[Column] = [
    ("NAME", lambda entry: entry["name"]),
    ("STATE", lambda entry: state(entry["state"], entry["reason"])),
    ("SOURCE", lambda entry: entry["source"]),
    ("ISSUER", lambda entry: entry["issuer"]),
    ("DAYS LEFT", lambda entry: entry["days_left"]),
]
