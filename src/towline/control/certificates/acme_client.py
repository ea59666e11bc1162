"""Talks ACME with one authority. Blocking calls, each with a deadline, run in threads by `acme_port`.

The `acme` package signs, keeps nonces and reads problems; objects are read here, because the package knows neither
TLS-ALPN-01 nor `replaces`. Source: RFC 8555, RFC 8737, RFC 9773.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import josepy.errors
import requests
from acme import errors as acme_errors
from acme import messages
from acme.client import ClientNetwork
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from josepy.jwa import ES256
from josepy.jwk import JWKEC

from towline import __version__
from towline.control.certificates.acme_objects import (
    LONGEST_DETAIL,
    Authorization,
    Binding,
    Challenge,
    Directory,
    Order,
    RenewalWindow,
    base64url,
    challenge,
    problem,
    renewal_id,
    retry_after,
    shaped,
    told_at,
)
from towline.control.certificates.errors import AuthorityRefused, AuthorityUnreachable, CertificateError

REQUEST_TIMEOUT = 15.0
"""Seconds for one request: the slowest authorities take a few to sign."""
NONCE_TRIES = 8
"""Authorities may forget nonces at any time; one that rejects every fifth fails eight times once in 400,000."""


class _Payload:
    """A JSON body as the `acme` package takes it."""

    def __init__(self, value: Mapping[str, Any]) -> None:
        self._value = value

    def json_dumps(self, **options: Any) -> str:
        return json.dumps(self._value, **options)


class _Network(ClientNetwork):
    """The package's signed requests, with more patience for nonces, and with `Retry-After` of refusals."""

    @classmethod
    def _check_response(cls, response: requests.Response, content_type: str | None = None) -> requests.Response:
        try:
            return super()._check_response(response, content_type)
        except messages.Error as error:
            raise _refused(error, response) from error

    def post(self, *args: Any, **kwargs: Any) -> requests.Response:
        for _ in range(NONCE_TRIES - 1):
            try:
                return self._post_once(*args, **kwargs)
            except AuthorityRefused as error:
                if error.code != "badNonce":
                    raise
                self._nonces.clear()
        return self._post_once(*args, **kwargs)


class AcmeClient:
    """One authority and one key. Not for two threads at once.

    Args: ca_file: certificates to check the authority's HTTPS with; empty for the usual ones. account_url: where the
        account lives, when there is one.
    """

    def __init__(self, url: str, key: ec.EllipticCurvePrivateKey, *, ca_file: str = "", account_url: str = "") -> None:
        self.url = url
        self.account_url = account_url
        self._key = JWKEC(key=key)
        verify: Any = ca_file or True
        self._network = _Network(
            self._key, alg=ES256, verify_ssl=verify, user_agent=f"towline/{__version__}",
            timeout=int(REQUEST_TIMEOUT),
        )  # fmt: skip
        self._directory: Directory | None = None
        self._use_account()

    def __repr__(self) -> str:
        return f"<AcmeClient {self.url}>"

    def close(self) -> None:
        """Close the connections."""
        self._network.session.close()

    def directory(self, *, fresh: bool = False) -> Directory:
        """Return what the authority says about itself; asked once, and again when it has to be `fresh`."""
        if self._directory is None or fresh:
            answer = self._get(self.url)
            found = self._json(answer)
            meta = found.get("meta") or {}
            with shaped("its directory"):
                self._directory = Directory(
                    {name: str(value) for name, value in found.items() if isinstance(value, str)},
                    tuple(str(name) for name in meta.get("caaIdentities") or ()),
                    bool(meta.get("externalAccountRequired")),
                    told_at(answer.headers),
                )
                for name in ("newNonce", "newAccount", "newOrder"):
                    self._directory.urls[name]
        return self._directory

    def register(self, email: str, binding: Binding | None) -> str:
        """Make the account, or find the one that this key has. Returns: its URL.

        Whoever sets an authority in the settings agrees to its terms; docs/how-to/certificates.md says so.
        """
        body: dict[str, Any] = {"termsOfServiceAgreed": True}
        if email:
            body["contact"] = [f"mailto:{email}"]
        if binding is not None:
            body["externalAccountBinding"] = self._bound(binding)
        answer = self._post(self._place("newAccount"), body)
        self.account_url = answer.headers.get("Location", "")
        if not self.account_url:
            raise AuthorityUnreachable("the authority made an account and did not say where")
        self._use_account()
        return self.account_url

    def new_order(self, names: tuple[str, ...], *, replaces: str = "") -> Order:
        """Ask for a certificate. Args: replaces: the ARI id of the one that it takes the place of."""
        body: dict[str, Any] = {"identifiers": [{"type": "dns", "value": name} for name in names]}
        if replaces and "renewalInfo" in self.directory().urls:
            body["replaces"] = replaces
        answer = self._post(self._place("newOrder"), body)
        return self._order(answer, answer.headers.get("Location", ""))

    def order(self, url: str) -> Order:
        """Look at an order."""
        return self._order(self._post(url, None), url)

    def authorization(self, url: str) -> Authorization:
        """Look at what has to be shown for one name."""
        found = self._json(self._post(url, None))
        with shaped("an authorisation"):
            challenges = tuple(challenge(each) for each in found["challenges"] if "token" in each)
            name = str(found["identifier"]["value"])
            return Authorization(url, name, bool(found.get("wildcard")), str(found["status"]), challenges)

    def key_authorization(self, token: str) -> str:
        """Return what proves that this account answers a challenge. Source: RFC 8555 section 8.1."""
        return f"{token}.{base64.urlsafe_b64encode(self._key.thumbprint()).rstrip(b'=').decode()}"

    def answer(self, challenge: Challenge) -> None:
        """Say that a challenge can be looked at."""
        self._post(challenge.url, {})

    def finalize(self, order: Order, request: x509.CertificateSigningRequest) -> Order:
        """Hand in the request that the certificate is made from."""
        return self._order(
            self._post(order.finalize, {"csr": base64url(request.public_bytes(Encoding.DER))}), order.url
        )

    def certificate(self, order: Order) -> str:
        """Fetch the chain in PEM."""
        headers = {"Content-Type": ClientNetwork.JOSE_CONTENT_TYPE, "Accept": "application/pem-certificate-chain"}
        return self._post(order.certificate, None, headers=headers).content.decode("ascii", "replace")

    def revoke(self, certificate: x509.Certificate, reason: int) -> None:
        """Withdraw a certificate. Args: reason: of RFC 5280 section 5.3.1."""
        self._post(
            self._place("revokeCert"),
            {"certificate": base64url(certificate.public_bytes(Encoding.DER)), "reason": reason},
        )

    def renewal(self, certificate: x509.Certificate) -> RenewalWindow | None:
        """Ask when to renew; None where the authority does not say. Source: RFC 9773 section 4."""
        base = self.directory().urls.get("renewalInfo")
        name = renewal_id(certificate)
        if not base or not name:
            return None
        answer = self._get(f"{base.rstrip('/')}/{name}")
        with shaped("its advice on renewal"):
            window = self._json(answer)["suggestedWindow"]
            begins, ends = (datetime.fromisoformat(window[edge]) for edge in ("start", "end"))
            return RenewalWindow(begins.astimezone(UTC), ends.astimezone(UTC), retry_after(answer.headers))

    # requests

    def _use_account(self) -> None:
        if self.account_url:
            self._network.account = messages.RegistrationResource(body=messages.Registration(), uri=self.account_url)

    def _bound(self, binding: Binding) -> dict[str, Any]:
        with shaped("the key of the external account"):
            return messages.ExternalAccountBinding.from_data(
                self._key.public_key(), binding.key_id, binding.hmac_key, self._directory_of_the_package()
            )

    def _directory_of_the_package(self) -> messages.Directory:
        return messages.Directory(dict(self.directory().urls))

    def _place(self, name: str) -> str:
        try:
            return self.directory().urls[name]
        except KeyError as error:
            raise AuthorityUnreachable(f"the authority offers no {name}") from error

    def _get(self, url: str) -> requests.Response:
        with _translated():
            return self._network.get(url)

    def _post(self, url: str, body: Mapping[str, Any] | None, **options: Any) -> requests.Response:
        payload: Any = None if body is None else _Payload(body)
        with _translated():
            return self._network.post(url, payload, new_nonce_url=self._place("newNonce"), **options)

    def _json(self, answer: requests.Response) -> dict[str, Any]:
        with shaped("its answer"):
            found = answer.json()
            if not isinstance(found, dict):
                raise ValueError("not an object")
            return found

    def _order(self, answer: requests.Response, url: str) -> Order:
        found = self._json(answer)
        with shaped("an order"):
            return Order(
                url,
                str(found["status"]),
                tuple(str(each) for each in found["authorizations"]),
                str(found["finalize"]),
                str(found.get("certificate") or ""),
                problem(found.get("error")),
            )


def _refused(error: messages.Error, response: requests.Response) -> AuthorityRefused:
    code = str(error.typ).rpartition(":")[2] or "unknown"
    subs = [sub.detail or "" for sub in error.subproblems or ()]
    detail = "; ".join(filter(None, [error.detail or error.title or "", *subs]))[:LONGEST_DETAIL]
    return AuthorityRefused(code, detail, status=response.status_code, retry_after=retry_after(response.headers))


class _translated:  # noqa: N801 - reads as a word in a with statement
    """Turn the package's errors into ours."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is None or isinstance(error, CertificateError):
            return
        if isinstance(error, requests.exceptions.SSLError):
            raise AuthorityUnreachable(
                "the authority's own HTTPS certificate is not trusted: see acme_ca_file"
            ) from error
        if isinstance(error, requests.Timeout):
            raise AuthorityUnreachable(f"the authority did not answer within {REQUEST_TIMEOUT:.0f} seconds") from error
        if isinstance(error, requests.RequestException):
            raise AuthorityUnreachable("the authority cannot be reached") from error
        if isinstance(error, OSError):
            raise AuthorityUnreachable("acme_ca_file cannot be read") from error
        if isinstance(error, acme_errors.Error | josepy.errors.Error | ValueError):
            raise AuthorityUnreachable("what answers at the authority's address speaks no ACME") from error
