"""Plain convolutional networks, for pictures and for text.

Sources: LeCun et al. 1998; Simonyan and Zisserman 2015, arXiv:1409.1556 (stages of 3x3 convolutions that double their
channels as they halve the picture); Lin et al. 2014, arXiv:1312.4400 (the average over the picture before the head).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sounding.networks._padding import words_of
from sounding.networks.activations import build_activation
from sounding.networks.initialization import initialize
from sounding.networks.normalization import CENTRED, build_normalization


class ConvolutionalNetwork(nn.Module):
    """Stages of 3x3 convolutions, with the picture halved between them, and the average over what is left.

    A picture with more than 64 pixels on its shorter side enters through a wide convolution with a stride that
    brings it below that, or the first stage would cost more than all others together.

    Args:
        in_channels: 1 for grey pictures, 3 for coloured ones.
        out_features: outputs for a picture, before any softmax.
        picture_size: height and width of the pictures, in pixels.
        hidden_sizes: channels of each stage.
        depth: convolutions in each stage.
        activation: a name from `ACTIVATIONS`.
        normalization: a name from `NORMALIZATIONS`.
        dropout: probability in [0, 1) that a feature is blanked before the head while training.
        initialization: a name from `INITIALIZATIONS`.

    >>> network = ConvolutionalNetwork(1, 10, picture_size=(28, 28))
    >>> network(torch.zeros(2, 1, 28, 28)).shape
    torch.Size([2, 10])
    """

    def __init__(
        self,
        in_channels: int,
        out_features: int,
        *,
        picture_size: tuple[int, int],
        hidden_sizes: Sequence[int] = (32, 64, 128),
        depth: int = 2,
        activation: str = "relu",
        normalization: str = "batch",
        dropout: float = 0.1,
        initialization: str = "he",
    ) -> None:
        super().__init__()
        stride = 1
        while min(picture_size) / stride > 64:
            stride *= 2
        layers: list[nn.Module] = []
        before = in_channels
        for stage, channels in enumerate(hidden_sizes):
            if stage:
                layers.append(nn.MaxPool2d(2, ceil_mode=True))  # takes a single pixel too
            for _ in range(depth):
                size = 3 if layers else 2 * stride + 1
                step = 1 if layers else stride
                layers += [
                    nn.Conv2d(before, channels, size, step, padding=size // 2, bias=normalization not in CENTRED),
                    build_normalization(normalization, channels, 2),
                    build_activation(activation),
                ]
                before = channels
        self.layers = nn.Sequential(*layers)
        self.dropout = nn.Dropout(dropout)
        self.num_features = before
        self.head = nn.Linear(before, out_features)
        initialize(self, initialization)

    def forward_maps(self, pictures: Tensor) -> Tensor:
        """(B, in_channels, H, W) to (B, num_features, h, w): the features of each place."""
        maps: Tensor = self.layers(pictures)
        return maps

    def forward_features(self, pictures: Tensor) -> Tensor:
        """(B, in_channels, H, W) to (B, num_features)."""
        features: Tensor = self.dropout(self.forward_maps(pictures).mean((2, 3)))
        return features

    def forward(self, pictures: Tensor) -> Tensor:
        """(B, in_channels, H, W) float to logits (B, out_features)."""
        logits: Tensor = self.head(self.forward_features(pictures))
        return logits


class TextConvolution(nn.Module):
    """Looks for phrases of a few words anywhere in a text, and keeps how strongly each was found.

    Padding never changes the result: it sounds like the silence that is after every text.

    Source: Kim 2014, arXiv:1408.5882 (there windows of 3, 4 and 5 words, 100 filters each, dropout of one half).

    Args:
        vocabulary_size: how many codes there are, with that of padding.
        out_features: outputs for a text, before any softmax.
        embedding_size: numbers that stand for a word.
        windows: lengths of the phrases, in words.
        hidden_size: filters for each length.
        activation: a name from `ACTIVATIONS`.
        dropout: probability in [0, 1) that an entry of a word's embedding, or a feature before the head, is blanked
            while training.
        initialization: a name from `INITIALIZATIONS`.

    >>> network = TextConvolution(1000, 2)
    >>> network(torch.tensor([[5, 7, 2, 0], [9, 0, 0, 0]])).shape
    torch.Size([2, 2])
    """

    def __init__(
        self,
        vocabulary_size: int,
        out_features: int,
        *,
        embedding_size: int = 128,
        windows: Sequence[int] = (3, 4, 5),
        hidden_size: int = 100,
        activation: str = "relu",
        dropout: float = 0.5,
        initialization: str = "default",
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary_size, embedding_size, padding_idx=0)
        self.widest = max(windows)
        self.convolutions = nn.ModuleList(nn.Conv1d(embedding_size, hidden_size, window) for window in windows)
        self.activation = build_activation(activation)
        self.dropout = nn.Dropout(dropout)
        self.num_features = hidden_size * len(windows)
        self.head = nn.Linear(self.num_features, out_features)
        initialize(self, initialization)

    def forward_features(self, tokens: Tensor) -> Tensor:
        """(B, L) codes to (B, num_features)."""
        words = self.dropout(self.embedding(words_of(tokens))).mT  # (B, embedding_size, L)
        # a phrase of silence alone is always there, so that more of them, in padding, change nothing
        longer = nn.functional.pad(words, (0, self.widest))
        found = [self.activation(convolution(longer)).amax(2) for convolution in self.convolutions]
        features: Tensor = self.dropout(torch.cat(found, 1))
        return features

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, L) codes in [0, vocabulary_size), 0 for padding at the end, to logits (B, out_features)."""
        logits: Tensor = self.head(self.forward_features(tokens))
        return logits


class Standardize(nn.Module):
    """Pictures as they are stored to pictures as networks like them: mean 0 and deviation 1 in each channel.

    uint8 pictures in [0, 255] are brought to [0, 1] first; float pictures are taken to be in [0, 1] already.

    Args:
        mean: of each channel, over the training pictures in [0, 1].
        deviation: of each channel; that of a constant channel counts as 1.

    >>> standardize = Standardize([0.5], [0.25])
    >>> standardize(torch.tensor([[[[0, 255]]]], dtype=torch.uint8))
    tensor([[[[-2.,  2.]]]])
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, mean: Sequence[float], deviation: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1))
        self.register_buffer("deviation", torch.tensor([d or 1.0 for d in deviation]).view(-1, 1, 1))

    def forward(self, pictures: Tensor) -> Tensor:
        """(B, C, H, W) uint8 or float to (B, C, H, W) float."""
        if not pictures.is_floating_point():
            pictures = pictures / 255
        return (pictures - self.mean) / self.deviation
