"""Packets of either survey to `Alert`."""

from collections.abc import Callable, Mapping

from broker.alert import Alert, Survey
from broker.avro.deserializer import Packet
from broker.avro.recognition import Need
from broker.survey import lsst, ztf

WANTED: Mapping[Survey, Mapping[str, Need]] = {Survey.LSST: lsst.WANTED, Survey.ZTF: ztf.WANTED}
"""Dotted paths of the fields that `read_alert` needs; ``prvDiaSources[].band`` is a list over the array."""

_READERS: Mapping[Survey, Callable[[Packet], Alert]] = {Survey.LSST: lsst.read, Survey.ZTF: ztf.read}


def read_alert(packet: Packet) -> Alert:
    """Put a packet into the terms both surveys share.

    Parameters
    ----------
    packet : Packet
        With the fields of `WANTED`; those its schema does not have are absent.

    Returns
    -------
    Alert
        Whatever the values: what is null or not finite becomes NaN and a flag.
    """
    return _READERS[packet.survey](packet)
