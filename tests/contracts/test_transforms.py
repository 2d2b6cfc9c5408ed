"""What holds for every transform: it works where the batch is, and leaves nothing elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from sounding.batches import Batch
from sounding.data.augmentation import Augmentation, Policy
from sounding.data.box_augmentation import BoxAugmentation
from sounding.data.mask_augmentation import MaskAugmentation
from sounding.data.sound_augmentation import SoundAugmentation
from sounding.data.text_augmentation import TextAugmentation

PICTURES, CLASSES = torch.zeros(6, 3, 16, 16, dtype=torch.uint8), torch.zeros(6, dtype=torch.int64)
BOXES = torch.tensor([0.0, 2.0, 2.0, 12.0, 12.0]).repeat(6, 2, 1)
MASKS, SOUND = torch.zeros(6, 16, 16, dtype=torch.uint8), torch.ones(6, 40, dtype=torch.int16)
TOKENS = torch.ones(6, 9, dtype=torch.int32)
MOVED = Policy(shift=0.1, flip=True, turn=10.0, colour=0.2, erase=0.9)
CASES: dict[str, tuple[Any, Tensor, Tensor]] = {
    "whole pixels": (Augmentation("default"), PICTURES, CLASSES),
    "everything that moves": (Augmentation(MOVED), PICTURES, CLASSES),
    "mixup": (Augmentation(mixup=0.3, number_of_classes=2), PICTURES, CLASSES),
    "cutmix": (Augmentation(cutmix=0.3, number_of_classes=2), PICTURES, CLASSES),
    "masks": (
        MaskAugmentation(crop=(12, 12), scale=1.5, turn=9.0, flip="all", elastic=2.0, colour=0.2),
        PICTURES,
        MASKS,
    ),
    "boxes": (
        BoxAugmentation(mosaic=0.5, scale=0.2, shift=0.1, flip=True, upside_down=True, colour=0.2, until=1),
        PICTURES,
        BOXES,
    ),
    "boxes in mosaics alone": (BoxAugmentation(mosaic=1.0, until=1), PICTURES, BOXES),
    "sound": (SoundAugmentation(), SOUND, CLASSES),
    "text": (TextAugmentation(0.3, [0]), TOKENS, CLASSES),
}


@pytest.fixture
def sized(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tensors without values, on the device `meta`, are 8 where a number of places is asked of them."""
    usual: Callable[[Tensor], int] = Tensor.__int__
    monkeypatch.setattr(Tensor, "__int__", lambda self: 8 if self.is_meta else usual(self))


@pytest.mark.parametrize("name", CASES)
@pytest.mark.usefixtures("sized")
def test_it_works_on_the_device_of_the_batch(name: str) -> None:
    transform, inputs, target = CASES[name]
    batch = Batch((inputs.to("meta"),), target.to("meta"), None, torch.arange(6))
    varied = transform(batch, 0, 0)
    assert varied.target is not None
    assert [tensor.device.type for tensor in (*varied.inputs, varied.target)] == ["meta", "meta"]
