"""What mutations begin with: whole packets, from the project's own writers or from folders."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import schemas
from broker.packet_files import PacketFiles
from broker.testing.packets import Visit, example_stamps, lsst_packet, ztf_packet

BANDS = "ugrizy"
PS1 = {"g": 19.1, "r": 18.6, "i": 18.3, "z": 18.2}


@dataclass(frozen=True, slots=True)
class Seed:
    """One sound packet.

    Attributes
    ----------
    name : str
    value : bytes
        As on the wire.
    """

    name: str
    value: bytes


@cache
def written() -> tuple[Seed, ...]:
    """Packets of every form the project's writers know; no file is needed for them."""
    return (*_rubin(), *_zwicky())


def _rubin() -> Iterable[Seed]:
    history = [Visit(mjd_tai=61000.0 + day, band=BANDS[day % 6]) for day in range(7)]
    stamps = example_stamps()
    for entry in schemas.entries():
        if not entry.name.startswith("lsst.") or entry.schema_id is None:
            continue
        yield Seed(f"{entry.name} plain", lsst_packet(schema_id=entry.schema_id))
        yield Seed(f"{entry.name} history", lsst_packet(schema_id=entry.schema_id, history=history))
        yield Seed(
            f"{entry.name} solar system",
            lsst_packet(
                [None, *stamps[1:]],
                schema_id=entry.schema_id,
                object_id=None,
                ss_object_id=5,
                history=history,
            ),
        )


def _zwicky() -> Iterable[Seed]:
    history = [{"jd": 2460500.5 + day, "fid": 1 + day % 3, "magpsf": 18.0} for day in range(5)]
    for form in ("ztf.v4_02", "ztf.v3_3"):
        yield Seed(f"{form} plain", ztf_packet(form=form))
        yield Seed(f"{form} host", ztf_packet(form=form, ps1=PS1, ps1_distance=0.4, history=history))
        yield Seed(f"{form} no stamps", ztf_packet([None, None, None], form=form, ps1=PS1, ps1_distance=0.4))
        for codec in ("deflate", "bzip2", "xz"):
            yield Seed(f"{form} {codec}", ztf_packet(form=form, codec=codec, history=history))


def found(folders: Iterable[Path]) -> tuple[Seed, ...]:
    """Packets below folders, in a stable order.

    Parameters
    ----------
    folders : iterable of Path
    """
    return tuple(Seed(Path(packet.where).stem, packet.value) for packet in PacketFiles.find(folders))
