"""Names of the files in a project's folder on its host, and what is reserved there.

The folder stays plain: `docker compose ps` in it works without us, because `.env` names the Compose files, ours too.
"""

# What `docker compose` looks for first; an adopted project keeps the name that it has.
COMPOSE_FILE = "compose.yaml"
COMPOSE_NAMES = ("compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml")
ENV_FILE = ".env"
# Everything of ours, in one folder, mode 0700.
OWN_FOLDER = ".towline"
OVERRIDE_FILE = f"{OWN_FOLDER}/override.yaml"
# Secrets are files of mode 0444 in here: any user of a container can read the one mounted file, and on the host only
# the agent's user can enter the folder.
SECRETS_FOLDER = f"{OWN_FOLDER}/secrets"

FOLDER_MODE = 0o700
SECRET_MODE = 0o444
ENV_MODE = 0o600
PLAIN_MODE = 0o644

# Files that decide what Compose does; a container that could write them could give itself any right.
DECISIVE = (*COMPOSE_NAMES, ENV_FILE, OWN_FOLDER)


def is_reserved(path: str) -> bool:
    """Tell whether a bundle may not bring this path: it is ours, or has a place of its own in a revision."""
    first = path.partition("/")[0]
    return first.casefold() == OWN_FOLDER or path.casefold() in {ENV_FILE, COMPOSE_FILE}


def secret_path(name: str) -> str:
    """Where a secret lies, relative to the project's folder."""
    return f"{SECRETS_FOLDER}/{name}"
