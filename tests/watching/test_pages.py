"""Every rule of the watch has a page for the reader, and every page is made alike."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from sounding.watching.rules import RULES

PAGES = Path(__file__).parents[2] / "docs" / "rules"
HEADINGS = ["What it looks like", "Why it happens", "See it by hand", "What mends it", "Sources"]
CONTRACT = """
    no_update zero_grad_missing eval_mode_forgotten train_mode_not_restored wrong_output_loss_pair shape_broadcast
    missing_nonlinearity inputs_not_normalised targets_not_normalised bad_init vanishing_gradient exploding_gradient
    dead_relu saturation lr_too_high lr_too_low underfit too_few_steps overfit labels_shuffled corrupt_labels
    label_noise bad_data leak class_imbalance order_bug batch_mixing over_regularised gan_collapse vae_collapse numerics
    scheduler_per_step
""".split()


@pytest.mark.parametrize("name", sorted({*CONTRACT, *(rule.name for rule in RULES)}))
def test_every_rule_has_a_page(name):
    text = (PAGES / f"{name}.md").read_text(encoding="utf-8")
    assert text.splitlines()[0] == f"# {name}"
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == HEADINGS
    by_hand = text.partition("## See it by hand\n")[2].partition("\n## ")[0]
    assert by_hand.count("    >>> ") >= 3
    sources = text.partition("## Sources\n")[2]
    assert re.search(r"^- .*\w", sources, re.MULTILINE)


def test_every_page_is_linked_and_is_about_a_rule():
    pages = {path.stem for path in PAGES.glob("*.md")}
    assert pages == {*CONTRACT, *(rule.name for rule in RULES)}
    linked = re.findall(r"\(rules/(\w+)\.md\)", (PAGES.parent / "watch.md").read_text(encoding="utf-8"))
    assert sorted(linked) == sorted(pages)
