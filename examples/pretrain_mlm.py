"""Pre-train WoBERT, or any encoder with a masked-language-model head, on masked words.

    # a new small model, with a vocabulary built from the text
    python examples/pretrain_mlm.py --train_file text.jsonl --validation_file dev.jsonl --output_dir tiny \\
        --hidden_size 128 --num_hidden_layers 3 --vocab_size 8000 --max_steps 5000 --learning_rate 2e-3

    # further pre-training of a converted checkpoint on several devices; the same command resumes it
    accelerate launch examples/pretrain_mlm.py --model wobert --train_file "corpus/*.jsonl.gz" --output_dir more \\
        --max_length 512 --pack segments --train_sampling_strategy group_by_length --preprocessing_num_proc 16 \\
        --max_steps 100000 --bf16 --gradient_accumulation_steps 16 --save_steps 1000 --resume

The losses depend only on the seed and the rows per step. Accumulated batches, a resumed run and, without dropout,
several processes give the losses of one uninterrupted process (see kexue_hf/trainers/ordered_trainer.py).
docs/pretraining.md describes several devices, the options and the cost. All of transformers' TrainingArguments are
options.
"""

import inspect
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from transformers import (
    MODEL_FOR_PRETRAINING_MAPPING,
    AutoConfig,
    AutoModelForMaskedLM,
    AutoModelForPreTraining,
    AutoTokenizer,
    TrainerCallback,
    TrainingArguments,
)

from kexue_hf import WoBertConfig, WoBertForMaskedLM, WoBertForPreTraining, WoBertTokenizer
from kexue_hf.errors import InputError
from kexue_hf.hub.card_callback import ModelCardCallback
from kexue_hf.trainers.checked_options import check_range
from kexue_hf.trainers.collators import NextSegmentCollator, WordMaskingCollator
from kexue_hf.trainers.pretraining import Pretraining
from kexue_hf.trainers.pretraining_options import PretrainingOptions
from kexue_hf.trainers.training_script import leave_process_group, run_script
from kexue_hf.vocabulary.vocabulary_files import build_vocabulary


@dataclass
class Options(PretrainingOptions):
    mask_probability: float = field(default=0.15, metadata={"help": "fraction of the words to predict"})
    next_segment: bool = field(default=False, metadata={"help": "also train [CLS] with BERT's next-sentence task"})


class MaskedWords(Pretraining):
    """Pre-training on masked words and, optionally, the next segment."""

    script = "pretrain_mlm"

    def check(self) -> None:
        super().check()
        check_range({"mask_probability": self.options.mask_probability}, 0, 1)

    def new_model(self, texts: Iterable[str]) -> tuple[Any, Any]:
        tokenizer = WoBertTokenizer(vocab_file=str(self.vocabulary_file(texts, build_vocabulary)))
        next_segment = self.options.next_segment
        config = WoBertConfig(
            vocab_size=len(tokenizer),
            vocab_fingerprint=tokenizer.vocab_fingerprint,
            add_pooling_layer=next_segment,
            **self.config_options(),
        )
        return (WoBertForPreTraining if next_segment else WoBertForMaskedLM)(config), tokenizer

    def load_model(self) -> tuple[Any, Any]:
        tokenizer = AutoTokenizer.from_pretrained(self.options.model)
        config = AutoConfig.from_pretrained(self.options.model)
        auto_class, changes = AutoModelForMaskedLM, self.config_changes(config, tokenizer)
        if self.options.next_segment:
            auto_class = AutoModelForPreTraining
            kind = MODEL_FOR_PRETRAINING_MAPPING.get(type(config), None)
            if kind is None or "next_sentence_label" not in inspect.signature(kind.forward).parameters:
                raise InputError(f"--next_segment needs a model with BERT's two heads, got a {config.model_type}")
            if hasattr(config, "add_pooling_layer"):
                changes["add_pooling_layer"] = True
        # Not the folder's dtype: float16 would lose the optimizer's small steps.
        return auto_class.from_pretrained(self.options.model, dtype="float32", **changes), tokenizer

    def callbacks(self) -> list[TrainerCallback]:
        options = self.options
        return [ModelCardCallback(options.model, options.train_file, options.validation_file, script=self.script)]

    def collator(self, tokenizer: Any) -> Any:
        kind = NextSegmentCollator if self.options.next_segment else WordMaskingCollator
        return kind(tokenizer, self.options.mask_probability, seed=self.arguments.seed)

    def row_length(self) -> int:
        return super().row_length() - self.options.next_segment  # room for the [SEP] between the segments

    def facts(self, model: Any) -> dict[str, Any]:
        return {**super().facts(model), "next_segment": self.options.next_segment}

    def extra_figures(self, measured: dict[str, float]) -> dict[str, float]:
        if not self.options.next_segment:
            return {}
        # The held-out loss then covers both tasks.
        return {"held_out_next_segment_accuracy": measured["eval_next_segment_accuracy"]}


def run(options: Options, arguments: TrainingArguments) -> dict[str, float]:
    """Train, evaluate, save model and tokenizer to `output_dir`, and return the figures."""
    return MaskedWords(options, arguments).run()


def main(arguments: list[str] | None = None) -> None:
    run_script("pretrain_mlm", __doc__, Options, run, arguments)


if __name__ == "__main__":
    main()
    leave_process_group()
