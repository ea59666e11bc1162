"""Every proof that the threat model names is a test that exists."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


def test_every_proof_exists() -> None:
    named = set(re.findall(r"`(test_\w+)`", (ROOT / "docs" / "threat-model.md").read_text()))
    written = {
        name
        for path in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"^\s*(?:async )?def (test_\w+)", path.read_text(), re.MULTILINE)
    }
    assert len(named) > 40
    assert named <= written, sorted(named - written)
