"""Which pages may act with a browser's cookie: our own. Checked for every change and for every WebSocket.

Source: OWASP, "Cross-Site Request Forgery Prevention", verifying the origin with standard headers; browsers do not
apply the same-origin policy to WebSocket handshakes.
"""

from urllib.parse import urlsplit

from starlette.requests import HTTPConnection

from towline.control.errors import ApiError, ErrorCode
from towline.control.settings import Settings


def check(connection: HTTPConnection, settings: Settings) -> None:
    """Raises: ApiError: cross_site, when the request was made by a page that is not ours, or by nobody knows whom."""
    origin = connection.headers.get("origin", "")
    if origin:
        if not is_ours(origin, connection.headers.get("host", ""), settings):
            raise _cross_site()
        return
    if connection.scope["type"] == "websocket" or connection.headers.get("sec-fetch-site", "") != "same-origin":
        raise _cross_site()


def is_ours(origin: str, host: str, settings: Settings) -> bool:
    """Tell whether an origin is this server: the host that was asked, or one that the settings name."""
    try:
        parts = urlsplit(origin.lower())
    except ValueError:
        return False
    if parts.scheme not in ("https", "http") or not parts.netloc or parts.path not in ("", "/"):
        return False
    named = {value.lower().rstrip("/") for value in (settings.public_url, *settings.allowed_origins) if value}
    return parts.netloc == host.lower() or f"{parts.scheme}://{parts.netloc}" in named


def _cross_site() -> ApiError:
    return ApiError(
        ErrorCode.CROSS_SITE,
        "the request was made by a page that is not this server's",
        hint="behind a proxy, set public_url to the address in the browser",
    )
