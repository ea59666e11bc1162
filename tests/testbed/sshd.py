"""OpenSSH's server on loopback, for one user's key: what `towline ssh` leads to."""

import getpass
import subprocess
from pathlib import Path

from tests.testbed import processes, servers

PART = "sshd"
PACKAGE = "openssh-server"
SETTINGS = """\
ListenAddress 127.0.0.1
Port {port}
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/user_key.pub
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
"""


def find() -> str:
    """Path of the program. Raises: Missing."""
    servers.program(PART, "ssh", "openssh-client")
    return servers.program(PART, "sshd", PACKAGE)


def start(folder: Path, *, port: int | None = None) -> servers.Server:
    """Start sshd and wait until it accepts; `folder / "user_key"` opens it."""
    chosen = port or processes.free_port()
    for name in ("host_key", "user_key"):
        argv = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)]
        subprocess.run(argv, check=True)
    if processes.is_root():
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # its own package makes it at boot only
    configuration = folder / "sshd_config"
    configuration.write_text(SETTINGS.format(port=chosen, folder=folder))
    return servers.Server(PART, [find(), "-D", "-e", "-f", configuration], folder, chosen).start()


def client_options(server: servers.Server) -> list[str]:
    """Words for `ssh` that know this server and our key."""
    known = server.folder / "known_hosts"
    host_key = (server.folder / "host_key.pub").read_text().split()
    known.write_text(f"towline-test {host_key[0]} {host_key[1]}\n")
    options = {
        "IdentityFile": server.folder / "user_key", "UserKnownHostsFile": known, "HostKeyAlias": "towline-test",
        "BatchMode": "yes", "User": getpass.getuser(),
    }  # fmt: skip
    return [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
