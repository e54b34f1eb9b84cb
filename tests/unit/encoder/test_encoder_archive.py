"""Shards on disk: whole or not at all, and never somebody else's by accident."""

import numpy as np
import pytest

from broker.avro.deserializer import Deserializer
from broker.errors import SettingsError
from broker.survey import WANTED, read_alert
from broker.testing.packets import lsst_packet, ztf_packet
from encoder import archive
from encoder.archive import load_shards, save_shard, shard_from_alerts


@pytest.fixture(scope="module")
def shard():
    deserialize = Deserializer(WANTED)
    return shard_from_alerts([read_alert(deserialize(value)) for value in (lsst_packet(), ztf_packet())])


def test_a_shard_is_read_back_as_it_was(shard, tmp_path):
    save_shard(tmp_path / "one.npz", shard)
    back = load_shards([tmp_path / "one.npz"])
    for name in archive.ARRAYS:
        np.testing.assert_array_equal(getattr(back, name), getattr(shard, name))


def test_an_interrupted_write_leaves_nothing_that_a_search_for_shards_finds(shard, tmp_path, monkeypatch):
    def interrupted(file, **arrays):
        file.write(b"PK half an archive")
        raise KeyboardInterrupt

    monkeypatch.setattr(archive.np, "savez", interrupted)
    with pytest.raises(KeyboardInterrupt):
        save_shard(tmp_path / "one.npz", shard)
    assert list(tmp_path.glob("*.npz")) == []


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 half an archive", b"\x93NUMPY no archive"])
def test_a_file_that_is_no_shard_is_named(content, tmp_path):
    path = tmp_path / "broken.npz"
    path.write_bytes(content)
    with pytest.raises(SettingsError, match=r"broken\.npz cannot be read as a shard"):
        load_shards([path])


def test_an_archive_of_something_else_says_what_it_lacks(tmp_path):
    np.savez(tmp_path / "other.npz", images=np.zeros(3))
    with pytest.raises(SettingsError, match=r"it has \['images'\] and lacks"):
        load_shards([tmp_path / "other.npz"])
