"""From `--store` to a store."""

from pathlib import Path

import pytest

from macvlan_global.errors import Invalid
from macvlan_global.store.memory import MemoryStore
from macvlan_global.store.open import open_store


@pytest.mark.parametrize(
    ("url", "name"), [("", "state.db"), ("sqlite", "state.db"), ("sqlite:", "state.db"), ("sqlite://{}/x.db", "x.db")]
)
async def test_the_state_file_is_where_it_was_asked_for(tmp_path: Path, url: str, name: str) -> None:
    """In the state folder unless a path is given."""
    store = open_store(url.format(tmp_path), tmp_path)
    await store.create("a", b"")
    await store.close()
    assert (tmp_path / name).exists()


def test_memory_is_for_trying(tmp_path: Path) -> None:
    """Nothing is written."""
    assert isinstance(open_store("memory:", tmp_path), MemoryStore)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("url", ["consul", "sqlite://relative/x", "memory", "SQLITE", "consul://user:secret@host/"])
def test_what_is_no_store_is_refused(tmp_path: Path, url: str) -> None:
    """Without a password that may be in it."""
    with pytest.raises(Invalid, match=r"--store .* consul://HOST:PORT or etcd://HOST:PORT") as refused:
        open_store(url, tmp_path)
    assert "secret" not in str(refused.value)
