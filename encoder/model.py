"""The whole graph that is served: representation, heads and anomaly in one module."""

import torch
from torch import Tensor, nn

from encoder.anomaly import AnomalyScore
from encoder.backbone import Encoder, Representation
from encoder.config import NetworkConfig
from encoder.heads import PhotometryFeatures, morphology_head, redshift_head, survey_one_hot


class AlertModel(nn.Module):
    """Everything between the stamps on the common grid and what is said of the alert.

    Parameters
    ----------
    config : NetworkConfig
    classes : tuple of str
        Morphology classes in the order of the output.
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

    def forward(
        self, stamps: Tensor, mask: Tensor, noise: Tensor, survey: Tensor, band: Tensor, photometry: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Run the graph.

        Parameters
        ----------
        stamps, mask, noise, survey, band, photometry : Tensor
            As `broker.contract.INPUTS` states them.

        Returns
        -------
        tuple of Tensor
            As `broker.contract.OUTPUTS` states them.
        """
        seen = self.encoder(stamps, mask, noise, band)
        return (
            seen.embedding,
            torch.softmax(self.morphology(self.appearance(seen, survey)), dim=1),
            torch.softmax(self.redshift(self.description(seen, survey, photometry)), dim=1),
            self.anomaly(seen.embedding, survey),
        )

    def appearance(self, seen: Representation, survey: Tensor) -> Tensor:
        """Join what the morphology head reads: features, context and survey."""
        return torch.cat([seen.features, seen.context, survey_one_hot(survey)], dim=1)

    def description(self, seen: Representation, survey: Tensor, photometry: Tensor) -> Tensor:
        """Join what the redshift head reads: the appearance and the packet's photometry."""
        return torch.cat([self.appearance(seen, survey), self.describe_photometry(photometry)], dim=1)
