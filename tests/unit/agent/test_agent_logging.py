"""The agent's log: readable by programs, and without tokens or local variables."""

import json

import pytest
import structlog

from towline.agent import logging
from towline.agent.errors import SettingsError
from towline.wire import tokens


def test_tokens_and_local_variables_are_not_logged(capsys: pytest.CaptureFixture[str]) -> None:
    logging.configure("info", "json")
    token = tokens.mint(tokens.JOIN)
    hidden_local = "canary"

    try:
        raise ValueError(f"refused {token}{hidden_local[:0]}")
    except ValueError:
        structlog.get_logger().exception("failed", url=f"https://x/?t={token}")

    line = capsys.readouterr().err
    entry = json.loads(line)
    assert token not in line
    assert "twj_…" in entry["url"]
    assert "twj_…" in entry["exception"]
    assert "canary" not in line


def test_unknown_level_and_form_are_refused() -> None:
    with pytest.raises(SettingsError, match="log_level"):
        logging.configure("loud", "json")
    with pytest.raises(SettingsError, match="log_format"):
        logging.configure("info", "xml")
