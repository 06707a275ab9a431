"""Pre-train a T-TA, which predicts every token from all others in one pass.

    # a new small model, with a vocabulary of the text's characters
    python examples/pretrain_tta.py --train_file text.jsonl --validation_file dev.jsonl --output_dir small \\
        --hidden_size 256 --num_hidden_layers 4 --max_steps 3000 --learning_rate 1e-3 --warmup_steps 200

    # from a folder of BERT, WoBERT or T-TA: it keeps the tokenizer and the weights of equal names
    python examples/pretrain_tta.py --model bert-base-chinese --train_file "corpus/*.jsonl.gz" --output_dir tta \\
        --pack segments --train_sampling_strategy group_by_length --max_steps 100000 --bf16 --resume

The loss is the mean over the predicted tokens, without special tokens. It cannot be compared with the loss of the
original (https://github.com/joongbo/tta), a mean over all positions with padding counted as 0, which shrinks as
padding grows.

Rows, several processes, accumulated batches and resuming work as in pretrain_mlm.py, but no masks are drawn; see
docs/pretraining.md. All of transformers' TrainingArguments are options.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from transformers import AutoConfig, AutoTokenizer, TrainerCallback, TrainingArguments

from kexue_hf import TtaConfig, TtaForMaskedLM, TtaTokenizer
from kexue_hf.corpora.packing import tokens_around
from kexue_hf.errors import InputError
from kexue_hf.hub.card_callback import ModelCardCallback
from kexue_hf.trainers.chunked_loss import use_chunked_loss
from kexue_hf.trainers.collators import LanguageAutoencodingCollator
from kexue_hf.trainers.pretraining import Pretraining
from kexue_hf.trainers.pretraining_options import PretrainingOptions
from kexue_hf.trainers.training_script import leave_process_group, run_script
from kexue_hf.vocabulary.vocabulary_files import build_character_vocabulary

QUERY_SOURCES = ("mask_embedding", "position")
# The weights that --model must have. A new head can be trained.
TRUNK = ("bert.embeddings.word_embeddings.", "bert.encoder.")


@dataclass
class Options(PretrainingOptions):
    vocab_size: int = field(default=8000, metadata={"help": "maximum size of a vocabulary built from the text"})
    query_source: str | None = field(
        default=None,
        metadata={
            "help": "initial queries: mask_embedding (the original code, default of a new model) or position (the "
            "blog post); default: that of --model"
        },
    )


class Autoencoding(Pretraining):
    """Pre-training by language autoencoding: every token except the special ones is a label."""

    script = "pretrain_tta"

    def check(self) -> None:
        super().check()
        source = self.options.query_source
        if source is not None and source not in QUERY_SOURCES:
            raise InputError(f"--query_source must be {' or '.join(QUERY_SOURCES)}, got {source!r}")

    def new_model(self, texts: Iterable[str]) -> tuple[Any, Any]:
        vocabulary = self.vocabulary_file(texts, build_character_vocabulary, cut=lambda text: ())
        tokenizer = TtaTokenizer(vocab_file=str(vocabulary))
        # Enables truncation of longer texts, and a warning about them.
        tokenizer.model_max_length = self.options.max_length
        config = TtaConfig(
            vocab_size=len(tokenizer),
            vocab_fingerprint=tokenizer.vocab_fingerprint,
            **special_ids(tokenizer),
            **self.config_options(),
            **self.query_options(),
        )
        return TtaForMaskedLM(config), tokenizer

    def load_model(self) -> tuple[Any, Any]:
        model, tokenizer = self.options.model, AutoTokenizer.from_pretrained(self.options.model)
        config = AutoConfig.from_pretrained(model)
        if not getattr(config, "mask_diagonal", True):
            raise InputError(
                f"{model} has mask_diagonal false, so each token would see itself: set it to true in config.json to "
                "train the model as a T-TA"
            )
        changes = {**special_ids(tokenizer), **self.config_changes(config, tokenizer), **self.query_options()}
        tta, found = TtaForMaskedLM.from_pretrained(model, dtype="float32", output_loading_info=True, **changes)
        missing = sorted(found["missing_keys"])
        needed = [name for name in missing if name.startswith(TRUNK)]
        if needed:
            raise InputError(
                f"{model} has no weights for {needed[0]} and {len(needed) - 1} others: use a BERT, a WoBERT or a T-TA"
            )
        if missing and self.arguments.process_index == 0:
            print(f"newly initialised, because {model} has none: {', '.join(missing)}")
        return tta, tokenizer

    def limit_logits(self, model: Any) -> None:
        use_chunked_loss(model)  # nearly all positions are labelled

    def query_options(self) -> dict[str, str]:
        return {} if self.options.query_source is None else {"query_source": self.options.query_source}

    def facts(self, model: Any) -> dict[str, Any]:
        return {**super().facts(model), "query_source": model.config.query_source}

    def callbacks(self) -> list[TrainerCallback]:
        options = self.options
        return [ModelCardCallback(options.model, options.train_file, options.validation_file, script=self.script)]

    def collator(self, tokenizer: Any) -> Any:
        return LanguageAutoencodingCollator(tokenizer)


def special_ids(tokenizer: Any) -> dict[str, int | None]:
    """Return the ids of special tokens that a T-TA's configuration contains.

    Raises:
        InputError: the tokenizer has no [MASK], from which the queries start, or does not put exactly one token before
            and one after a text.
    """
    if tokenizer.mask_token_id is None:
        raise InputError(f"a T-TA needs a tokenizer with a mask token, got {type(tokenizer).__name__} without one")
    ids = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("pad", "bos", "eos", "mask")}
    # BERT's [CLS] and [SEP] take the place of T-TA's [SOS] and [EOS].
    before, after = tokens_around(tokenizer)
    return {**ids, "bos_token_id": before, "eos_token_id": after}


def run(options: Options, arguments: TrainingArguments) -> dict[str, float]:
    """Train, evaluate, save model and tokenizer to `output_dir`, and return the figures."""
    return Autoencoding(options, arguments).run()


def main(arguments: list[str] | None = None) -> None:
    run_script("pretrain_tta", __doc__, Options, run, arguments)


if __name__ == "__main__":
    main()
    leave_process_group()
