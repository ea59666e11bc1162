"""The API server's reading of a request, written slowly and without any of our code, to hold ours against.

Go's own steps, one character at a time: parse the target, decode the path, find the access tuple. It accepts more than
we do; where both accept, they must agree.
"""

from dataclasses import dataclass

HEX = b"0123456789abcdefABCDEF"


@dataclass(frozen=True)
class Reading:
    verb: str
    group: str = ""
    version: str = ""
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    is_resource: bool = True


def unescape(data: bytes, *, plus: bool) -> bytes | None:
    """Decode percent sequences once, as net/url does; None when one is malformed."""
    out = bytearray()
    at = 0
    while at < len(data):
        byte = data[at]
        if byte == ord("%"):
            digits = data[at + 1 : at + 3]
            if len(digits) < 2 or any(digit not in HEX for digit in digits):
                return None
            out.append(int(digits, 16))
            at += 3
            continue
        out.append(ord(" ") if plus and byte == ord("+") else byte)
        at += 1
    return bytes(out)


def query_values(query: bytes) -> dict[bytes, list[bytes]]:
    """Parse a query as net/url does: pairs with a semicolon or a malformed escape are dropped."""
    values: dict[bytes, list[bytes]] = {}
    for pair in query.split(b"&"):
        if b";" in pair or pair == b"":
            continue
        key, _, value = pair.partition(b"=")
        plain_key, plain_value = unescape(key, plus=True), unescape(value, plus=True)
        if plain_key is not None and plain_value is not None:
            values.setdefault(plain_key, []).append(plain_value)
    return values


def split_path(path: str) -> list[str]:
    while path.startswith("/"):
        path = path[1:]
    while path.endswith("/"):
        path = path[:-1]
    return path.split("/") if path else []


def selector_terms(selector: str) -> list[str]:
    terms, current, in_slash = [], "", False
    for letter in selector:
        if in_slash:
            in_slash = False
        elif letter == "\\":
            in_slash = True
        elif letter == ",":
            terms.append(current)
            current = ""
            continue
        current += letter
    return [*terms, current]


def unescape_value(value: str) -> str | None:
    out, in_slash = "", False
    for letter in value:
        if in_slash:
            if letter not in "\\,=":
                return None
            out += letter
            in_slash = False
        elif letter == "\\":
            in_slash = True
        elif letter in ",=":
            return None
        else:
            out += letter
    return None if in_slash else out


def required_name(selector: str) -> str | None:
    """Return what a field selector demands of metadata.name, or None."""
    demands: list[tuple[str, str, str]] = []
    for term in selector_terms(selector):
        if term == "":
            continue
        for at in range(len(term)):
            operator = next((op for op in ("!=", "==", "=") if term[at:].startswith(op)), None)
            if operator is not None:
                break
        else:
            return None
        value = unescape_value(term[at + len(operator) :])
        if value is None:
            return None
        demands.append((term[:at], operator, value))
    for field, operator, value in demands:
        if field == "metadata.name" and operator != "!=":
            return value
    return None


def read(method: str, path: str, query: bytes) -> Reading | None:
    """Return the server's request info for a decoded path; None where it gives an error."""
    plain = Reading(method.lower(), is_resource=False)
    parts = split_path(path)
    if len(parts) < 3 or parts[0] not in ("api", "apis"):
        return plain
    prefix, parts = parts[0], parts[1:]
    group = ""
    if prefix == "apis":
        if len(parts) < 3:
            return plain
        group, parts = parts[0], parts[1:]
    version, parts = parts[0], parts[1:]
    if parts[0] in ("proxy", "watch"):
        if len(parts) < 2:
            return None
        verb, parts = parts[0], parts[1:]
    else:
        verbs = {"POST": "create", "GET": "get", "HEAD": "get", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
        verb = verbs.get(method, "")
    namespace = ""
    if parts[0] == "namespaces" and len(parts) > 1:
        namespace = parts[1]
        if len(parts) > 2 and parts[2] not in ("status", "finalize"):
            parts = parts[2:]
    subresource = parts[2] if len(parts) >= 3 and verb != "proxy" else ""
    name = parts[1] if len(parts) >= 2 else ""
    if name == "" and verb == "get":
        values = query_values(query)
        watch = values.get(b"watch")
        verb = "list" if watch is None or watch[0].lower() in (b"false", b"0") else "watch"
        selector = values.get(b"fieldSelector")
        if selector is not None:
            wanted = required_name(selector[0].decode("utf-8", "replace"))
            if wanted is not None and wanted not in (".", "..") and "/" not in wanted and "%" not in wanted:
                name = wanted
    if name == "" and verb == "delete":
        verb = "deletecollection"
    return Reading(verb, group, version, parts[0], subresource, namespace, name)
