"""Coverage-guided fuzzing of the pure readers: ``make fuzz-coverage``.

atheris watches which branches of the broker the bytes reach and keeps those that reach new ones. It is not a
requirement of the project: its wheels are for x86-64 Linux alone.
"""

import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["broker", "schemas"]):
    from broker.avro.container import split_container
    from broker.avro.decode import decode
    from broker.avro.deserializer import Deserializer
    from broker.contract import COMMON_GRID
    from broker.errors import AlertError
    from broker.geometry import lay
    from broker.survey import WANTED, read_alert

from .seeds import written

FULL, OFF = Deserializer(WANTED), Deserializer(WANTED, validate="off")


def one(value: bytes) -> None:
    """Read some bytes as each program does; only an `AlertError` may come out."""
    for deserialize in (FULL, OFF):
        try:
            lay(read_alert(deserialize(value)), COMMON_GRID)
        except AlertError:
            continue
    for read in (split_container, decode):
        try:
            read(value)
        except AlertError:
            continue


def main() -> None:
    """Begin with the writers' packets, where the corpus is empty."""
    corpus = next((Path(text) for text in sys.argv[1:] if not text.startswith("-")), None)
    if corpus is not None and not any(corpus.iterdir()):
        for number, seed in enumerate(written()):
            (corpus / f"seed-{number:03d}").write_bytes(seed.value)
    atheris.Setup(sys.argv, one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
