"""What goes wrong between us and an authority.

CertificateError
 ├ AuthorityRefused      it answered, and said no: `code` is its word, `retry_after` its wish
 ├ AuthorityUnreachable  it did not answer, or not as one
 ├ Blocked               we did not ask: it could not have worked
 └ LeaseLost             somebody else works on this certificate now
"""


class CertificateError(Exception):
    """See the module; its text is for people."""


class AuthorityRefused(CertificateError):
    """Args: code: the last word of the problem's type (RFC 8555 section 6.7). retry_after: seconds, 0 for none."""

    def __init__(self, code: str, detail: str, *, status: int = 0, retry_after: float = 0.0) -> None:
        super().__init__(f"{detail or 'no reason was given'} ({code})")
        self.detail = detail
        self.code = code
        self.status = status
        self.retry_after = retry_after


class AuthorityUnreachable(CertificateError):
    """Nobody answered, or what answered speaks no ACME."""


class Blocked(CertificateError):
    """A look before asking found what would make it fail. Args: wait: seconds before which looking again is no use."""

    def __init__(self, text: str, *, wait: float = 0.0) -> None:
        super().__init__(text)
        self.wait = wait


class LeaseLost(CertificateError):
    """Write nothing more: the lease ran out, and somebody took it."""
