"""The model a command was given: an ONNX file as it is, a checkpoint in the form the broker serves."""

from importlib.util import find_spec
from pathlib import Path

from broker.errors import SettingsError
from broker.inference import Model

CHECKPOINT = ".pt"


def served(model: Path | None, folder: Path) -> tuple[Model, bool]:
    """Load a model; a checkpoint is brought into the broker's form first.

    Parameters
    ----------
    model : Path or None
        None is the packaged one.
    folder : Path
        Where a checkpoint's ONNX file may be written.

    Returns
    -------
    Model
    bool
        Whether it has heads: a checkpoint has none.
    """
    if model is None or model.suffix != CHECKPOINT:
        return Model.load(model), True
    need_torch(model)
    from encoder.headless import export_headless  # noqa: PLC0415 - needs torch, which ONNX files do not

    return Model.load(export_headless(model, folder / "encoder.onnx")), False


def need_torch(model: Path) -> None:
    """Check that a checkpoint can be read.

    Raises
    ------
    SettingsError
        torch is not installed.
    """
    if find_spec("torch") is None:
        raise SettingsError(
            f"{model} is a checkpoint, which needs torch: pip install -e '.[train]' in the clone"
        )
