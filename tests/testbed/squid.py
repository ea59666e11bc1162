"""Squid as the forward proxy of a closed network, with sign-in by name and password when accounts are given."""

from pathlib import Path

from tests.testbed import passwords, processes, servers

PART = "squid"
PACKAGE = "squid"
SIGN_IN_PROGRAM = Path("/usr/lib/squid/basic_ncsa_auth")
SETTINGS = """\
http_port 127.0.0.1:@PORT@
pid_filename none
cache deny all
cache_log @FOLDER@/cache.log
access_log stdio:@FOLDER@/access.log
coredump_dir @FOLDER@
shutdown_lifetime 0 seconds
pinger_enable off
visible_hostname towline-test-proxy
max_filedescriptors 4096
"""


def find() -> str:
    """Path of the program. Raises: Missing."""
    return servers.program(PART, "squid", PACKAGE)


def start(
    folder: Path, *, accounts: dict[str, str] | None = None, extra: str = "", port: int | None = None
) -> servers.Server:
    """Start Squid and wait until it accepts; `folder / "access.log"` tells what went through.

    Args: accounts: name to password; without any, everybody on this machine may use it. extra: further settings.
    """
    chosen = port or processes.free_port()
    text = SETTINGS + extra + "\n" + _access(folder, accounts)
    configuration = folder / "squid.conf"
    configuration.write_text(text.replace("@PORT@", str(chosen)).replace("@FOLDER@", str(folder)))
    user = _give_to_squid(folder)
    argv = [find(), "-N", "-d", "1", "-n", f"towline{chosen}", "-f", configuration]
    return servers.Server(PART, argv, folder, chosen, user=user).start()


def _access(folder: Path, accounts: dict[str, str] | None) -> str:
    if not accounts:
        return "http_access allow localhost\nhttp_access deny all\n"
    names = passwords.write(folder / "accounts", accounts)
    return (
        f"auth_param basic program {SIGN_IN_PROGRAM} {names}\n"
        "auth_param basic realm towline-test\n"
        "acl signed_in proxy_auth REQUIRED\nhttp_access allow signed_in\nhttp_access deny all\n"
    )


def _give_to_squid(folder: Path) -> str | None:
    """A squid of root becomes the user `proxy` and must reach the folder; it may then as well start as it."""
    if not processes.is_root():
        return None
    folder.chmod(0o777)
    processes.open_path_to(folder)
    return "proxy"
