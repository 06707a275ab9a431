"""Language autoencoding, what T-TA is trained by (arXiv 2004.08097): every token is predicted from all the others.

The network hides each token from itself, so nothing is masked and nothing drawn: a text is its own label, and every
token teaches, not 15 % of them. Two departures from the official code (https://github.com/joongbo/tta):

* Special tokens ([SOS], [EOS], [UNK] ...) are given, not predicted: the first two say nothing but where a text ends.
* Padding is never predicted. The original's loss is a mean over all positions, with padding counted as 0: it is the
  smaller the more padding a batch has. Here it is the mean over the predicted tokens.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from kexue_hf.trainers.labelled_positions import IGNORED
from kexue_hf.trainers.padded_rows import padded


class LanguageAutoencodingCollator:
    """Pads a batch; its labels are its tokens.

    Args:
        tokenizer: any tokenizer with a padding token; only numbers are kept of it.
        pad_to_multiple_of: rounds the padded length up.

    Raises:
        ValueError: no padding token.

    Example:
        >>> collator = LanguageAutoencodingCollator(tokenizer)  # [PAD] 0, [EOS] 1, [SOS] 3
        >>> collator([{"input_ids": [3, 9, 1]}, {"input_ids": [3, 7, 8, 1]}])["labels"]
        tensor([[-100,    9, -100, -100],
                [-100,    7,    8, -100]])
    """

    def __init__(self, tokenizer: Any, pad_to_multiple_of: int = 1) -> None:
        if tokenizer.pad_token_id is None:
            raise ValueError("language autoencoding needs a tokenizer with a padding token, this one has none")
        self.pad_token_id: int = tokenizer.pad_token_id
        self.pad_to_multiple_of = pad_to_multiple_of
        self.is_special = np.zeros(len(tokenizer), dtype=bool)
        self.is_special[[i for i in tokenizer.all_special_ids if i < len(tokenizer)]] = True

    def __call__(self, features: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """Texts to `input_ids`, `attention_mask`, `labels` (and `token_type_ids`), int64 [batch, length].

        Each text is a dict of `input_ids` and perhaps `token_type_ids` and `attention_mask`, 0 where it is padded
        already; anything else in it makes no difference.
        """
        length = max(len(feature["input_ids"]) for feature in features)
        length = -(-length // self.pad_to_multiple_of) * self.pad_to_multiple_of
        ids = padded([feature["input_ids"] for feature in features], length, self.pad_token_id)
        attended = [feature.get("attention_mask", [1] * len(feature["input_ids"])) for feature in features]
        attention = padded(attended, length, 0)
        labels = np.where((attention != 0) & ~self.is_special[ids], ids, IGNORED)
        batch = {"input_ids": ids, "attention_mask": attention, "labels": labels}
        if "token_type_ids" in features[0]:
            batch["token_type_ids"] = padded([feature["token_type_ids"] for feature in features], length, 0)
        return {name: torch.from_numpy(array) for name, array in batch.items()}


__all__ = ["LanguageAutoencodingCollator"]
