"""The identity on disk, and changing keys and trust without ever losing the way back."""

import os
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from tests.support.agent_host import make_identity

from towline.agent import identity
from towline.agent.errors import IdentityError
from towline.agent.identity import Store
from towline.agent.uplink import rotation
from towline.agent.uplink.signer import AgentSigner
from towline.aio.clock import SimulatedClock
from towline.wire import link

OLD = link.Trust(fingerprints=("sha256:aa",), version=1)
NEW = link.Trust(fingerprints=("sha256:bb",), server_urls=("https://new:1",), version=2)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = Store(tmp_path)
    made.save(make_identity(trust=OLD))
    return made


def test_identity_is_readable_by_its_user_alone_and_comes_back(store: Store) -> None:
    assert store.path.stat().st_mode & 0o777 == 0o600
    assert Store(store.path.parent).current == store.current


def test_secrets_are_in_no_repr(store: Store) -> None:
    shown = repr(store) + repr(store.current) + repr(store.current.key)

    assert store.current.key.private not in shown
    assert store.current.sealing_key not in shown


def test_missing_readable_and_damaged_files_are_explained(tmp_path: Path) -> None:
    with pytest.raises(IdentityError, match="has not joined"):
        _ = Store(tmp_path).current
    (tmp_path / "identity.json").write_text("{")
    os.chmod(tmp_path / "identity.json", 0o644)
    with pytest.raises(IdentityError, match="may be read by other users"):
        _ = Store(tmp_path).current
    os.chmod(tmp_path / "identity.json", 0o600)
    with pytest.raises(IdentityError, match="is damaged"):
        _ = Store(tmp_path).current


def test_newer_trust_keeps_the_one_that_worked_until_it_has_worked_itself(store: Store) -> None:
    assert rotation.trust(store, NEW)

    assert (store.current.trust, store.current.last_trust) == (NEW, OLD)
    assert store.current.server_urls == ("https://new:1",)
    assert store.current.settled().last_trust is None


def test_older_trust_and_empty_trust_change_nothing(store: Store) -> None:
    rotation.trust(store, NEW)

    assert not rotation.trust(store, OLD)
    assert not rotation.trust(store, link.Trust(fingerprints=(), version=9))


def test_agent_behind_a_public_authority_takes_addresses_but_no_pins(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.save(make_identity(trust=link.Trust(fingerprints=())))

    assert rotation.trust(store, NEW)

    assert store.current.trust.fingerprints == ()
    assert store.current.server_urls == ("https://new:1",)


def test_proposed_key_is_signed_by_both_and_stays_the_same_until_confirmed(store: Store) -> None:
    old = store.current.key

    proposal = rotation.propose(store, epoch=7)

    text = link.rotate_text(
        agent_id="agt_test",
        old_key_id=old.key_id,
        new_key_id=proposal.new_key_id,
        new_public_key=proposal.new_public_key,
        epoch=7,
    )
    for public, signature in ((old.public, proposal.signature), (proposal.new_public_key, proposal.new_signature)):
        key = Ed25519PublicKey.from_public_bytes(identity.decoded(public))
        key.verify(identity.decoded(signature), text)
    assert store.current.key == old
    assert rotation.propose(store, epoch=8).new_key_id == proposal.new_key_id


def test_confirmed_key_is_used_and_the_old_one_kept_for_one_more_connect(store: Store) -> None:
    old = store.current.key
    proposal = rotation.propose(store, epoch=7)

    assert rotation.confirm(store, link.KeyRotated(key_id="key_server"))

    assert (store.current.key.key_id, store.current.key.public) == ("key_server", proposal.new_public_key)
    assert (store.current.last_key, store.current.next_key) == (old, None)
    assert not rotation.confirm(store, link.KeyRotated(key_id="key_other"))


def welcome(**more: object) -> link.Welcome:
    values: dict[str, object] = {
        "agent_id": "agt_test", "cluster_id": "clu_2", "cluster_name": "renamed", "epoch": 3, "generation": 5,
    }  # fmt: skip
    return link.Welcome(**(values | more))


async def test_welcome_is_on_disk_before_ready(store: Store) -> None:
    signer = AgentSigner(store, tuple, clock=SimulatedClock())

    await signer.welcomed(welcome(trust=NEW))

    kept = Store(store.path.parent).current
    assert (kept.generation, kept.cluster_name, kept.trust, kept.last_trust) == (5, "renamed", NEW, OLD)


async def test_hello_is_signed_for_this_connection_and_this_process(store: Store) -> None:
    clock = SimulatedClock()
    challenge = link.Challenge(nonce="n", origin="https://o", server_time=clock.now().timestamp() - 3600)
    signer, other = AgentSigner(store, tuple, clock=clock), AgentSigner(store, tuple, clock=clock)

    hello = await signer.hello(challenge)

    text = link.connect_text(
        origin="https://o",
        nonce="n",
        agent_id="agt_test",
        key_id=store.current.key.key_id,
        instance_id=hello.instance_id,
        generation=1,
    )
    public = Ed25519PublicKey.from_public_bytes(identity.decoded(store.current.key.public))
    public.verify(identity.decoded(hello.signature), text)
    assert hello.instance_id != (await other.hello(challenge)).instance_id
    assert signer.time_offset == 3600


async def test_refused_new_key_falls_back_to_the_old_one(store: Store) -> None:
    old = store.current.key
    rotation.propose(store, epoch=1)
    rotation.confirm(store, link.KeyRotated(key_id="key_new"))
    signer = AgentSigner(store, tuple, clock=SimulatedClock())
    challenge = link.Challenge(nonce="n", origin="o", server_time=0.0)

    assert (await signer.hello(challenge)).key_id == "key_new"
    assert (await signer.hello(challenge)).key_id == old.key_id
    await signer.welcomed(welcome())
    assert (store.current.key, store.current.last_key) == (old, None)
