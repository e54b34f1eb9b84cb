"""The whole graph that is served: representation, heads and anomaly in one module."""

import torch
from torch import Tensor, nn

from broker.contract import ANOMALY_VIEWS, OUTPUTS
from encoder.anomaly import ARTEFACT, AnomalyScore, AnomalyViews
from encoder.backbone import Encoder, Representation
from encoder.config import NetworkConfig
from encoder.heads import PhotometryFeatures, morphology_head, redshift_head, survey_one_hot


class AlertModel(nn.Module):
    """Everything between the stamps on the common grid and what is said of the alert.

    Parameters
    ----------
    config : NetworkConfig
    classes : tuple of str
        Morphology classes in the order of the output. Where `ARTEFACT` is among them, the anomaly has its two
        views.
    dropout : float
        Of the heads, in training.
    """

    def __init__(self, config: NetworkConfig, classes: tuple[str, ...], dropout: float = 0.0) -> None:
        super().__init__()
        self.config = config
        self.classes = classes
        self.encoder = Encoder(config)
        sizes = self.encoder.feature_size, self.encoder.context_size
        self.describe_photometry = PhotometryFeatures()
        self.morphology = morphology_head(config, *sizes, len(classes), dropout)
        self.redshift = redshift_head(config, *sizes, dropout)
        self.anomaly = AnomalyScore(config)
        self.artefact_class = ARTEFACT if ARTEFACT in classes else None
        self.anomaly_views = AnomalyViews(config, classes.index(ARTEFACT)) if self.artefact_class else None

    @property
    def outputs(self) -> tuple[str, ...]:
        """What `forward` gives, in its order."""
        return OUTPUTS if self.anomaly_views is None else (*OUTPUTS, *ANOMALY_VIEWS)

    def forward(
        self, stamps: Tensor, mask: Tensor, noise: Tensor, survey: Tensor, band: Tensor, photometry: Tensor
    ) -> tuple[Tensor, ...]:
        """Run the graph.

        Parameters
        ----------
        stamps, mask, noise, survey, band, photometry : Tensor
            As `broker.contract.INPUTS` states them.

        Returns
        -------
        tuple of Tensor
            Those of `outputs`, as `broker.contract` states them.
        """
        seen = self.encoder(stamps, mask, noise, band)
        logits = self.morphology(self.appearance(seen, survey))
        survival = self.anomaly.survival(seen.embedding, survey)
        views = () if self.anomaly_views is None else self.anomaly_views(survival, logits, survey)
        return (
            seen.embedding,
            torch.softmax(logits, dim=1),
            torch.softmax(self.redshift(self.description(seen, survey, photometry)), dim=1),
            1 - survival,
            *views,
        )

    def appearance(self, seen: Representation, survey: Tensor) -> Tensor:
        """Join what the morphology head reads: features, context and survey."""
        return torch.cat([seen.features, seen.context, survey_one_hot(survey)], dim=1)

    def description(self, seen: Representation, survey: Tensor, photometry: Tensor) -> Tensor:
        """Join what the redshift head reads: the appearance and the packet's photometry."""
        return torch.cat([self.appearance(seen, survey), self.describe_photometry(photometry)], dim=1)
