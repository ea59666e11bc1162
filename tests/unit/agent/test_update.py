"""Orders to update: who may sign them, and what they may say."""

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from towline.agent.identity import encoded
from towline.agent.update import File, Manifest, UpdateRefused, release, verify
from towline.agent.updating import parse_list
from towline.wire import link

KEY = Ed25519PrivateKey.generate()
PINNED = (encoded(KEY.public_key().public_bytes_raw()),)
SUM = "a" * 64
NEWER = {"version": "99.0.0", "files": [{"name": "requirements.txt", "sha256": SUM, "size": 3}]}


def order(manifest: object, key: Ed25519PrivateKey = KEY) -> link.Update:
    text = msgspec.json.encode(manifest).decode()
    return link.Update(manifest=text, signature=encoded(key.sign(link.update_text(text))))


def test_newer_release_signed_by_a_pinned_key_is_taken() -> None:
    assert verify(order(NEWER), PINNED).version == "99.0.0"


@pytest.mark.parametrize(
    ("given", "pinned", "reason"),
    [
        (order(NEWER), (), "no release key is pinned"),
        (order(NEWER, Ed25519PrivateKey.generate()), PINNED, "not signed by a release key"),
        (link.Update(manifest="{}", signature=""), PINNED, "not signed"),
        (link.Update(manifest="{}", signature="%%%"), PINNED, "not signed"),
        (order(NEWER), ("AA",), "not signed"),
        (order({"version": 3}), PINNED, "cannot be read"),
        (order({**NEWER, "version": "0.0.1"}), PINNED, "is not newer"),
        (order({**NEWER, "version": "../../etc"}), PINNED, "is not a version"),
        (order({**NEWER, "files": []}), PINNED, "1 to 200 files"),
        (order({**NEWER, "files": [{"name": "../x", "sha256": SUM, "size": 1}]}), PINNED, "no usable name"),
        (order({**NEWER, "files": [{"name": "x", "sha256": "zz", "size": 1}]}), PINNED, "no usable name"),
    ],
)
def test_anything_else_is_refused_with_the_reason(given: link.Update, pinned: tuple[str, ...], reason: str) -> None:
    with pytest.raises(UpdateRefused, match=reason):
        verify(given, pinned)


def test_changed_manifest_loses_its_signature() -> None:
    good = order(NEWER)
    changed = msgspec.structs.replace(good, manifest=good.manifest.replace("99.0.0", "99.0.1"))

    with pytest.raises(UpdateRefused, match="not signed"):
        verify(changed, PINNED)


def test_releases_are_ordered() -> None:
    texts = ["0.1.0.dev1", "0.1.0a1", "0.1.0b2", "0.1.0rc1", "0.1.0", "0.1.10", "0.2.0", "1.0.0"]

    assert sorted(texts, key=release) == texts


def test_list_of_the_server_must_be_what_was_signed() -> None:
    signed = Manifest(version="1.0.0", files=(File(name="requirements.txt", sha256=SUM, size=3),))
    line = f"{SUM} /install/files/cp311/requirements.txt requirements.txt"

    assert [each.name for each in parse_list(line, signed)] == ["requirements.txt"]
    for wrong, why in (
        (line.replace("a" * 64, "b" * 64), "does not have"),
        (f"{line}\n{SUM} /install/files/x/evil.whl evil.whl", "evil.whl"),
        ("nonsense", "cannot be read"),
        (f"{SUM} /etc/passwd requirements.txt", "cannot be read"),
        ("", "no list of requirements"),
    ):
        with pytest.raises(UpdateRefused, match=why):
            parse_list(wrong, signed)
