"""Pages of certificates: what each name is served, until when, and why not; renewing, uploading, withdrawing."""

from dataclasses import dataclass
from typing import Annotated, cast
from urllib.parse import quote

from fastapi import APIRouter, Request, Response

from towline.control import forms
from towline.control.access.dependencies import Access, Permission, Resource, needs
from towline.control.certificates.schemas import CertificateOut, RevocationReason, RevokeRequest, UploadRequest
from towline.control.certificates.service import CertificateService
from towline.control.certificates.states import Source, State
from towline.control.errors import ApiError
from towline.control.routes.pages import TABS, Asked, Reader, Word
from towline.control.routes.words import Said, Tone
from towline.control.web import Notice, redirect

router = APIRouter(include_in_schema=False)

Manager = Annotated[Access, needs(Permission.DOMAIN_MANAGE)]
PLACE = "/certificates/{name}"
MOST_SHOWN = 500
"""Rows of the page: the search finds the others."""
SOURCES = {Source.ACME: "Authority (ACME)", Source.UPLOAD: "Uploaded", Source.LOCAL: "The server's own authority"}
WORDS: dict[str, tuple[Tone, str]] = {
    State.WAITING: ("working", "Waiting"),
    State.BLOCKED: ("down", "Blocked"),
    State.ORDERING: ("working", "Ordering"),
    State.FAILED: ("down", "Failed"),
    State.ISSUED: ("healthy", "Issued"),
    State.REVOKED: ("unknown", "Withdrawn"),
    State.EXPIRED: ("down", "Expired"),
}
REVOCATIONS: dict[RevocationReason, str] = {
    "unspecified": "No reason given",
    "key_compromise": "Somebody else may have the key",
    "superseded": "Another one takes its place",
    "cessation": "The name is used no more",
}


@dataclass(frozen=True, slots=True)
class Row:
    """One certificate in the list."""

    certificate: CertificateOut
    said: Said


def _service(request: Request) -> CertificateService:
    service: CertificateService = request.app.state.control.certificates.service
    return service


@router.get("/certificates")
async def list_page(request: Request, access: Reader, asked: Asked, state: Word = "") -> Response:
    """Show the names that have or need a certificate, the ones in trouble first."""
    found = [Row(one, say(one)) for one in await _service(request).visible(access, asked.search)]
    chosen = [row for row in found if state in ("", row.certificate.state)]
    chosen.sort(key=lambda row: (row.said.tone == "healthy", row.certificate.name))
    control = request.app.state.control
    page: Response = control.web.page(
        request, "certificates/list.html", access=access, section="routes", tabs=TABS, tab="certificates",
        rows=chosen[:MOST_SHOWN], total=len(chosen), filters={"search": asked.search, "state": state},
        states=[(str(one), WORDS[one][1]) for one in State], authority=control.tls.material.authority_pem,
        fingerprint=control.tls.material.fingerprint, directory=control.settings.acme_directory, **_may(access),
    )  # fmt: skip
    return page


@router.get(PLACE)
async def certificate_page(request: Request, access: Reader, name: str) -> Response:
    """Show one certificate."""
    found = await _service(request).get(access, name)
    page: Response = request.app.state.control.web.page(
        request, "certificates/certificate.html", access=access, section="routes", certificate=found, said=say(found),
        source=SOURCES.get(cast("Source", found.source), found.source), reasons=REVOCATIONS, **_may(access),
    )  # fmt: skip
    return page


def say(found: CertificateOut) -> Said:
    """Return the state of a certificate in words, with its light. One that works while it is renewed is well."""
    tone, word = WORDS.get(found.state, ("unknown", found.state.capitalize()))
    if found.is_ending and found.served and found.state != State.EXPIRED:
        return Said("degraded", "Ending", found.reason or "the next one has not come yet")
    if found.served and found.state in (State.BLOCKED, State.FAILED):
        return Said("degraded", f"Renewal {word.lower()}", found.reason)
    if found.served and found.state in (State.WAITING, State.ORDERING):
        return Said("working", "Renewing", found.reason)
    return Said(tone, word, found.reason)


def _may(access: Access) -> dict[str, dict[str, bool]]:
    return {"may": {"manage": access.may(Permission.DOMAIN_MANAGE, Resource(access.org_id))}}


# -- actions -----------------------------------------------------------------------------------


@router.post("/certificates")
async def upload(request: Request, access: Manager) -> Response:
    """Serve a certificate of one's own. The key is never shown again, not even in a form that is sent back."""
    form = await forms.read(request)
    try:
        asked = forms.body(UploadRequest, chain=_pem(form, "chain"), key=_pem(form, "key"))
        made, notes = await _service(request).upload(access, asked.chain, asked.key.get_secret_value())
        done = Notice("warning" if notes else "done", f"the certificate of {made.name} is served", "; ".join(notes))
        return redirect(request, _page_of(made.name), done)
    except ApiError as error:
        return redirect(request, "/certificates", Notice("error", error.message, error.hint))


def _pem(form: forms.Form, name: str) -> str:
    """Return a PEM text that was pasted, or chosen as a file."""
    return form.text(name).strip() or form.files.get(f"{name}_file", b"").decode("ascii", "replace").strip()


@router.post(f"{PLACE}/renew")
async def renew(request: Request, access: Manager, name: str) -> Response:
    """Look and ask the authority again now."""
    form = await forms.read(request)
    force = form.checked("force")
    return await forms.act(
        request, _page_of(name), f"{name} is looked at again now",
        lambda: _service(request).renew(access, name, force=force),
    )  # fmt: skip


@router.post(f"{PLACE}/revoke")
async def revoke(request: Request, access: Manager, name: str) -> Response:
    """Have the authority withdraw a certificate whose name was typed."""
    form = await forms.read(request)
    if form.line("confirm") != name:
        return redirect(request, _page_of(name), Notice("error", f"type {name} to withdraw its certificate"))

    async def action() -> None:
        asked = forms.body(RevokeRequest, reason=form.line("reason") or "unspecified")
        await _service(request).revoke(access, name, asked.reason)

    return await forms.act(request, _page_of(name), f"the certificate of {name} was withdrawn", action)


@router.post(f"{PLACE}/remove")
async def remove(request: Request, access: Manager, name: str) -> Response:
    """Forget a certificate whose name was typed."""
    form = await forms.read(request)
    if form.line("confirm") != name:
        return redirect(request, _page_of(name), Notice("error", f"type {name} to forget its certificate"))
    try:
        await _service(request).remove(access, name)
        return redirect(request, "/certificates", Notice("done", f"the certificate of {name} was forgotten"))
    except ApiError as error:
        return redirect(request, _page_of(name), Notice("error", error.message, error.hint))


def _page_of(name: str) -> str:
    return f"/certificates/{quote(name)}"
