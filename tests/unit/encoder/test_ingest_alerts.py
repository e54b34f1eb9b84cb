"""Real packets into shards: laid out as they are served, each once, what is left out is said."""

import numpy as np
import pytest
from typer.testing import CliRunner

from broker.avro.deserializer import Deserializer
from broker.errors import SettingsError
from broker.packet_files import PacketFiles
from broker.survey import WANTED, read_alert
from broker.testing.packets import lsst_packet, ztf_packet
from encoder.archive import ARRAYS, load_shards, save_shard, shard_from_alerts
from encoder.cli.commands import app
from encoder.ingested import Ingestion

pytestmark = pytest.mark.train


def ingest(*arguments):
    return CliRunner().invoke(app, ["ingest", *map(str, arguments)], catch_exceptions=False)


@pytest.fixture
def packets(tmp_path):
    folder = tmp_path / "packets"
    folder.mkdir()
    wanted = [lsst_packet(alert_id=5), ztf_packet(alert_id=6), lsst_packet(alert_id=7)]
    for n, packet in enumerate(
        [*wanted, lsst_packet(alert_id=5), lsst_packet([None] * 3, alert_id=8), b"\0 none"]
    ):
        (folder / f"{n}.avro").write_bytes(packet)
    return folder


def test_alerts_are_in_shards_each_once(packets, tmp_path):
    result = ingest(packets, "--output", tmp_path / "shards")
    assert result.exit_code == 0
    said = " ".join(result.output.split())
    assert "3 alerts in" in said
    assert "1 repeated, 2 left out" in said
    assert "it has no stamps" in said
    shard = load_shards((tmp_path / "shards").glob("*.npz"))
    assert shard.alert_id.tolist() == [5, 6, 7]
    assert (shard.label == -1).all()


def test_many_alerts_make_several_shards(packets, tmp_path):
    counts = list(Ingestion(tmp_path / "shards").run(PacketFiles.find([packets]), per_shard=2))
    assert counts == [2, 3]
    whole = load_shards(sorted((tmp_path / "shards").glob("*.npz")))
    assert whole.alert_id.tolist() == [5, 6, 7]


def test_a_second_ingestion_does_not_mix(packets, tmp_path):
    ingest(packets, "--output", tmp_path / "shards")
    with pytest.raises(SettingsError, match="holds 1 shards of an earlier ingestion"):
        ingest(packets, "--output", tmp_path / "shards")


def test_ingested_and_simulated_shards_train_together(packets, tmp_path):
    ingest(packets, "--output", tmp_path / "shards")
    alert = read_alert(Deserializer(WANTED)(lsst_packet(alert_id=50)))
    save_shard(
        tmp_path / "shards" / "simulated.npz",
        shard_from_alerts([alert], classes=("disk", "star"), labels=[1]),
    )
    shard = load_shards(sorted((tmp_path / "shards").glob("*.npz")))
    assert shard.classes == ("disk", "star")
    assert shard.label.tolist() == [-1, -1, -1, 1]
    for name in ARRAYS:
        assert len(getattr(shard, name)) == 4
    assert np.isfinite(shard.box[:, 0]).any((1, 2)).all()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "give files, or --topic"),
        (["a", "--topic", "t"], "and not both"),
        (["a.npz", "b.npz"], "one at a time"),
        (["a.npz"], r"wanted \.hdf5"),
    ],
)
def test_arguments_that_do_not_go_together(arguments, said, tmp_path):
    with pytest.raises(SettingsError, match=said):
        ingest(*arguments, "--output", tmp_path / "shards")


def test_nothing_but_rubbish_is_refused(tmp_path):
    (tmp_path / "1.avro").write_bytes(b"?")
    with pytest.raises(SettingsError, match="no alert with stamps"):
        ingest(tmp_path / "1.avro", "--output", tmp_path / "shards")
