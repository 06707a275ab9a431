"""Word masking together with BERT's next-sentence task, so that [CLS] learns to stand for its text.

Masked words alone never ask anything of [CLS]: what a classifier reads there is then no summary, and a small model
pre-trained so can fall behind random weights. Here each text is cut in two, [CLS] A [SEP] B [SEP]; half of a batch's
texts exchange their second parts, and [CLS] tells which. (BERT draws its pairs when the data is made; exchanging them
in the batch gives new ones in every epoch, for nothing. Which texts exchange depends on the batch: unlike the masks,
it is not the same where other numbers of processes or accumulated steps compose other batches.)
"""

import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from kexue_hf.trainers.word_masking import WordMaskingCollator


class NextSegmentCollator(WordMaskingCollator):
    """[`WordMaskingCollator`] for models with both pre-training heads; arguments as there.

    Takes texts of [CLS] ... [SEP] with `word_ids`, one id shorter than the model's longest input, and adds
    `token_type_ids` and `next_sentence_label` [batch]: 0 where B follows A, 1 where it is another text's.
    """

    def __init__(self, tokenizer: Any, *arguments: Any, **options: Any) -> None:
        super().__init__(tokenizer, *arguments, **options)
        self.cls_token_id: int = tokenizer.cls_token_id
        self.sep_token_id: int = tokenizer.sep_token_id

    def __call__(self, features: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
        firsts, seconds = [], []
        for feature in features:
            ids, words = list(feature["input_ids"][1:-1]), list(feature["word_ids"][1:-1])
            middle = len(ids) // 2
            firsts.append((ids[:middle], words[:middle]))
            seconds.append((ids[middle:], words[middle:]))
        checksum = zlib.crc32(np.concatenate([np.asarray(first[0], dtype=np.int64) for first in firsts]).tobytes())
        random = np.random.default_rng([self.seed, 1, checksum, int(features[0].get("epoch", 0))])
        moved = random.permutation(len(features))[: len(features) // 2]
        # One alone cannot exchange with itself.
        moved = moved if len(moved) > 1 else moved[:0]
        order = np.arange(len(features))
        order[moved] = np.roll(moved, 1)
        longest = max(len(feature["input_ids"]) for feature in features) + 1
        pairs: list[dict[str, Any]] = []
        for feature, (ids, words), second in zip(features, firsts, order, strict=True):
            other_ids, other_words = seconds[second]
            room = longest - 3 - len(ids)
            # Words are numbered within a row: those of the second part go on after the first's.
            start = 1 + max((w for w in words if w is not None), default=0)
            other_ids = other_ids[:room]
            other_words = [-1 if w is None or w < 0 else w + start for w in other_words[:room]]
            pairs.append(
                {
                    **{name: feature[name] for name in ("row", "epoch") if name in feature},
                    "input_ids": [self.cls_token_id, *ids, self.sep_token_id, *other_ids, self.sep_token_id],
                    "word_ids": [-1, *words, -1, *other_words, -1],
                    "token_type_ids": [0] * (len(ids) + 2) + [1] * (len(other_ids) + 1),
                }
            )
        batch = super().__call__(pairs)
        batch["next_sentence_label"] = torch.from_numpy((order != np.arange(len(features))).astype(np.int64))
        return batch


__all__ = ["NextSegmentCollator"]
