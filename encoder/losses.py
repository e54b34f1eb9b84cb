"""What pretraining minimises, and how its collapse is seen."""

import torch
from torch import Tensor
from torch.nn import functional

from encoder.world import ALONE, World

UNKNOWN = -1
"""Label of what has none."""


def info_nce(
    query: Tensor, key: Tensor, queue: Tensor, temperature: float, own: Tensor | None = None
) -> Tensor:
    """InfoNCE: tell the key of one's own alert from those of others.

    Parameters
    ----------
    query, key : Tensor, shape (n, d)
        Unit length; row i of both is one alert.
    queue : Tensor, shape (k, d)
        Keys of other alerts.
    temperature : float
    own : Tensor of bool, shape (n, k), optional
        Keys of the query's own object: they are no negatives.

    Returns
    -------
    Tensor, shape ()
        Mean of -log(exp(q k+ / T) / sum exp(q k / T)); ln(k + 1) where nothing can be told.
    """
    positive = (query * key).sum(1, keepdim=True)
    negative = query @ queue.T
    if own is not None:
        negative = negative.masked_fill(own, -torch.inf)
    logits = torch.cat([positive, negative], dim=1) / temperature
    return functional.cross_entropy(logits, torch.zeros(len(query), dtype=torch.long, device=query.device))


def spread(raw: Tensor) -> Tensor:
    """Variance and covariance terms of VICReg: every dimension is used, and none twice.

    Bardes, Ponce and LeCun 2022 (arXiv 2105.04906), equations 1 to 4.

    Parameters
    ----------
    raw : Tensor, shape (n, d)

    Returns
    -------
    Tensor, shape ()
        0 for independent columns of standard deviation 1 or more.
    """
    centred = raw - raw.mean(0)
    deviation = torch.sqrt(centred.square().sum(0) / (len(raw) - 1) + 1e-4)
    covariance = centred.T @ centred / (len(raw) - 1)
    beside = covariance - torch.diag(torch.diag(covariance))
    return functional.relu(1 - deviation).mean() + beside.square().sum() / raw.shape[1]


def known_regression(predicted: Tensor, target: Tensor, world: World = ALONE) -> Tensor:
    """Huber loss over the targets that are known.

    Parameters
    ----------
    predicted, target : Tensor, shape (n, t)
        ``target`` is NaN where unknown.
    world : World
        Other processes hold the rest of the batch: the mean over them of what is returned is that of the whole.

    Returns
    -------
    Tensor, shape ()
        Mean over known entries; 0 where none is.
    """
    known = torch.isfinite(target)
    loss = functional.smooth_l1_loss(
        predicted, torch.where(known, target, predicted.detach()), reduction="sum"
    )
    return loss * world.size / world.total(known.sum()).clamp(min=1)


def known_labels(logits: Tensor, label: Tensor, world: World = ALONE) -> Tensor:
    """Cross-entropy over the labels that are known.

    Parameters
    ----------
    logits : Tensor, shape (n, classes)
    label : Tensor of int64, shape (n,)
        -1 where unknown.
    world : World
        As in `known_regression`.

    Returns
    -------
    Tensor, shape ()
        Mean over known labels; 0 where none is.
    """
    loss = functional.cross_entropy(logits, label, ignore_index=UNKNOWN, reduction="sum")
    return loss * world.size / world.total((label != UNKNOWN).sum()).clamp(min=1)


def rank_me(rows: Tensor) -> float:
    """Effective rank: exponential of the entropy of the singular values (RankMe, Garrido et al. 2023).

    Parameters
    ----------
    rows : Tensor, shape (n, d)

    Returns
    -------
    float
        Between 1 (collapsed) and d.
    """
    values = torch.linalg.svdvals((rows - rows.mean(0)).double())
    share = values / values.sum().clamp(min=1e-12) + 1e-12
    return float(torch.exp(-(share * share.log()).sum()))


def knn_score(embedding: Tensor, label: Tensor, neighbours: int = 10) -> float:
    """Balanced accuracy of each alert's class by the vote of its nearest others, by the cosine.

    Parameters
    ----------
    embedding : Tensor, shape (n, d)
        Unit length.
    label : Tensor of int64, shape (n,)
        -1 where unknown.
    neighbours : int

    Returns
    -------
    float
        NaN where fewer than two classes are known.
    """
    rows, truth = embedding[label >= 0], label[label >= 0]
    classes = torch.unique(truth)
    if len(classes) < 2 or len(rows) <= neighbours:  # noqa: PLR2004
        return float("nan")
    similarity = rows @ rows.T
    similarity.fill_diagonal_(-2)
    votes = functional.one_hot(truth[similarity.topk(neighbours, dim=1).indices]).sum(1)
    hit = votes.argmax(1) == truth
    return float(torch.stack([hit[truth == one].float().mean() for one in classes]).mean())
