"""Alerts of files or topics, laid out for training: the encoder learns from the stream itself."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from broker.alert import Alert
from broker.avro.deserializer import Deserializer
from broker.errors import AlertError, SettingsError
from broker.packet_files import Packet
from broker.survey import WANTED, read_alert
from encoder.archive import save_shard, shard_from_alerts

ALERTS_PER_SHARD = 1000


@dataclass
class Ingestion:
    """Reads packets into shards and keeps count.

    Attributes
    ----------
    output : Path
        Folder of the shards; made where it does not exist.
    alerts : int
        In shards so far.
    repeated : int
        Left out, as an alert of that id was there before.
    left_out : list of (str, str)
        Where and why: what is no alert, or has no stamp that can be seen.
    """

    output: Path
    alerts: int = 0
    repeated: int = 0
    left_out: list[tuple[str, str]] = field(default_factory=list)

    def run(self, packets: Iterable[Packet], per_shard: int = ALERTS_PER_SHARD) -> Iterator[int]:
        """Write shards of at most so many alerts; yields the count of alerts after each.

        Raises
        ------
        SettingsError
            The folder holds shards already, which would be mixed with these.
        """
        self.output.mkdir(parents=True, exist_ok=True)
        if there := sorted(self.output.glob("ingested-*.npz")):
            raise SettingsError(
                f"{self.output} holds {len(there)} shards of an earlier ingestion: give another --output, or remove "
                "them"
            )
        found = self._alerts(packets)
        for number, chunk in enumerate(iter(lambda: list(islice(found, per_shard)), [])):
            save_shard(self.output / f"ingested-{number:05d}.npz", shard_from_alerts(chunk))
            self.alerts += len(chunk)
            yield self.alerts

    def _alerts(self, packets: Iterable[Packet]) -> Iterator[Alert]:
        deserialize, seen = Deserializer(WANTED), set[tuple[str, int]]()
        for packet in packets:
            try:
                alert = read_alert(deserialize(packet.value))
            except AlertError as error:
                self.left_out.append((packet.where, error.detail))
                continue
            name = (alert.survey.value, alert.alert_id)
            if name in seen:
                self.repeated += 1
            elif not any(alert.cutouts):
                self.left_out.append((packet.where, "it has no stamps"))
            else:
                seen.add(name)
                yield alert
