"""`alerts`: what is not well for too long, which rules say so, who is told, and what is silenced."""

import re
from pathlib import Path
from typing import Annotated, Any

import typer

from towline.cli.client import quoted
from towline.cli.errors import FAILED, USAGE, CliError
from towline.cli.options import Output, client, confirm, secret
from towline.cli.output import Column, Format, ago, cell, done, err, moment, out, show, show_facts, show_list, state

app = typer.Typer(help="Alerts: what is not well, and who is told.", invoke_without_command=True)

AlertId = Annotated[str, typer.Argument(help="Id of an alert, from the list.", metavar="ALERT")]
RuleWord = Annotated[str, typer.Argument(help="A rule, from `towline alerts rules`.", metavar="RULE")]
ChannelName = Annotated[str, typer.Argument(help="Name of a channel.", metavar="CHANNEL")]
USUAL = "usual"
"""The word for a value that follows the usual again."""
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def register(root: typer.Typer) -> None:
    root.add_typer(app, name="alerts")


@app.callback()
def _list(
    context: typer.Context,
    state_: Annotated[str, typer.Option("--state", help="pending, firing or resolved; default: what is live.")] = "",
    rule: Annotated[str, typer.Option(help="Only of this rule.")] = "",
    cluster: Annotated[str, typer.Option(help="Only of this cluster.")] = "",
    search: Annotated[str, typer.Option(help="Only with this text in name or summary.")] = "",
    output: Output = Format.TABLE,
) -> None:
    """List alerts, the worst first."""
    if context.invoked_subcommand:
        return
    with client() as api:
        query: dict[str, Any] = {"state": state_, "rule": rule, "cluster": cluster, "search": search}
        show_list(api.items("alerts", sort="-urgency", **query), output, COLUMNS, empty="no alerts")


@app.command("show")
def show_(alert: AlertId, output: Output = Format.TABLE) -> None:
    """Show one alert."""
    with client() as api:
        found = api.get(f"alerts/{quoted(alert)}")
    show_facts(found, output, [(name.replace("_", " "), found[name]) for name in FACTS])


# -- rules -------------------------------------------------------------------------------------


@app.command()
def rules(output: Output = Format.TABLE) -> None:
    """List the rules as they hold."""
    with client() as api:
        show_list(api.get("alert-rules")["items"], output, RULE_COLUMNS, empty="no rules")


@app.command()
def rule(
    rule: RuleWord,
    enabled: Annotated[bool | None, typer.Option("--on/--off", help="Look for it or not.")] = None,
    after: Annotated[str, typer.Option(help="How long until somebody is told, like 10m.")] = "",
    clear: Annotated[str, typer.Option(help="How long it must not be so before it has ended, like 10m.")] = "",
    threshold: Annotated[str, typer.Option(help="The number of the rule.")] = "",
    severity: Annotated[str, typer.Option(help="critical or warning.")] = "",
    channels: Annotated[str, typer.Option(help="Names between commas; all: every channel; none: nobody.")] = "",
    output: Output = Format.TABLE,
) -> None:
    """Change a rule; `usual` as a value follows the usual again."""
    body: dict[str, Any] = {"rule": rule}
    body |= {} if enabled is None else {"enabled": enabled}
    body |= {"after_seconds": None if after == USUAL else span(after)} if after else {}
    body |= {"clear_seconds": None if clear == USUAL else span(clear)} if clear else {}
    body |= {"threshold": None if threshold == USUAL else _number(threshold)} if threshold else {}
    body |= {"severity": None if severity == USUAL else severity} if severity else {}
    body |= {"channels": chosen(channels)} if channels else {}
    with client() as api:
        found = api.call("PATCH", "alert-rules", body=body)
    show_list([found], output, RULE_COLUMNS, empty="")


def chosen(text: str) -> list[str] | None:
    """Return the channels that a rule tells; None for every one."""
    if text in ("all", USUAL):
        return None
    return [] if text == "none" else [name.strip() for name in text.split(",") if name.strip()]


def span(text: str) -> float:
    """Return the seconds of `90s`, `10m`, `2h` or `3d`. Raises: CliError."""
    found = re.fullmatch(r"(\d{1,6})([smhd])", text)
    if found is None:
        raise CliError(f"{text!r} is no time", hint="write it like 90s, 10m, 2h or 3d", code=USAGE)
    return int(found[1]) * UNITS[found[2]]


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise CliError(f"{text!r} is no number", code=USAGE) from error


# -- channels ----------------------------------------------------------------------------------


@app.command()
def channels(output: Output = Format.TABLE) -> None:
    """List where alerts go, and how that works at present."""
    with client() as api:
        show_list(api.get("alert-channels")["items"], output, CHANNEL_COLUMNS, empty="no channels: nobody is told")


@app.command("add-webhook")
def add_webhook(
    name: ChannelName,
    url_file: Annotated[
        Path | None, typer.Option(help="File with the address; -: standard input. Else: asked.")
    ] = None,
    secret_file: Annotated[
        Path | None, typer.Option(help="File with the secret that signs; without one it is made, and printed once.")
    ] = None,
    output: Output = Format.TABLE,
) -> None:
    """Add a webhook: signed JSON to an address of yours."""
    target: dict[str, Any] = {"kind": "webhook", "url": secret("Address", url_file).strip()}
    if secret_file is not None:
        target["secret"] = secret("Secret", secret_file)
    with client() as api:
        made = api.post("alert-channels", {"name": name, "target": target})

    def lines() -> None:
        if made["secret"]:
            err.print("The secret that signs its messages, shown this once:\n")
            out.print(cell(made["secret"]))
        err.print(cell(f"\nThen: towline alerts test {name}"))

    show(made, output, lines)


@app.command("add-email")
def add_email(
    name: ChannelName,
    to: Annotated[list[str], typer.Option("--to", help="Who gets the mail; more than once for more.")],
    sender: Annotated[str, typer.Option("--from", help="Who it is from.")],
    host: Annotated[str, typer.Option(help="Mail server.")],
    port: Annotated[int, typer.Option(help="Its port.")] = 587,
    security: Annotated[str, typer.Option(help="starttls, tls, or none in listed networks.")] = "starttls",
    user: Annotated[str, typer.Option(help="User name there, if it asks for one.")] = "",
    password_file: Annotated[Path | None, typer.Option(help="File with the password; -: standard input.")] = None,
    output: Output = Format.TABLE,
) -> None:
    """Add e-mail: through your mail server."""
    target: dict[str, Any] = {
        "kind": "email", "host": host, "port": port, "security": security, "sender": sender, "recipients": to,
        "username": user, "password": secret("Password", password_file) if user else "",
    }  # fmt: skip
    with client() as api:
        made = api.post("alert-channels", {"name": name, "target": target})
    show(made, output, lambda: done(f"{name} was added; now try it: towline alerts test {name}"))


@app.command()
def test(channel: ChannelName) -> None:
    """Send a test message now, and say whether it arrived."""
    with client() as api:
        found = api.post(f"alert-channels/{quoted(channel)}/test")
    if not found["sent"]:
        raise CliError(f"the test message was not sent: {found['error']}", code=FAILED)
    done(f"{channel} took the test message")


@app.command()
def channel(
    channel: ChannelName,
    enabled: Annotated[bool, typer.Option("--on/--off", help="Send by it or not.")],
) -> None:
    """Switch a channel on or off. Off drops what waits for it."""
    with client() as api:
        api.call("PATCH", f"alert-channels/{quoted(channel)}", body={"enabled": enabled})
    done(f"{channel} is {'on' if enabled else 'off'}")


@app.command("rm-channel")
def remove_channel(
    channel: ChannelName, yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False
) -> None:
    """Remove a channel, and what waits for it."""
    confirm(f"Remove {channel}? Nothing goes there any more.", yes=yes)
    with client() as api:
        api.call("DELETE", f"alert-channels/{quoted(channel)}")
    done(f"{channel} was removed")


# -- silences ----------------------------------------------------------------------------------


@app.command()
def silences(output: Output = Format.TABLE) -> None:
    """List the silences that hold now."""
    with client() as api:
        show_list(api.get("alert-silences")["items"], output, SILENCE_COLUMNS, empty="nothing is silenced")


@app.command()
def silence(
    why: Annotated[str, typer.Option(help="The reason, for others.")],
    for_: Annotated[str, typer.Option("--for", help="How long, like 2h.")] = "2h",
    cluster: Annotated[str, typer.Option(help="Only this cluster; default: everywhere.")] = "",
    rule: Annotated[str, typer.Option(help="Only this rule; default: every rule.")] = "",
    output: Output = Format.TABLE,
) -> None:
    """Tell nothing of a cluster, a rule, or everything, for some time."""
    body = {"cluster": cluster, "rule": rule or None, "seconds": int(span(for_)), "reason": why}
    with client() as api:
        made = api.post("alert-silences", body)
    show(made, output, lambda: done(f"{made['id']}: silent until {moment(made['ends_at'])}"))


@app.command()
def unsilence(
    silence: Annotated[str, typer.Argument(help="Id of a silence, from the list.", metavar="SILENCE")],
) -> None:
    """End a silence; what it held back and still fires is told."""
    with client() as api:
        api.call("DELETE", f"alert-silences/{quoted(silence)}")
    done("the silence has ended")


def shown_state(alert: dict[str, Any]) -> Any:
    """Return the state of an alert as shape and word, with what is wrong."""
    words = {"firing": "down" if alert["severity"] == "critical" else "degraded", "pending": "working"}
    shape = state(words.get(alert["state"], "healthy"))
    silenced = ", silenced" if alert["silenced"] and alert["state"] != "resolved" else ""
    label = cell(alert["state"] + silenced)
    label.style = shape.style
    return label


def _when(rule: dict[str, Any]) -> str:
    after = f"after {rule['after_seconds']:g} s" if rule["after_seconds"] else "at once"
    after += f", until {rule['clear_seconds']:g} s without it" if rule["clear_seconds"] else ""
    return after if rule["threshold"] is None else f"{after}, {rule['threshold']:g} {rule['threshold_word']}"


def _works(channel: dict[str, Any]) -> Any:
    if not channel["enabled"]:
        return state("unknown", "off")
    if channel["failing_at"]:
        return state("down", channel["error"])
    return state("healthy") if channel["sent_at"] else state("unknown", "not tried")


COLUMNS: list[Column] = [
    ("ID", lambda alert: alert["id"]),
    ("RULE", lambda alert: alert["rule"]),
    ("STATE", shown_state),
    ("WHAT", lambda alert: alert["name"]),
    ("SINCE", lambda alert: ago(alert["resolved_at"] or alert["fired_at"] or alert["began_at"])),
    ("WHY", lambda alert: alert["summary"]),
]
FACTS = (
    "id", "rule", "title", "severity", "state", "name", "summary", "cluster", "project", "namespace", "began_at",
    "fired_at", "resolved_at", "times", "silenced", "told",
)  # fmt: skip
RULE_COLUMNS: list[Column] = [
    ("RULE", lambda rule: rule["rule"]),
    ("ON", lambda rule: rule["enabled"]),
    ("SEVERITY", lambda rule: rule["severity"]),
    ("WHEN", _when),
    ("CHANNELS", lambda rule: "all" if rule["channels"] is None else ", ".join(rule["channels"]) or "none"),
    ("MEANING", lambda rule: rule["meaning"]),
]
CHANNEL_COLUMNS: list[Column] = [
    ("NAME", lambda channel: channel["name"]),
    ("KIND", lambda channel: channel["kind"]),
    ("TO", lambda channel: channel["target"]),
    ("STATE", _works),
    ("WAITING", lambda channel: channel["waiting"]),
    ("ARRIVED", lambda channel: ago(channel["sent_at"])),
]
SILENCE_COLUMNS: list[Column] = [
    ("ID", lambda silence: silence["id"]),
    ("WHERE", lambda silence: silence["cluster"] or "everywhere"),
    ("RULE", lambda silence: silence["rule"] or "all"),
    ("UNTIL", lambda silence: moment(silence["ends_at"])),
    ("WHO", lambda silence: silence["created_by"]),
    ("WHY", lambda silence: silence["reason"]),
]
