"""The watch in the training loops of others, each beside the real library: skipped by name where it is absent."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch
from programs import blobs
from torch import nn
from torch.nn import functional as F

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


ROWS = blobs(320)
TRAIN, HELD_OUT = ([part[:256] for part in ROWS], [part[256:] for part in ROWS])


def warned(callback) -> list[str]:
    return [finding.rule for finding in callback.findings if finding.severity != "info"]


# Lightning.


@pytest.fixture(scope="module")
def lightning():
    module = pytest.importorskip("lightning.pytorch", reason="Lightning is not installed", exc_type=ImportError)
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    return module


def lightning_fit(pl, network: nn.Module, *, zero_grad: bool = True, broken: bool = False, validation: bool = False):
    from sounding.watching.callbacks.lightning import WatchCallback

    class Module(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def training_step(self, batch, at):
            if broken and self.global_step == 5:
                raise ValueError("broken")
            x, y = batch
            return F.cross_entropy(self.network(x), y)

        def validation_step(self, batch, at):
            x, y = batch
            self.log("val_loss", F.cross_entropy(self.network(x), y))

        def optimizer_zero_grad(self, epoch, at, optimizer):
            if zero_grad:
                optimizer.zero_grad()

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.05)

    callback = WatchCallback(say=None)
    loader, held_out = (
        torch.utils.data.DataLoader(torch.utils.data.TensorDataset(*rows), batch_size=32) for rows in (TRAIN, HELD_OUT)
    )
    trainer = pl.Trainer(
        max_epochs=3, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, callbacks=[callback],
    )  # fmt: skip
    trainer.fit(Module(), loader, held_out if validation else None)
    return callback


def perceptron() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))


quiet_lightning = pytest.mark.filterwarnings(
    "ignore:The 'train_dataloader' does not have many workers",
    "ignore:The 'val_dataloader' does not have many workers",
    "ignore:The number of training batches",
    "ignore:.*does not have a validation_step or val_dataloader",
    "ignore:You defined a `validation_step` but have no `val_dataloader`",
    "ignore:.*isinstance.treespec, LeafSpec.",
)


@quiet_lightning
def test_lightning_without_zero_grad_is_found(lightning):
    assert warned(lightning_fit(lightning, perceptron(), zero_grad=False)) == ["zero_grad_missing"]


@quiet_lightning
def test_lightning_that_is_healthy_hears_nothing_and_its_validation_is_seen(lightning):
    network = perceptron()
    callback = lightning_fit(lightning, network, validation=True)
    assert warned(callback) == []
    (seen,) = callback._discovery.watches[0].players.values()
    assert seen.model is network
    assert seen.done == 23  # of 24
    assert [one.told is not None for one in seen.validations] == [True] * 3
    assert not network._forward_hooks


@quiet_lightning
def test_lightning_that_breaks_leaves_nothing_behind(lightning):
    network, backward = perceptron(), torch.autograd.backward
    with pytest.raises(ValueError, match="broken"):
        lightning_fit(lightning, network, broken=True)
    assert torch.autograd.backward is backward
    assert not network._forward_hooks


# Hugging Face.


@pytest.fixture(scope="module")
def transformers():
    pytest.importorskip("accelerate", reason="accelerate is not installed", exc_type=ImportError)
    module = pytest.importorskip("transformers", reason="transformers is not installed", exc_type=ImportError)
    module.logging.set_verbosity_error()
    return module


class Reader(nn.Module):
    """Computes its own loss, as models of transformers do."""

    def __init__(self, detached: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body, self.head, self.detached = nn.Linear(8, 16), nn.Linear(16, 3), detached

    def forward(self, x, labels=None):
        hidden = self.body(x)
        logits = self.head(F.relu(hidden.detach() if self.detached else hidden))
        return {"loss": F.cross_entropy(logits, labels), "logits": logits}


def transformers_fit(module, model: nn.Module, folder):
    from sounding.watching.callbacks.transformers import WatchCallback

    train, held_out = ([{"x": x, "labels": y} for x, y in zip(*rows, strict=True)] for rows in (TRAIN, HELD_OUT))
    callback = WatchCallback(say=None)
    arguments = module.TrainingArguments(
        output_dir=str(folder), num_train_epochs=3, per_device_train_batch_size=32, use_cpu=True, report_to=[],
        save_strategy="no", disable_tqdm=True, learning_rate=0.01, eval_strategy="epoch", logging_strategy="no",
        remove_unused_columns=False, dataloader_pin_memory=False,
    )  # fmt: skip
    module.Trainer(
        model=model, args=arguments, train_dataset=train, eval_dataset=held_out, callbacks=[callback]
    ).train()
    return callback


def test_transformers_with_a_layer_cut_off_is_found(transformers, tmp_path):
    callback = transformers_fit(transformers, Reader(detached=True), tmp_path)
    assert warned(callback)[:1] == ["no_update"]
    assert callback.findings[0].evidence["parameters"] == ["body.weight", "body.bias"]


def test_transformers_that_is_healthy_hears_nothing_and_its_validation_is_seen(transformers, tmp_path):
    model = Reader()
    callback = transformers_fit(transformers, model, tmp_path)
    assert warned(callback) == []
    (seen,) = callback._watch.players.values()
    assert seen.done == 24
    assert [one.told is not None for one in seen.validations] == [True] * 3
    assert not model._forward_hooks


# Keras.


@pytest.fixture(scope="module")
def keras():
    module = pytest.importorskip("keras", reason="Keras is not installed", exc_type=ImportError)
    if module.backend.backend() != "torch":
        pytest.skip("Keras is on another backend")
    return module


def keras_fit(keras, *, zero_grad: bool = True):
    from sounding.watching.callbacks.keras import WatchCallback

    class Model(keras.Sequential):
        def train_step(self, data):
            x, y = data
            if zero_grad:
                self.zero_grad()
            loss = self.compute_loss(x=x, y=y, y_pred=self(x, training=True))
            loss.backward()
            weights = list(self.trainable_weights)
            with torch.no_grad():
                self.optimizer.apply([weight.value.grad for weight in weights], weights)
            return {"loss": loss}

    keras.utils.set_random_seed(0)
    model = Model([keras.layers.Input((8,)), keras.layers.Dense(16, activation="relu"), keras.layers.Dense(3)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer=keras.optimizers.SGD(0.05), loss=loss)
    (x, y), held_out = ([np.asarray(part) for part in rows] for rows in (TRAIN, HELD_OUT))
    callback = WatchCallback(say=None)
    model.fit(x, y, batch_size=32, epochs=3, verbose=0, validation_data=tuple(held_out), callbacks=[callback])
    return model, callback


def test_keras_without_zero_grad_is_found(keras):
    _, callback = keras_fit(keras, zero_grad=False)
    assert warned(callback) == ["zero_grad_missing"]


def test_keras_that_is_healthy_hears_nothing_and_is_left_as_it_was(keras):
    model, callback = keras_fit(keras)
    assert warned(callback) == []
    (seen,) = callback._watch.players.values()
    assert seen.done == 24
    assert seen.losses[-1] < seen.losses[0]
    assert all(step.updates for step in seen.steps)
    assert [one.told is not None for one in seen.validations] == [True] * 3
    assert "apply" not in vars(model.optimizer)
    assert not model._forward_hooks
