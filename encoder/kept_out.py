"""Classes that no training may see, so that finding them can be measured."""

from collections.abc import Sequence

from broker.errors import SettingsError

ANOMALIES = ("lens_arc", "ring", "double_nucleus", "tidal_tail")
"""What `encoder simulate` draws as anomalies."""


def refuse_anomalies(classes: Sequence[str], where: object) -> None:
    """Check that a set is one to train on.

    Parameters
    ----------
    classes : sequence of str
        That the set names.
    where : object
        What the error calls it.

    Raises
    ------
    SettingsError
        It names a class that is kept out of training.
    """
    if found := [name for name in classes if name in ANOMALIES]:
        raise SettingsError(
            f"{where} holds {', '.join(found)}: anomalies are kept out of training, so that finding them can be "
            "measured; simulate without --anomalies and --anomaly-share"
        )
