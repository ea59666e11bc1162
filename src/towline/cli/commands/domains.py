"""`domains`: which names the organisation may publish under, and how it proves that they are its own."""

from typing import Annotated, Any

import typer

from towline.cli.client import quoted
from towline.cli.options import Output, client, confirm
from towline.cli.output import Column, Format, ago, cell, done, err, out, show, show_facts, show_list, state

app = typer.Typer(help="Domains: which names may be published.", invoke_without_command=True)

DomainName = Annotated[str, typer.Argument(help="A domain, e.g. example.com.", metavar="DOMAIN")]


def register(root: typer.Typer) -> None:
    root.add_typer(app, name="domains")


@app.callback()
def _list(
    context: typer.Context,
    search: Annotated[str, typer.Option(help="Part of a name.")] = "",
    output: Output = Format.TABLE,
) -> None:
    """List domains, and the record that proves each."""
    if context.invoked_subcommand:
        return
    with client() as api:
        none = "no domains yet; add one with: towline domains add example.com"
        show_list(api.items("domains", search=search), output, COLUMNS, empty="no such domain" if search else none)


@app.command()
def add(domain: DomainName, output: Output = Format.TABLE) -> None:
    """Add a domain, and say which DNS record proves it."""
    with client() as api:
        made = api.post("domains", {"name": domain})

    def lines() -> None:
        err.print("Set this DNS record:\n")
        out.print(cell(f'{made["record"]["name"]}. TXT "{made["record"]["value"]}"'))
        err.print(cell(f"\nThen: towline domains verify {made['name']}"))

    show(made, output, lines)


@app.command()
def verify(domain: DomainName, output: Output = Format.TABLE) -> None:
    """Look for the proof in DNS now. Routes that waited for it answer at once."""
    with client() as api:
        found = api.post(f"domains/{quoted(domain)}/verify")
    show(found, output, lambda: out.print(cell(f"{found['name']} is {found['state']}")))


@app.command("rm")
def remove(domain: DomainName, yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False) -> None:
    """Give a domain up. Its routes answer no more."""
    confirm(f"Give {domain} up? Routes below it answer no more.", yes=yes)
    with client() as api:
        api.call("DELETE", f"domains/{quoted(domain)}")
    done(f"{domain} was given up")


@app.command()
def gateway(output: Output = Format.TABLE) -> None:
    """Show the gateway's own domain, the wildcard record that it needs, and whether that leads here."""
    with client() as api:
        found = api.get("gateway")
    light: dict[str, Any] = found["wildcard"] or {}
    word = {"ok": "healthy", "failed": "down"}.get(light.get("state", ""), "unknown")
    shown = [
        ("domain", found["domain"] or "none: set gateway_domain"), ("record", found["record"]),
        ("leads here", state(word, light["reason"]) if light else ""), ("routes", found["routes"]),
    ]  # fmt: skip
    show_facts(found, output, shown)


COLUMNS: list[Column] = [
    ("DOMAIN", lambda domain: domain["name"]),
    ("STATE", lambda domain: state(domain["state"], domain["reason"])),
    ("RECORD", lambda domain: f"{domain['record']['name']} TXT {domain['record']['value']}"),
    ("LOOKED", lambda domain: ago(domain["checked_at"])),
]
