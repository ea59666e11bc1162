"""HAProxy in front of something: the caller writes the sections, this adds what makes it run in a folder."""

from pathlib import Path

from tests.testbed import processes, servers

PART = "haproxy"
PACKAGE = "haproxy"
# Debian's own defaults (/etc/haproxy/haproxy.cfg): what an operator has who never touched them.
DEBIAN_DEFAULTS = """\
defaults
    mode http
    timeout connect 5000
    timeout client 50000
    timeout server 50000
"""


def find() -> str:
    """Path of the program. Raises: Missing."""
    return servers.program(PART, "haproxy", PACKAGE)


def start(sections: str, folder: Path, *, port: int | None = None, defaults: str = DEBIAN_DEFAULTS) -> servers.Server:
    """Start HAProxy and wait until it accepts.

    Args: sections: frontends and backends; every `@PORT@` becomes the port, `@FOLDER@` the folder.
    """
    chosen = port or processes.free_port()
    text = f"global\n    log stderr format raw local0\n{defaults}{sections}\n"
    configuration = folder / "haproxy.cfg"
    configuration.write_text(text.replace("@PORT@", str(chosen)).replace("@FOLDER@", str(folder)))
    return servers.Server(PART, [find(), "-db", "-f", configuration], folder, chosen).start()


def reverse_proxy(host: str, port: int, *, pem: Path | None = None, upstream_tls: bool = False) -> str:
    """Sections that forward everything to one server. `pem` holds certificate and key in one file."""
    tls = f" ssl crt {pem}" if pem else ""
    upstream = " ssl verify none" if upstream_tls else ""
    return f"""
frontend public
    bind 127.0.0.1:@PORT@{tls}
    option forwardfor
    http-request set-header X-Forwarded-Proto {"https" if pem else "http"}
    default_backend towline
backend towline
    server one {host}:{port}{upstream}"""
