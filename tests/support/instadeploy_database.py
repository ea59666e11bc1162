"""An InstaDeploy database as its SQLModel makes one, with what a small installation holds."""

import sqlite3
from contextlib import closing
from pathlib import Path

SCHEMA = """
CREATE TABLE agent (
    id INTEGER NOT NULL PRIMARY KEY, hostname VARCHAR NOT NULL UNIQUE, ip_address VARCHAR, status VARCHAR(7) NOT NULL,
    last_seen DATETIME, version VARCHAR, architecture VARCHAR, created_at DATETIME NOT NULL
);
CREATE TABLE deployment (
    id INTEGER NOT NULL PRIMARY KEY, project_name VARCHAR NOT NULL, agent_id INTEGER NOT NULL REFERENCES agent (id),
    status VARCHAR(7) NOT NULL, compose_file_hash VARCHAR, created_at DATETIME NOT NULL, updated_at DATETIME NOT NULL,
    last_logs VARCHAR, last_error VARCHAR
);
CREATE TABLE job (
    id CHAR(32) NOT NULL PRIMARY KEY, deployment_id INTEGER REFERENCES deployment (id), agent_id INTEGER NOT NULL,
    command_type VARCHAR NOT NULL, status VARCHAR(11) NOT NULL, logs VARCHAR, error VARCHAR,
    created_at DATETIME NOT NULL, updated_at DATETIME NOT NULL
);
"""
AT = "2025-03-01 10:00:00.123456"
TIMES = f"'{AT}', '{AT}'"
ROWS = f"""
INSERT INTO agent VALUES (3, 'vm', '10.0.0.5', 'ONLINE', '{AT}', '1.0.0', 'linux-amd64', '{AT}');
INSERT INTO agent VALUES (7, 'vm2', '10.0.0.6', 'OFFLINE', NULL, NULL, NULL, '{AT}');
INSERT INTO deployment VALUES (11, 'Shop', 3, 'RUNNING', NULL, {TIMES}, 'up', NULL);
INSERT INTO deployment VALUES (12, 'blog', 7, 'STOPPED', NULL, {TIMES}, NULL, NULL);
INSERT INTO deployment VALUES (13, 'lost', 99, 'FAILED', NULL, {TIMES}, NULL, 'x');
INSERT INTO job VALUES ('0f8fad5bd9cb469fa16570867728950e', 11, 3, 'DEPLOY_COMPOSE', 'COMPLETED', 'line 1
line 2', NULL, {TIMES});
INSERT INTO job VALUES ('7c9e66797425440de944be07fc1f90ae', 11, 3, 'STOP_COMPOSE', 'QUEUED', NULL, NULL, {TIMES});
INSERT INTO job VALUES ('6ecd8c99404646b6bf1e3c3a7c9d2f11', 11, 3, 'STATUS', 'COMPLETED', 'x', NULL, {TIMES});
INSERT INTO job VALUES ('1b4e28ba2fa111d2883f0016d3cca427', 12, 7, 'DEPLOY_COMPOSE', 'FAILED', 'no', 'broke', {TIMES});
"""


def write(path: Path, *, rows: str = ROWS, schema: str = SCHEMA) -> Path:
    """Make the file."""
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(schema + rows)
        connection.commit()
    return path
