"""Encoders of a few thousand parameters, in folders as the library transformers saves them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import (
    BertConfig,
    BertModel,
    ViTConfig,
    ViTForImageClassification,
    ViTModel,
    YolosConfig,
    YolosForObjectDetection,
)

GOOD, BAD = ["good", "great", "bright"], ["bad", "awful", "dull"]
PLAIN = "the a film is was and not of it".split()
MARKS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = [*MARKS, *PLAIN, *GOOD, *BAD, "##s"]


def save_bert(folder: Path, **sizes: Any) -> Path:
    """A text encoder and its tokenizer."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32, **sizes}
    BertModel(BertConfig(vocab_size=len(WORDS), max_position_embeddings=24, **sizes)).save_pretrained(folder)
    save_tokenizer(folder)
    return folder


def save_tokenizer(folder: Path) -> None:
    tokenizer = Tokenizer(models.WordPiece({word: at for at, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.enable_padding(length=20)  # as some files have it
    folder.mkdir(exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))


PREPROCESSOR = '{"image_mean": [0.1, 0.2, 0.3], "image_std": [0.5, 0.6, 0.7], "size": {"height": 12, "width": 12}}'


def save_vit(folder: Path, *, classifier: bool = False) -> Path:
    """A picture encoder, as it is or as a part of a classifier, which has no pooler."""
    torch.manual_seed(0)
    config = ViTConfig(
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        image_size=12,
        patch_size=4,
    )
    (ViTForImageClassification if classifier else ViTModel)(config).save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(PREPROCESSOR)
    return folder


def reviews(rows: int = 120) -> pd.DataFrame:
    """Texts of a few words, of which one says what is felt."""
    draws = np.random.default_rng(0)
    texts, felt = [], []
    for row in range(rows):
        words = list(draws.choice(PLAIN, draws.integers(2, 9)))
        words.insert(int(draws.integers(len(words))), str(draws.choice(GOOD if row % 2 else BAD)))
        texts.append(" ".join(words))
        felt.append("good" if row % 2 else "bad")
    return pd.DataFrame({"text": texts, "felt": felt})


def save_yolos(folder: Path) -> Path:
    """A detector whose queries are tokens beside those of the picture."""
    torch.manual_seed(0)
    config = YolosConfig(
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        image_size=[32, 32],
        patch_size=8,
        num_detection_tokens=12,
        num_labels=5,
    )
    YolosForObjectDetection(config).save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(
        '{"image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.2, 0.3], "size": {"shortest_edge": 32}}'
    )
    return folder
