"""Networks: plain `torch.nn.Module`s, one family per file, which know nothing else of Sounding.

Every network has `num_features`, `forward_features(...)` and `head`, and `forward` is the head of the features. Each
file can be lifted out, with the helpers for activations and initialization where it imports them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from inspect import Parameter, signature
from typing import Any, Literal

from torch import nn

from sounding.networks.activations import ACTIVATIONS, build_activation
from sounding.networks.adversarial import AdversarialNetwork, picture_adversarial, tabular_adversarial
from sounding.networks.autoencoder import (
    Autoencoder,
    Reconstruction,
    VariationalAutoencoder,
    convolutional_autoencoder,
    convolutional_variational_autoencoder,
    picture_autoencoder,
    picture_variational_autoencoder,
    reconstruction_errors,
    table_autoencoder,
    table_variational_autoencoder,
)
from sounding.networks.bag import BagOfPhrases
from sounding.networks.composite import CompositeNetwork
from sounding.networks.convolutional import ConvolutionalNetwork, Standardize, TextConvolution
from sounding.networks.denoiser import MeanOverStrengths, TableDenoiser
from sounding.networks.detector import Detections, Detector
from sounding.networks.encoder_decoder import EncoderDecoder, encoder_decoder
from sounding.networks.feedforward import FeedForward, PictureFeedForward
from sounding.networks.forecasting import (
    Forecaster,
    linear_forecaster,
    lstm_forecaster,
    nbeats_forecaster,
    patch_transformer_forecaster,
    tcn_forecaster,
)
from sounding.networks.histories import HistoryNetwork, HistoryRecurrent, HistoryTransformer
from sounding.networks.initialization import INITIALIZATIONS, initialize, initialize_from_data
from sounding.networks.language_recurrent import LanguageRecurrent
from sounding.networks.language_transformer import LanguageTransformer
from sounding.networks.normalization import NORMALIZATIONS, build_normalization
from sounding.networks.one_class import OneClass, SquaredDistances, centre_on, picture_one_class, table_one_class
from sounding.networks.pretrained import (
    PretrainedDetector,
    PretrainedPictures,
    PretrainedText,
    pretrained_detector,
    pretrained_pictures,
    pretrained_text,
)
from sounding.networks.pretraining import LESSONS, Lesson, MaskedColumns, MaskedPatches, TwoViews, nt_xent
from sounding.networks.recommenders import MatrixFactorization, NeuralFactorization, TwoTowers
from sounding.networks.recurrent import RecurrentEncoder, RecurrentNetwork
from sounding.networks.residual import ResNet, resnet18, resnet34, resnet50
from sounding.networks.seq2seq_recurrent import Seq2SeqRecurrent
from sounding.networks.seq2seq_transformer import Seq2SeqTransformer
from sounding.networks.series_autoencoder import (
    SeriesDecoder,
    SeriesEncoder,
    series_autoencoder,
    series_variational_autoencoder,
)
from sounding.networks.series_convolution import SeriesConvolution
from sounding.networks.series_readers import SeriesRecurrent, SeriesTransformer
from sounding.networks.sound import Frames, SoundConvolution, SoundFrames, SoundRecurrent
from sounding.networks.spectrogram import LogMel
from sounding.networks.stochastic_depth import StochasticDepth
from sounding.networks.style import StyleNetwork
from sounding.networks.tabular import TabularEnsemble, TabularFeedForward, quantile_bins
from sounding.networks.text_ensemble import TextEnsemble
from sounding.networks.transformer import TransformerEncoder, TransformerNetwork
from sounding.networks.unet import UNet

__all__ = [
    "ACTIVATIONS",
    "INITIALIZATIONS",
    "LESSONS",
    "NETWORKS",
    "NORMALIZATIONS",
    "PRETRAINED",
    "AdversarialNetwork",
    "Autoencoder",
    "BagOfPhrases",
    "CompositeNetwork",
    "ConvolutionalNetwork",
    "Detections",
    "Detector",
    "EncoderDecoder",
    "Family",
    "FeedForward",
    "Forecaster",
    "Frames",
    "HistoryNetwork",
    "HistoryRecurrent",
    "HistoryTransformer",
    "LanguageRecurrent",
    "LanguageTransformer",
    "Lesson",
    "LogMel",
    "MaskedColumns",
    "MaskedPatches",
    "MatrixFactorization",
    "MeanOverStrengths",
    "NeuralFactorization",
    "OneClass",
    "PictureFeedForward",
    "PretrainedDetector",
    "PretrainedPictures",
    "PretrainedText",
    "Reconstruction",
    "RecurrentEncoder",
    "RecurrentNetwork",
    "ResNet",
    "Seq2SeqRecurrent",
    "Seq2SeqTransformer",
    "SeriesConvolution",
    "SeriesDecoder",
    "SeriesEncoder",
    "SeriesRecurrent",
    "SeriesTransformer",
    "SoundConvolution",
    "SoundFrames",
    "SoundRecurrent",
    "SquaredDistances",
    "Standardize",
    "StochasticDepth",
    "StyleNetwork",
    "TableDenoiser",
    "TabularEnsemble",
    "TabularFeedForward",
    "TextConvolution",
    "TextEnsemble",
    "TransformerEncoder",
    "TransformerNetwork",
    "TwoTowers",
    "TwoViews",
    "UNet",
    "VariationalAutoencoder",
    "build_activation",
    "build_normalization",
    "centre_on",
    "convolutional_autoencoder",
    "convolutional_variational_autoencoder",
    "encoder_decoder",
    "initialize",
    "initialize_from_data",
    "linear_forecaster",
    "lstm_forecaster",
    "nbeats_forecaster",
    "nt_xent",
    "patch_transformer_forecaster",
    "picture_adversarial",
    "picture_autoencoder",
    "picture_one_class",
    "picture_variational_autoencoder",
    "pretrained_detector",
    "pretrained_pictures",
    "pretrained_text",
    "quantile_bins",
    "reconstruction_errors",
    "resnet18",
    "resnet34",
    "resnet50",
    "series_autoencoder",
    "series_variational_autoencoder",
    "table_autoencoder",
    "table_one_class",
    "table_variational_autoencoder",
    "tabular_adversarial",
    "tcn_forecaster",
]


FROM_DATA = ("bins", "picture_size", "piece_buckets", "length", "varying", "targets", "horizon", "rate")
"""Keywords that the data decide."""


@dataclass(frozen=True, slots=True)
class Family:
    """A network by name: what builds it, and the form of its input.

    The form fixes how it is built and called:

        table     build(number_features, cardinalities, out_features, bins=None, ...)
                  network(numbers (B, number_features) float, categories (B, len(cardinalities)) codes)
        pictures  build(in_channels, out_features, picture_size=(H, W), ...)
                  network(pictures (B, in_channels, H, W) float)
        series    build(in_channels, out_features, length=L, ...)
                  network(series (B, in_channels, L) float); one that is built with `varying=True` also reads series of
                  several lengths, (B, in_channels + 1, L or another): the last channel is 1 where there are points, and
                  0 in the padding at the end
        sound     build(out_features, rate=R, ...)
                  network(samples (B, L) int16, R a second, -32768 for padding at the end)
        tokens    build(vocabulary_size, out_features, ...)
                  network(tokens (B, L) codes, 0 for padding at the end, 1 for unknown words)
                  or tokens (B, L, 1 + pieces): of each word its code, then those of its pieces; only a network that
                  is built with `piece_buckets` reads the pieces
        interactions  build(users, items, ...), each `recommenders.Columns`
                  network(numbers and categories (B, ...) of users, then of items); users and items are also encoded
                  apart, and then matched: see `MatrixFactorization`

    What it answers with fixes what comes out:

        logits          (B, out_features), or (B, members, out_features) where the network has `members`
        reconstruction  a `Reconstruction` of the inputs from a code of `out_features` numbers
        distances       (B, out_features), squared, from what is usual; their mean is what is trained for
        strangeness     (B, features): how unusual each number and category of a table is; its mean, too
        frames          `Frames`: logits (B, frames, out_features), and how many frames each row has
        forecasts       (B, targets, horizon, out_features): of each channel that is forecast each step ahead
        next_token      (B, L, out_features) logits of the token behind each, which no later token changes; `step`
                        reads on, token by token
        scores          (B, members): how much a user likes an item
        next_items      the same of users who met nothing yet; they are also encoded by what they met, in order of
                        time: see `HistoryNetwork`
        next_codes      (B, T, out_features): what comes next at each place of a second text; it is called with the
                        codes of the first and those that were written before each place, and can write by itself: see
                        `decoding.Writer`
        detections      `Detections`: at every place of its maps the logits of `out_features` classes, and a box
        maps            (B, out_features, H, W) logits: a class for each pixel
        painting        (B, in_channels, H, W): pictures in the space of the inputs
        samples         an `AdversarialNetwork` that makes inputs up, of `out_features` classes or of none; it is called
                        with noise and classes
    """

    build: Callable[..., nn.Module]
    takes: Literal["table", "pictures", "tokens", "series", "sound", "interactions"]
    answers: Literal[
        "logits",
        "reconstruction",
        "distances",
        "strangeness",
        "forecasts",
        "samples",
        "frames",
        "next_token",
        "scores",
        "next_items",
        "next_codes",
        "detections",
        "maps",
        "painting",
    ] = "logits"
    encoder: str = ""
    """The family of the network that is its `encoder`, and can have been trained before."""

    @property
    def options(self) -> dict[str, Any]:
        """What a user can set, and its default.

        >>> NETWORKS["bag"].options["phrases"]
        2
        """
        keywords = [p for p in signature(self.build).parameters.values() if p.kind is Parameter.KEYWORD_ONLY]
        return {p.name: p.default for p in keywords if p.name not in FROM_DATA}


NETWORKS: dict[str, Family] = {
    "feedforward": Family(TabularFeedForward, "table"),
    "ensemble": Family(TabularEnsemble, "table"),
    "tabular_adversarial": Family(tabular_adversarial, "table", "samples"),
    "picture_adversarial": Family(picture_adversarial, "pictures", "samples"),
    "picture_feedforward": Family(PictureFeedForward, "pictures"),
    "convolutional": Family(ConvolutionalNetwork, "pictures"),
    "resnet": Family(ResNet, "pictures"),
    "resnet18": Family(resnet18, "pictures"),
    "resnet34": Family(resnet34, "pictures"),
    "resnet50": Family(resnet50, "pictures"),
    "detector": Family(Detector, "pictures", "detections"),
    "unet": Family(UNet, "pictures", "maps"),
    "encoder_decoder": Family(encoder_decoder, "pictures", "maps", encoder="resnet"),
    "series_convolution": Family(SeriesConvolution, "series"),
    "series_recurrent": Family(SeriesRecurrent, "series"),
    "series_transformer": Family(SeriesTransformer, "series"),
    "sound_convolution": Family(SoundConvolution, "sound"),
    "sound_recurrent": Family(SoundRecurrent, "sound"),
    "sound_frames": Family(SoundFrames, "sound", "frames"),
    "bag": Family(BagOfPhrases, "tokens"),
    "text_ensemble": Family(TextEnsemble, "tokens"),
    "text_convolution": Family(TextConvolution, "tokens"),
    "recurrent": Family(RecurrentNetwork, "tokens"),
    "transformer": Family(TransformerNetwork, "tokens"),
    "language_transformer": Family(LanguageTransformer, "tokens", "next_token"),
    "language_recurrent": Family(LanguageRecurrent, "tokens", "next_token"),
    "seq2seq_transformer": Family(Seq2SeqTransformer, "tokens", "next_codes"),
    "seq2seq_recurrent": Family(Seq2SeqRecurrent, "tokens", "next_codes"),
    "autoencoder": Family(table_autoencoder, "table", "reconstruction"),
    "variational_autoencoder": Family(table_variational_autoencoder, "table", "reconstruction"),
    "picture_autoencoder": Family(picture_autoencoder, "pictures", "reconstruction"),
    "picture_variational_autoencoder": Family(picture_variational_autoencoder, "pictures", "reconstruction"),
    "convolutional_autoencoder": Family(convolutional_autoencoder, "pictures", "reconstruction"),
    "convolutional_variational_autoencoder": Family(
        convolutional_variational_autoencoder, "pictures", "reconstruction"
    ),
    "series_autoencoder": Family(series_autoencoder, "series", "reconstruction"),
    "series_variational_autoencoder": Family(series_variational_autoencoder, "series", "reconstruction"),
    "linear_forecaster": Family(linear_forecaster, "series", "forecasts"),
    "lstm_forecaster": Family(lstm_forecaster, "series", "forecasts"),
    "tcn_forecaster": Family(tcn_forecaster, "series", "forecasts"),
    "nbeats_forecaster": Family(nbeats_forecaster, "series", "forecasts"),
    "patch_transformer_forecaster": Family(patch_transformer_forecaster, "series", "forecasts"),
    "matrix_factorization": Family(MatrixFactorization, "interactions", "scores"),
    "two_towers": Family(TwoTowers, "interactions", "scores"),
    "neural_factorization": Family(NeuralFactorization, "interactions", "scores"),
    "history_transformer": Family(HistoryTransformer, "interactions", "next_items"),
    "history_recurrent": Family(HistoryRecurrent, "interactions", "next_items"),
    "style_network": Family(StyleNetwork, "pictures", "painting"),
    "denoiser": Family(TableDenoiser, "table", "strangeness"),
    "one_class": Family(table_one_class, "table", "distances"),
    "picture_one_class": Family(picture_one_class, "pictures", "distances"),
}

PRETRAINED: dict[str, Family] = {
    "tokens": Family(pretrained_text, "tokens"),
    "pictures": Family(pretrained_pictures, "pictures"),
    "detector": Family(pretrained_detector, "pictures", "detections"),
}
"""Encoders and detectors that were trained elsewhere, by what is made of them; their configuration is an option."""
