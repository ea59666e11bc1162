"""nginx in front of something: the caller writes the `http` block, this adds what makes it run in a folder."""

from pathlib import Path

from tests.testbed import processes, servers

PART = "nginx"
PACKAGE = "nginx-light"
MAIN = """\
daemon off;
worker_processes {workers};
pid {folder}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
{http}
}}
"""


def find() -> str:
    """Path of the program. Raises: Missing."""
    return servers.program(PART, "nginx", PACKAGE)


def start(http: str, folder: Path, *, port: int | None = None, workers: int = 1) -> servers.Server:
    """Start nginx and wait until it accepts.

    Args: http: what stands inside `http {}`; every `@PORT@` in it becomes the port, `@FOLDER@` the folder.
    """
    chosen = port or processes.free_port()
    inside = http.replace("@PORT@", str(chosen)).replace("@FOLDER@", str(folder))
    configuration = folder / "nginx.conf"
    configuration.write_text(MAIN.format(folder=folder, workers=workers, http=inside) + _user())
    argv = [find(), "-c", configuration, "-p", folder, "-e", "stderr"]
    return servers.Server(PART, argv, folder, chosen).start()


def _user() -> str:
    # Workers of a root master change user by default, and then cannot enter a test's private folder.
    return "user root;\n" if processes.is_root() else ""


def reverse_proxy(upstream: str, *, certificate: Path | None = None, key: Path | None = None) -> str:
    """An `http` block that forwards everything, WebSockets too, with nginx's own default timeouts."""
    tls = f"ssl_certificate {certificate}; ssl_certificate_key {key};" if certificate else ""
    return f"""
    map $http_upgrade $connection_upgrade {{ default upgrade; '' ''; }}
    server {{
        listen 127.0.0.1:@PORT@{" ssl" if certificate else ""};
        {tls}
        location / {{
            proxy_pass {upstream};
            proxy_http_version 1.1;
            proxy_set_header Host $http_host;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection $connection_upgrade;
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
            proxy_set_header X-Forwarded-Proto $scheme;
            proxy_ssl_verify off;
        }}
    }}"""
