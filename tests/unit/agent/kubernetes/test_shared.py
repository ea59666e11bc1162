"""One key for several pods: who makes it, who reads it, and how a changed one reaches the others."""

from collections.abc import Mapping
from pathlib import Path

import msgspec
import pytest

from towline.agent import identity
from towline.agent.errors import KubernetesError
from towline.agent.identity import Identity, Store
from towline.agent.kubernetes.secret import Conflict, Content
from towline.agent.kubernetes.shared import IDENTITY, JOINING, SharedIdentity
from towline.tunnel.errors import LinkDown
from towline.wire import link


class Vault:
    """A Secret in memory, with the API server's rules about versions."""

    def __init__(self) -> None:
        self.data: dict[str, bytes] | None = None
        self.version = 0
        self.is_away = False

    async def read(self) -> Content | None:
        self._ask()
        return None if self.data is None else Content(dict(self.data), str(self.version))

    async def create(self, data: Mapping[str, bytes]) -> Content:
        self._ask()
        if self.data is not None:
            raise Conflict("there is one")
        return self._write(data)

    async def replace(self, data: Mapping[str, bytes], version: str) -> Content:
        self._ask()
        if version != str(self.version):
            raise Conflict("it was changed")
        return self._write(data)

    def _ask(self) -> None:
        if self.is_away:
            raise KubernetesError("the API server is away")

    def _write(self, data: Mapping[str, bytes]) -> Content:
        self.data, self.version = dict(data), self.version + 1
        return Content(dict(data), str(self.version))


@pytest.fixture
def vault() -> Vault:
    return Vault()


def pod(vault: Vault, folder: Path, name: str) -> SharedIdentity:
    return SharedIdentity(Store(folder / name), vault)


def made(**changes: object) -> Identity:
    sealing, _ = identity.new_sealing_key()
    own = Identity(
        agent_id="agt_1", cluster_id="clu_1", cluster_name="prod", instance_id="ins_enrolled", key=identity.new_key(),
        sealing_key=sealing, server_urls=("https://a",), link_path="/l", generation=1,
        trust=link.Trust(fingerprints=()),
    )  # fmt: skip
    return msgspec.structs.replace(own, **changes)


async def joined(vault: Vault, folder: Path) -> SharedIdentity:
    first = pod(vault, folder, "first")
    assert not await first.adopt()
    await first.joined(made())
    return first


async def test_the_first_pod_puts_its_keys_into_the_secret_before_it_joins(vault: Vault, tmp_path: Path) -> None:
    assert not await pod(vault, tmp_path, "first").adopt()
    assert vault.data is not None and list(vault.data) == [JOINING]
    assert (tmp_path / "first" / "joining.json").read_bytes() == vault.data[JOINING]


async def test_two_pods_that_start_at_once_join_with_the_same_keys(vault: Vault, tmp_path: Path) -> None:
    first, second = pod(vault, tmp_path, "first"), pod(vault, tmp_path, "second")
    await first.adopt()
    await second.adopt()
    names = [tmp_path / name / "joining.json" for name in ("first", "second")]
    assert names[0].read_bytes() == names[1].read_bytes()


async def test_a_pod_that_loses_the_race_reads_what_the_winner_made(vault: Vault, tmp_path: Path) -> None:
    second = pod(vault, tmp_path, "second")
    plain = vault.read

    async def too_early() -> Content | None:
        vault.read = plain
        await pod(vault, tmp_path, "first").adopt()
        return None

    vault.read = too_early
    assert not await second.adopt()
    assert (tmp_path / "second" / "joining.json").read_bytes() == (vault.data or {})[JOINING]


async def test_a_further_pod_is_an_instance_of_its_own(vault: Vault, tmp_path: Path) -> None:
    first = await joined(vault, tmp_path)
    second = pod(vault, tmp_path, "second")
    assert await second.adopt()
    one, two = first.store.current, second.store.current
    assert one.key == two.key
    assert one.instance_id != two.instance_id
    assert (one.generation, two.generation) == (0, 0)


async def test_a_restarted_container_keeps_its_instance_and_generation(vault: Vault, tmp_path: Path) -> None:
    first = await joined(vault, tmp_path)
    first.store.change(generation=7)
    again = pod(vault, tmp_path, "first")
    assert await again.adopt()
    assert again.store.current.generation == 7
    assert again.store.current.instance_id == first.store.current.instance_id


async def test_the_secret_holds_nothing_of_one_pod(vault: Vault, tmp_path: Path) -> None:
    await joined(vault, tmp_path)
    assert vault.data is not None
    shared = msgspec.json.decode(vault.data[IDENTITY], type=Identity)
    assert (shared.instance_id, shared.generation) == ("", 0)


async def test_a_changed_key_reaches_the_other_pods(vault: Vault, tmp_path: Path) -> None:
    first = await joined(vault, tmp_path)
    second = pod(vault, tmp_path, "second")
    await second.adopt()
    new = identity.new_key()
    first.store.change(key=new, last_key=first.store.current.key)
    await first.before_hello()
    await second.before_hello()
    assert second.store.current.key == new


async def test_a_new_key_is_not_used_before_the_others_can_learn_it(vault: Vault, tmp_path: Path) -> None:
    first = await joined(vault, tmp_path)
    first.store.change(key=identity.new_key(), last_key=first.store.current.key)
    vault.is_away = True
    with pytest.raises(LinkDown, match="not in its Secret yet"):
        await first.before_hello()


async def test_an_api_server_that_is_away_keeps_nobody_from_connecting(vault: Vault, tmp_path: Path) -> None:
    first = await joined(vault, tmp_path)
    vault.is_away = True
    await first.before_hello()


async def test_newer_trust_goes_both_ways(vault: Vault, tmp_path: Path) -> None:
    first = await joined(vault, tmp_path)
    second = pod(vault, tmp_path, "second")
    await second.adopt()
    newer = link.Trust(fingerprints=(), server_urls=("https://b",), version=2)
    first.store.save(first.store.current.with_trust(newer))
    await first.follow()
    await second.follow()
    assert second.store.current.server_urls == ("https://b",)


async def test_a_secret_that_was_deleted_is_made_again(vault: Vault, tmp_path: Path) -> None:
    first = await joined(vault, tmp_path)
    vault.data = None
    await first.follow()
    assert vault.data is not None and IDENTITY in vault.data
