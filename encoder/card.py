"""The model card: one page, every number from the metrics file."""

from collections.abc import Iterator

from broker.contract import ModelContract
from encoder.anomaly import ARTEFACT
from encoder.report import Report, Table


def model_card(contract: ModelContract, report: Report) -> str:
    """Write the card of a model.

    Parameters
    ----------
    contract : ModelContract
        As exported.
    report : Report
        Of `encoder fit-heads`.

    Returns
    -------
    str
        Markdown.
    """
    return "\n".join([*_head(contract, report), *_numbers(report), *_foot(contract, report)]) + "\n"


def _head(contract: ModelContract, report: Report) -> Iterator[str]:
    classes = ", ".join(contract.morphology_classes)
    yield f"# Model card: {contract.name} {contract.version}"
    yield ""
    yield (
        f"A residual network of {contract.mmac:.0f} million multiply-accumulates that turns the three "
        f"stamps of one Rubin or ZTF alert into an embedding of {contract.embedding_size} numbers, with three "
        f"heads: morphology ({classes}), a redshift PDF on {contract.z_bins} bins to z = {contract.z_max:g}, and an "
        f"anomaly score{_views(contract)}. The encoder was pretrained {_method(report)} "
        "and then frozen; the heads were fitted on the simulation's labels."
    )
    yield ""
    yield f"Weights `{contract.weights_digest}`. Trained on: {contract.training_data}."
    yield ""
    yield "## What it is not"
    yield ""
    yield (
        "- **It has seen no real alert in training.** Every number below is measured on held-out "
        "*simulation*; how far it holds on the sky is not measured here. Expect it to be worse, "
        "and over-confident."
    )
    yield (
        "- Not a real/bogus classifier to decide by: its artefacts are simulated ones. Not photometric "
        "redshifts for cosmology: hosts, colours and photometry are those of a simple catalogue model."
    )
    yield (
        f"- The anomaly score compares with {contract.anomaly_reference}. Real alerts differ from the "
        "simulation, so on the sky the scores crowd towards 1: rank by them, do not cut at a fixed value."
    )
    if contract.artefact_class is not None:
        yield (
            "- The view *interesting* knows only simulated artefacts: one of another kind is unusual and passes "
            "as interesting. The view *artefact* is no more than the morphology's probability of "
            f"{contract.artefact_class}, as a quantile of the same population."
        )
    ranges = "; ".join(
        f"{name} {low:g} to {high:g}" for name, (low, high) in contract.photometry_range.items()
    )
    yield f"- Redshifts hold for packet photometry between AB magnitudes {ranges}; beyond, see the flags."
    yield (
        "- A redshift is meant for an alert on a galaxy and was learned from those alone; one is given for stars, "
        "hostless transients and artefacts too, and means nothing there: look at the morphology."
    )
    yield f"- The last redshift bin holds everything beyond z = {contract.z_max:g}."
    yield ""


def _views(contract: ModelContract) -> str:
    return (
        ""
        if contract.artefact_class is None
        else " with two views, as something interesting and as an artefact"
    )


def _method(report: Report) -> str:
    contrast = "momentum contrast, with a regression of clean fluxes"
    if "labels" not in report.curve:
        return f"without labels ({contrast})"
    return (
        f"on simulation ({contrast} and, as a hybrid after Walmsley et al. 2022, of the simulation's labels)"
    )


def _numbers(report: Report) -> Iterator[str]:
    counts = report.counts
    yield "## Numbers"
    yield ""
    yield (
        f"{counts['held_out']} held-out alerts of {counts['held_out_objects']} objects that neither "
        f"pretraining nor heads saw ({counts['training']} trained the heads, {counts['validation']} chose their "
        "epoch and calibrated them). Brackets: 95 % bootstrap over objects; this is one training run, so the spread "
        "between runs is not in them. Redshifts are measured on those below z_max "
        f"({counts['held_out_beyond_z_max']} alerts lie beyond). Seeds: "
        + ", ".join(f"{name} {seed}" for name, seed in report.seeds.items())
        + "."
    )
    for title, table in report.tables.items():
        yield ""
        yield f"### {title[0].upper()}{title[1:]} (n = {_size(table)})"
        yield ""
        yield from _markdown(table)
    yield ""
    yield "Recall by class: " + ", ".join(f"{name} {value}" for name, value in report.recall.items()) + "."
    yield ""


def _size(table: Table) -> str:
    return ", ".join(sorted({str(value.n) for row in table.values() for value in row.values()}))


def _markdown(table: Table) -> Iterator[str]:
    metrics = list(dict.fromkeys(name for row in table.values() for name in row))
    yield "| | " + " | ".join(metrics) + " |"
    yield "|---" * (len(metrics) + 1) + "|"
    for name, row in table.items():
        yield (
            f"| {name} | "
            + " | ".join(str(row[metric]) if metric in row else "" for metric in metrics)
            + " |"
        )


def _foot(contract: ModelContract, report: Report) -> Iterator[str]:
    yield "## Definitions"
    yield ""
    for name, text in report.definitions.items():
        yield f"- `{name}`: {text}."
    yield ""
    if "rank_me" in report.curve:
        yield (
            f"Pretraining ended after {report.curve['epoch']:.0f} epochs, "
            f"{report.curve['seconds'] / 60:.0f} minutes, with an effective rank "
            f"of {report.curve['rank_me']:.1f} of {contract.embedding_size}. "
        )
    yield f"`{ARTEFACT}` alerts are kept out of the anomaly reference only; the other heads know them."
    yield "Made by `make model`; this page is written by `encoder export` and not by hand."
