"""A classifier of images with few labels: the whole network trained, from pretrained weights or from none."""

import copy
import math
from collections.abc import Iterator

import numpy as np
import torch
from pydantic import Field
from torch import Generator, Tensor, nn
from torch.nn import functional

from broker.alert import Float32Array
from encoder.augment import Placement
from encoder.config import Frozen
from encoder.images.config import ImageNetworkConfig, ImageViewConfig
from encoder.images.network import ImageEncoder
from encoder.images.views import Images, ImageView, ImageViews, lay_images
from encoder.world import computes_in_bf16

CHUNK = 256
QUARTERS, TURNS = 4, 8
WARMUP = 0.15


class ClassifierConfig(Frozen):
    """How the whole network is trained on labels.

    Attributes
    ----------
    learning_rate : float
        Peak of one cycle.
    trunk : float
        The encoder's share of it: below 1 where the encoder knows something already.
    weighting : float
        Weight of a class: its count to the minus this; 0 weighs alerts alike, 1 classes.
    steps : int
        Least number of steps.
    epochs : int
        Least number of times each label is seen.
    batch_size : int
    dropout, weight_decay, smoothing : float
    """

    learning_rate: float = Field(default=1e-3, gt=0)
    trunk: float = Field(default=1.0, ge=0)
    weighting: float = Field(default=0.5, ge=0, le=1)
    steps: int = Field(default=300, ge=1)
    epochs: int = Field(default=40, ge=1)
    batch_size: int = Field(default=64, ge=1)
    dropout: float = Field(default=0.2, ge=0, lt=1)
    weight_decay: float = Field(default=0.05, ge=0)
    smoothing: float = Field(default=0.0, ge=0, lt=1)


class ImageClassifier(nn.Module):
    """An encoder and a linear layer over its pooled stages.

    Parameters
    ----------
    encoder : ImageEncoder
    classes : int
    dropout : float
    """

    def __init__(self, encoder: ImageEncoder, classes: int, dropout: float) -> None:
        super().__init__()
        self.encoder = encoder
        size = encoder.feature_size
        self.head = nn.Sequential(nn.LayerNorm(size), nn.Dropout(dropout), nn.Linear(size, classes))

    def forward(self, pixels: Tensor, noise: Tensor) -> Tensor:
        """Logits (n, classes)."""
        logits: Tensor = self.head(self.encoder(pixels, noise).features)
        return logits


def train_classifier(
    encoder: ImageEncoder,
    images: Images,
    label: Tensor,
    views: ImageViews,
    config: ClassifierConfig,
    *,
    classes: int,
    seed: int,
) -> ImageClassifier:
    """Train a copy of an encoder, and a layer on it, on labelled images.

    Parameters
    ----------
    encoder : ImageEncoder
        Pretrained, or with its first weights; left as it is.
    images : Images
    label : Tensor of int64, shape (n,)
    views : ImageViews
        What the images are augmented by.
    config : ClassifierConfig
    classes : int
    seed : int
        Of the layer's first weights, dropout, the order and the views.

    Returns
    -------
    ImageClassifier
        In evaluation mode.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = ImageClassifier(copy.deepcopy(encoder), classes, config.dropout).train()
        rates = [config.learning_rate * config.trunk, config.learning_rate]
        optimizer = torch.optim.AdamW(
            [
                {"params": list(model.encoder.parameters()), "lr": rates[0]},
                {"params": list(model.head.parameters()), "lr": rates[1]},
            ],
            weight_decay=config.weight_decay,
        )
        total = max(config.steps, math.ceil(config.epochs * len(label) / config.batch_size))
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, rates, total_steps=total + 1, pct_start=WARMUP
        )
        weight = class_weight(label, classes, config.weighting)
        generator = Generator().manual_seed(seed)
        for _ in range(total):
            rows = torch.randint(len(label), (config.batch_size,), generator=generator)
            view = views(images[rows], generator)
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=computes_in_bf16("cpu")):
                logits = model(view.pixels, view.noise)
            loss = functional.cross_entropy(
                logits.float(), label[rows], weight=weight, label_smoothing=config.smoothing
            )
            optimizer.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
            optimizer.step()
            schedule.step()
    return model.eval()


def class_weight(label: Tensor, classes: int, power: float) -> Tensor:
    """Weight (classes,) of each class, 1 on average over the labels."""
    count = torch.bincount(label, minlength=classes).float()
    weight = count.clamp(min=1) ** -power
    return weight / weight[label].mean()


def orientations(images: Images, network: ImageNetworkConfig) -> Iterator[ImageView]:
    """Lay images in the four quarter turns, and flipped: the sky has no up."""
    count = len(images)
    for flip in (1.0, -1.0):
        for quarter in range(QUARTERS):
            angle = torch.tensor(quarter * math.pi / 2)
            turn = torch.tensor(
                [[torch.cos(angle), -torch.sin(angle)], [torch.sin(angle), torch.cos(angle)]]
            ) @ torch.tensor([[flip, 0.0], [0.0, 1.0]])
            yield lay_images(images, _placed(turn, count), network)


def _placed(turn: Tensor, count: int) -> Placement:
    identity = Placement.identity(count)
    return Placement(turn.expand(count, 2, 2), identity.shift, identity.magnification)


@torch.no_grad()
def predict(model: ImageClassifier, images: Images, network: ImageNetworkConfig) -> Float32Array:
    """Probabilities (n, classes), averaged over eight orientations."""
    found = []
    for start in range(0, len(images), CHUNK):
        some = images[slice(start, start + CHUNK)]
        seen = [torch.softmax(model(view.pixels, view.noise), 1) for view in orientations(some, network)]
        found.append(torch.stack(seen).mean(0))
    return np.asarray(torch.cat(found).numpy(), np.float32)


def turned(images: Images, network: ImageNetworkConfig) -> Iterator[ImageView]:
    """Lay images in eight turns of 45 degrees, none of them flipped."""
    for eighth in range(TURNS):
        angle = torch.tensor(2 * math.pi * eighth / TURNS)
        turn = torch.tensor([[torch.cos(angle), -torch.sin(angle)], [torch.sin(angle), torch.cos(angle)]])
        yield lay_images(images, _placed(turn, len(images)), network)


@torch.no_grad()
def features(encoder: ImageEncoder, images: Images, network: ImageNetworkConfig) -> Float32Array:
    """Pooled stages and embedding (n, 2 d) of a frozen encoder: mean over eight turns, and scatter.

    An elongated galaxy looks different from turn to turn, a round one does not: the scatter knows the shape.
    """
    found = []
    for start in range(0, len(images), CHUNK):
        some = images[slice(start, start + CHUNK)]
        seen = [encoder(view.pixels, view.noise) for view in turned(some, network)]
        every = torch.stack([torch.cat([one.features, one.raw], 1) for one in seen])
        found.append(torch.cat([every.mean(0), every.std(0)], 1))
    return np.asarray(torch.cat(found).numpy(), np.float32)


def gentle_views(network: ImageNetworkConfig, bands: tuple[str, ...]) -> ImageViews:
    """Make the views under which labels hold: any angle, small shifts, sizes within a tenth, no dust or blur."""
    config = ImageViewConfig(zoom=(0.9, 1.1), blur_probability=0.0, reddening_probability=0.0)
    return ImageViews(config, network, bands)
