"""Keys, certificates and bearer tokens of one cluster. `tokens.csv` is the API server's own format."""

import secrets
from pathlib import Path

import trustme
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.testbed.kubernetes import configuration

SERVER_NAMES = (
    "127.0.0.1",
    configuration.NODE_ADDRESS,
    "10.96.0.1",
    "localhost",
    "kubernetes.default.svc",
)
# Name, user id and group, in the order of the API server's token file.
USERS = {
    "admin": ("admin", "admin", "system:masters"),
    "controllers": ("controllers", "controllers", "system:masters"),
    "kubelet": (f"system:node:{configuration.NODE_NAME}", "kubelet", "system:nodes"),
}
KEY_BITS = 2048


def write(home: Path) -> dict[str, str]:
    """Write everything into the cluster's folder. Returns: user to bearer token."""
    home.chmod(0o700)
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(home / "authority.crt"))
    server = authority.issue_cert(*SERVER_NAMES, common_name="testbed")
    server.private_key_and_cert_chain_pem.write_to_path(str(home / "server.pem"))
    _write_service_account_key(home)
    (home / "audit.yaml").write_text(configuration.AUDIT_POLICY)
    tokens = {user: secrets.token_hex(16) for user in USERS}
    lines = [",".join((tokens[user], *USERS[user])) + "\n" for user in USERS]
    (home / "tokens.csv").write_text("".join(lines))
    return tokens


def _write_service_account_key(home: Path) -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=KEY_BITS)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    (home / "service-account.key").write_bytes(private)
    (home / "service-account.pub").write_bytes(public)
