"""The masking collator with masks that depend on the row alone, and pretrain_mlm with it as a script.

Masks depend on the batch, so that differently cut batches have different masks; where large and small batches are
compared, they must not.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn.functional import pad

from examples import pretrain_mlm
from kexue_hf.trainers.word_masking import WordMaskingCollator

FILL = {"input_ids": 0, "attention_mask": 0, "labels": -100}


class RowMaskingCollator(WordMaskingCollator):
    def __call__(self, features: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
        batches = [super(RowMaskingCollator, self).__call__([feature]) for feature in features]
        length = max(batch["input_ids"].shape[1] for batch in batches)
        return {
            name: torch.cat([pad(b[name], (0, length - b[name].shape[1]), value=value) for b in batches])
            for name, value in FILL.items()
        }


if __name__ == "__main__":
    pretrain_mlm.WordMaskingCollator = RowMaskingCollator
    pretrain_mlm.main()
