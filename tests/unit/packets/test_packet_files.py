"""Packets out of files, folders and archives: unchanged, in order, and what is wrong is kept."""

import io
import tarfile

import fastavro
import pytest

from broker import packet_files
from broker.errors import SettingsError
from broker.packet_files import PacketFiles
from broker.testing.packets import container, lsst_packet, ztf_packet


def values(*paths):
    files = PacketFiles.find(paths)
    return [packet.value for packet in files], files


def archive(path, members, mode="w:gz"):
    with tarfile.open(path, mode) as tar:
        folder = tarfile.TarInfo("20260301")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
        for name, content in members.items():
            info = tarfile.TarInfo(f"20260301/{name}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


@pytest.mark.parametrize(
    ("name", "mode"), [("night.tar", "w"), ("night.tar.gz", "w:gz"), ("night.tgz", "w:gz")]
)
def test_an_archive_gives_its_members_in_their_order(tmp_path, name, mode):
    packets = {f"{n}.avro": ztf_packet(alert_id=n) if n % 2 else lsst_packet(alert_id=n) for n in (3, 2, 1)}
    found, files = values(archive(tmp_path / name, packets, mode))
    assert found == list(packets.values())
    assert files.skipped == []
    assert [packet.where.split(":")[-1] for packet in files] == [f"20260301/{n}" for n in packets]


def test_archives_and_packets_below_a_folder(tmp_path):
    (tmp_path / "deep").mkdir()
    archive(tmp_path / "deep" / "night.tar.gz", {"1.avro": lsst_packet(alert_id=1)})
    (tmp_path / "zero.avro").write_bytes(lsst_packet(alert_id=2))
    (tmp_path / "README.md").write_text("not a packet")
    found, files = values(tmp_path)
    assert found == [lsst_packet(alert_id=1), lsst_packet(alert_id=2)]
    assert files.count is None


def test_a_container_in_an_archive_is_split(tmp_path):
    (block,) = fastavro.block_reader(io.BytesIO(ztf_packet()))
    many = container("ztf.v4_02", [block.bytes_.getvalue()] * 3)
    found, files = values(archive(tmp_path / "night.tar", {"many.avro": many}, "w"))
    assert len(found) == 3
    assert files.remarks[0][1] == "split into 3 alerts, a container each"


def test_what_is_no_packet_is_kept_with_its_reason(tmp_path):
    (tmp_path / "1.avro").write_bytes(b"?")
    (tmp_path / "2.avro").write_bytes(b"")
    (tmp_path / "3.tar.gz").write_bytes(b"no archive")
    (tmp_path / "4.avro").write_bytes(lsst_packet())
    found, files = values(tmp_path)
    assert found == [lsst_packet()]
    reasons = [why for _, why in files.skipped]
    assert "neither a Confluent frame nor an Avro container (begins b'?')" in reasons[0]
    assert "(is empty)" in reasons[1]
    assert "cannot be read" in reasons[2]


def test_an_archive_that_was_cut_gives_what_it_has(tmp_path):
    whole = archive(tmp_path / "night.tar", {f"{n}.avro": lsst_packet(alert_id=n) for n in (1, 2)}, "w")
    cut = tmp_path / "cut.tar"
    cut.write_bytes(whole.read_bytes()[:-20_000])
    found, files = values(cut)
    assert found == [lsst_packet(alert_id=1)]
    assert "cannot be read" in files.skipped[0][1]


def test_a_member_too_large_is_skipped_unread(tmp_path, monkeypatch):
    monkeypatch.setattr(packet_files, "LARGEST_MEMBER", 1000)
    found, files = values(archive(tmp_path / "night.tar", {"1.avro": lsst_packet()}, "w"))
    assert found == []
    assert "more than 1000" in files.skipped[0][1]


def test_a_file_without_the_right_to_read_is_skipped(tmp_path):
    (tmp_path / "1.avro").symlink_to(tmp_path / "none.avro")
    (tmp_path / "2.avro").write_bytes(lsst_packet())
    assert values(tmp_path / "2.avro")[0] == [lsst_packet()]
    with pytest.raises(SettingsError, match="does not exist"):
        values(tmp_path / "1.avro")


def test_a_missing_path_is_refused(tmp_path):
    with pytest.raises(SettingsError, match="does not exist: give files, archives, or folders"):
        PacketFiles.find([tmp_path / "none"])


def test_a_folder_without_packets_is_refused(tmp_path):
    with pytest.raises(SettingsError, match=r"no \*\.avro file"):
        PacketFiles.find([tmp_path])
