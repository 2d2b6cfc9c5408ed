"""The public surface is one list, and it is true."""

from __future__ import annotations

import ast
import importlib
import pkgutil
from pathlib import Path

from torch import nn

import sounding.networks as networks

FOLDER = Path(networks.__file__).parent


def modules() -> list[str]:
    return [module.name for module in pkgutil.iter_modules([str(FOLDER)])]


def test_all_names_are_there_and_none_is_missing() -> None:
    assert all(hasattr(networks, name) for name in networks.__all__)
    imported = {
        alias.name
        for node in ast.parse((FOLDER / "__init__.py").read_text()).body
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("sounding")
        for alias in node.names
    }
    assert imported <= set(networks.__all__)


def test_every_network_class_can_be_reached() -> None:
    """A class with a head and features, in any file, is in the public list."""
    for name in modules():
        module = importlib.import_module(f"sounding.networks.{name}")
        for key, value in vars(module).items():
            is_network = isinstance(value, type) and issubclass(value, nn.Module) and hasattr(value, "forward_features")
            if is_network and not key.startswith("_"):
                assert key in networks.__all__


def test_files_can_be_lifted_out() -> None:
    helpers = {"_choice", "_lengths", "_padding", "activations", "initialization", "normalization", "stochastic_depth"}
    for name in modules():
        imports = [
            node.module.removeprefix("sounding.networks.")
            for node in ast.walk(ast.parse((FOLDER / f"{name}.py").read_text()))
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("sounding")
        ]
        beside = {
            "tabular": {"feedforward"},
            "detector": {"residual"},
            "unet": {"residual"},
            "encoder_decoder": {"residual", "unet"},
            "autoencoder": {"feedforward", "tabular"},
            "series_autoencoder": {"autoencoder"},
            "series_readers": {"recurrent", "transformer"},
            "forecasting": {"transformer"},
            "recommenders": {"feedforward"},
            "histories": {"language_transformer", "recommenders", "transformer"},
            "one_class": {"tabular"},
            "language_recurrent": {"recurrent"},
            "language_transformer": {"transformer"},
            "seq2seq_recurrent": {"_tied", "decoding"},
            "seq2seq_transformer": {"_tied", "decoding", "transformer"},
            "denoiser": {"feedforward"},
            "pretrained": {"convolutional", "detector"},
            "sound": {"recurrent", "spectrogram"},
        }
        assert set(imports) <= helpers | beside.get(name, set()), name
