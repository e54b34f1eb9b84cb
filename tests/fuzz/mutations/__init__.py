"""Every mutation, by name: each takes a sound packet and gives bytes that may be anything."""

from collections.abc import Mapping

from .avro import AVRO
from .containers import CONTAINERS
from .fits import FITS
from .gzips import GZIPS
from .kinds import Mutation
from .raw import RAW
from .stamps import STAMPS

MUTATIONS: Mapping[str, Mutation] = {**RAW, **AVRO, **CONTAINERS, **STAMPS, **FITS, **GZIPS}
"""In the order of the report: bytes, Avro, wrapping, stamps, FITS, gzip."""

__all__ = ["MUTATIONS", "Mutation"]
