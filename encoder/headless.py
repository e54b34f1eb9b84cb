"""A pretrained encoder in the broker's form before it has heads."""

from pathlib import Path

from broker.alert import SURVEYS
from encoder.alert_task import load_checkpoint
from encoder.export import UNTRAINED_CLASSES, Provenance, export
from encoder.model import AlertModel

EVERY_MAGNITUDE = (-100.0, 100.0)
"""No photometry lies outside what nothing was trained on."""


def export_headless(checkpoint: Path, path: Path) -> Path:
    """Write an ONNX file whose embedding is the checkpoint's, and whose other outputs mean nothing.

    Parameters
    ----------
    checkpoint : Path
        Made by `encoder pretrain` on alerts.
    path : Path

    Returns
    -------
    Path
        The same.
    """
    run = load_checkpoint(checkpoint)
    model = AlertModel(run.config.network, UNTRAINED_CLASSES)
    model.encoder.load_state_dict(run.moco.base_encoder.state_dict())
    said = Provenance(
        name="encoder",
        version=f"step-{run.step}",
        trained=False,
        simulated_classes=(),
        photometry_range={survey.value: EVERY_MAGNITUDE for survey in SURVEYS},
        anomaly_reference="nothing: the heads are not fitted",
        training_data="the checkpoint's",
    )
    export(model, said, path)
    return path
