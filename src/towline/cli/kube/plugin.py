"""`towline k8s-token`: what kubectl runs to sign in. Source: client-go's credential plugins, v1; kubernetes.md 8.

kubectl waits for it at every start. So a token is kept in a file, and while that one is good, nothing is imported that
takes time: no HTTP client, no tables, no option parser. Standard library only at the top of this file.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import sys
import time
from collections.abc import Iterator

VERSIONS = ("client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1")
EXEC_INFO = "KUBERNETES_EXEC_INFO"
EARLY = 60.0
"""Seconds before its end from which a token is replaced, so that no command meets the end of one on its way."""
SETTLED = 5.0
"""A token that a program was given so long ago, and that it asks for again, was refused: kubectl keeps a good one."""
ASKERS = 16
"""Programs that are remembered as having been given a token."""
FOLDER = "kubernetes"
USAGE_CODE = 2
USAGE = "usage: towline k8s-token --server https://SERVER"

Kept = dict[str, object]


class Refused(Exception):
    """No token can be had; the message is for people, the code is the command's."""

    def __init__(self, message: str, code: int = 3) -> None:
        super().__init__(message)
        self.code = code


def run(arguments: list[str]) -> int:
    """Print an ExecCredential. Returns: the exit code of the command."""
    if any(word in ("-h", "--help") for word in arguments):
        print(f"{USAGE}\n\nPrint a token for kubectl; `towline kubeconfig` writes a configuration that calls this.")
        return 0
    info = exec_info(os.environ.get(EXEC_INFO, ""))
    try:
        server, version = server_of(arguments, info), version_of(info)
        kept = token_of(server, authority_of(info, server))
    except Refused as error:
        print(f"error: {error}", file=sys.stderr)
        return error.code
    print(credential(kept, version))
    return 0


# -- what kubectl says


def exec_info(text: str) -> dict[str, object]:
    """Return what kubectl tells its plugins; empty when it tells nothing that can be read."""
    try:
        found = json.loads(text) if text else {}
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def server_of(arguments: list[str], info: dict[str, object]) -> str:
    """Return the control plane: what `--server` names, else the one that the cluster's address leads through."""
    server = ""
    if len(arguments) == 2 and arguments[0] == "--server":
        server = arguments[1]
    elif len(arguments) == 1 and arguments[0].startswith("--server="):
        server = arguments[0].partition("=")[2]
    elif arguments:
        raise Refused(f"unknown arguments\n{USAGE}", USAGE_CODE)
    else:
        server, mark, _ = str(_cluster(info).get("server", "")).partition("/k8s/clusters/")
        server = server if mark else os.environ.get("TOWLINE_URL", "")
    if not server.startswith(("https://", "http://")):
        raise Refused(f"which server?\n{USAGE}", USAGE_CODE)
    return server.rstrip("/")


def version_of(info: dict[str, object]) -> str:
    """Return the version that kubectl asks for. Raises: Refused."""
    version = str(info.get("apiVersion") or VERSIONS[0])
    if version not in VERSIONS:
        raise Refused(f"this kubectl asks for {version}; the plugin speaks {' and '.join(VERSIONS)}", USAGE_CODE)
    return version


def authority_of(info: dict[str, object], server: str) -> str:
    """Return the certificates (PEM) that the kubeconfig trusts, if its cluster is one of this control plane."""
    import base64

    cluster = _cluster(info)
    data = str(cluster.get("certificate-authority-data") or "")
    if not data or not str(cluster.get("server", "")).startswith(f"{server}/"):
        return ""
    try:
        return base64.b64decode(data, validate=True).decode("ascii")
    except ValueError:
        return ""


def _cluster(info: dict[str, object]) -> dict[str, object]:
    spec = info.get("spec")
    cluster = spec.get("cluster") if isinstance(spec, dict) else None
    return cluster if isinstance(cluster, dict) else {}


def credential(kept: Kept, version: str) -> str:
    """Return the answer. The time in it is when to ask again: the token's end, less what `EARLY` keeps back."""
    until = float(str(kept["expires"])) - min(EARLY, float(str(kept["lifetime"])) / 2)
    stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(until))
    status = {"token": kept["token"], "expirationTimestamp": stamp}
    return json.dumps({"apiVersion": version, "kind": "ExecCredential", "status": status})


# -- the token that is kept


def token_of(server: str, authority: str) -> Kept:
    """Return a token that is good for a while: the one that is kept, else a new one. Raises: Refused."""
    folder, login = find_login(server)
    name = hashlib.sha256(f"{server}\n{login}".encode()).hexdigest()[:32]
    path = os.path.join(folder, FOLDER, f"{name}.json")
    asker = program(os.getppid())
    kept = load(path)
    if is_good(kept, asker, time.time()) and asker in _askers(kept):
        return kept
    with locked(path):
        kept = load(path)  # somebody else may have asked for one while we waited
        if not is_good(kept, asker, time.time()):
            from towline.cli.kube.minted import mint

            kept = mint(server, login, authority)
        kept["askers"] = {asker: _askers(kept).get(asker, time.time())} | _askers(kept)
        store(path, kept)
    return kept


def find_login(server: str) -> tuple[str, str]:
    """Return the folder of our files, and the API token for a server. Raises: Refused.

    The same rules as `cli.credentials`, which takes too long to import; a test holds them together.
    """
    folder = os.environ.get("TOWLINE_CONFIG_DIR", "")
    if not folder:
        home = os.environ.get("XDG_CONFIG_HOME", "").strip() or os.path.expanduser("~/.config")
        folder = os.path.join(home, "towline")
        if sys.platform == "darwin":
            from towline.cli.credentials import folder as ours

            folder = str(ours())
    try:
        with open(os.path.join(folder, "credentials.json"), encoding="utf-8") as file:
            logins = {entry["url"]: entry["token"] for entry in json.load(file)}
    except FileNotFoundError:
        logins = {}
    except (ValueError, KeyError, TypeError) as error:
        raise Refused(f"{folder}/credentials.json is damaged; remove it and sign in again") from error
    current = os.environ.get("TOWLINE_URL", "").rstrip("/") or next(iter(logins), "")
    if current == server and os.environ.get("TOWLINE_TOKEN"):
        return folder, os.environ["TOWLINE_TOKEN"]
    if server not in logins:
        raise Refused(f"you are not signed in to {server}; run: towline login {server}")
    return folder, str(logins[server])


def is_good(kept: Kept, asker: str, now: float) -> bool:
    """Tell whether a token can be given: it lives on for a while, and this very program was not given it before.

    On a 401 kubectl runs the plugin again without saying why, and a program that was content does not ask twice.
    """
    left = float(str(kept.get("expires", 0))) - now
    lifetime = float(str(kept.get("lifetime", 0)))
    if left <= min(EARLY, lifetime / 2) or left > lifetime:
        return False
    return now - _askers(kept).get(asker, now) <= SETTLED


def load(path: str) -> Kept:
    """Return what a file keeps; empty when there is none, or another user could have written or read it."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return {}
    with os.fdopen(descriptor, encoding="utf-8") as file:
        seen = os.fstat(descriptor)
        if seen.st_uid != os.getuid() or seen.st_mode & 0o077:
            return {}
        try:
            found = json.load(file)
        except ValueError:
            return {}
    return found if isinstance(found, dict) and isinstance(found.get("token"), str) else {}


def store(path: str, kept: Kept) -> None:
    """Replace a file at once; it is readable by its owner alone. Programs that asked long ago are forgotten."""
    latest = sorted(_askers(kept).items(), key=lambda entry: entry[1])[-ASKERS:]
    partial = f"{path}.{os.getpid()}"
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(kept | {"askers": dict(latest)}, file)
    os.replace(partial, path)


@contextlib.contextmanager
def locked(path: str) -> Iterator[None]:
    """Let one process at a time ask for a token: fifty kubectl at once cost one request."""
    folder = os.path.dirname(path)
    os.makedirs(folder, mode=0o700, exist_ok=True)
    descriptor = os.open(os.path.join(folder, "lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        sweep(folder, time.time())
        yield
    finally:
        os.close(descriptor)


def sweep(folder: str, now: float) -> None:
    """Remove what logins of the past left behind."""
    for entry in os.scandir(folder):
        with contextlib.suppress(OSError):
            if entry.name != "lock" and now - entry.stat(follow_symlinks=False).st_mtime > 86400:
                os.unlink(entry.path)


def program(pid: int) -> str:
    """Return a name for a running program that no later one with the same number has."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            started = file.read().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        started = ""
    return f"{pid}-{started}"


def _askers(kept: Kept) -> dict[str, float]:
    found = kept.get("askers")
    return {str(key): float(value) for key, value in found.items()} if isinstance(found, dict) else {}
