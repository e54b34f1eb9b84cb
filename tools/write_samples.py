"""Write the sample message of every schema in the bundle, from simulated packets.

A version that has been published keeps its sample: it shows that what was once written can still be read. So a
sample that is there is left alone; remove it to have it made again.

::

    python tools/write_samples.py
"""

import gzip
from pathlib import Path

import schemas
from broker.alert import Message, Survey
from broker.avro.deserializer import Deserializer
from broker.inference import Model
from broker.pipeline import Pipeline
from broker.records import RecordBuilder
from broker.survey import WANTED
from broker.testing.packets import Visit, example_stamps, lsst_packet, ztf_packet
from schemas.catalogue import sample_path

BUNDLE = Path(schemas.__file__).parent


def packet(form: str) -> bytes:
    """Simulate a packet of a form."""
    if form.startswith(Survey.ZTF.value):
        return ztf_packet(form=form, ps1={"g": 19.1, "r": 18.4, "i": 18.1, "z": 17.9}, ps1_distance=0.4)
    major, _, minor = form.removeprefix("lsst.v").partition("_")
    history = [Visit(mjd_tai=61038.2, band="g"), Visit(mjd_tai=61039.1, band="i")]
    return lsst_packet(example_stamps(), schema_id=int(major) * 100 + int(minor), history=history)


def _pipeline() -> Pipeline:
    return Pipeline(Deserializer(WANTED), Model.load())


def samples() -> dict[str, bytes]:
    """Messages of every name of the bundle."""
    packets = {form: packet(form) for form in schemas.INPUT_FORMS}
    messages = [
        Message(value, "alerts", 0, offset) for offset, value in enumerate([*packets.values(), b"no alert"])
    ]
    build = RecordBuilder(lambda topic: topic, "1")
    *enriched, rejected = [build(outcome).value for outcome in _pipeline()(messages)]
    names = (schemas.enriched_name(form) for form in packets)
    return {**packets, **dict(zip(names, enriched, strict=True)), schemas.DEAD_LETTER: rejected}


def main() -> None:
    """Write the samples that are missing."""
    for name, value in samples().items():
        path = BUNDLE / sample_path(name)
        if not path.exists():
            path.write_bytes(gzip.compress(value, mtime=0))
            print(f"wrote {path}: {len(value)} bytes, {path.stat().st_size} packed")


if __name__ == "__main__":
    main()
