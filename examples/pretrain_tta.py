"""Train a T-TA: every token is predicted from all the others, all of them in one pass.

    # from nothing: a vocabulary of the text's characters, a small network
    python examples/pretrain_tta.py --train_file text.jsonl --validation_file dev.jsonl --output_dir small \\
        --hidden_size 256 --num_hidden_layers 4 --max_steps 3000 --learning_rate 1e-3 --warmup_steps 200

    # from a folder of BERT, WoBERT or T-TA: weights of the same names start it, its tokenizer stays
    python examples/pretrain_tta.py --model bert-base-chinese --train_file "corpus/*.jsonl.gz" --output_dir tta \\
        --pack segments --train_sampling_strategy group_by_length --max_steps 100000 --bf16 --resume

The loss is the mean over the predicted tokens, which special tokens are not. The original's
(https://github.com/joongbo/tta) is a mean over all positions with padding counted as 0, so it falls as padding grows:
the two cannot be compared.

All of transformers' TrainingArguments are options too. Rows, several processes, accumulated batches and resuming are
those of pretrain_mlm.py; no random masks are drawn. See docs/pretraining.md.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from transformers import AutoConfig, AutoTokenizer, TrainingArguments

from kexue_hf import TtaConfig, TtaForMaskedLM, TtaTokenizer
from kexue_hf.corpora.packing import tokens_around
from kexue_hf.errors import InputError
from kexue_hf.trainers.chunked_loss import use_chunked_loss
from kexue_hf.trainers.collators import LanguageAutoencodingCollator
from kexue_hf.trainers.pretraining import Pretraining
from kexue_hf.trainers.pretraining_options import PretrainingOptions
from kexue_hf.trainers.training_script import leave_process_group, run_script
from kexue_hf.vocabulary.building import build_character_vocabulary

QUERY_SOURCES = ("mask_embedding", "position")
# Without these there is nothing to go on from; a new head is no great loss.
TRUNK = ("bert.embeddings.word_embeddings.", "bert.encoder.")


@dataclass
class Options(PretrainingOptions):
    vocab_size: int = field(default=8000, metadata={"help": "most tokens of a vocabulary of the text's characters"})
    query_source: str | None = field(
        default=None,
        metadata={
            "help": "what predicts starts as: mask_embedding (the original code, the default of a new model) or "
            "position (the post); none: what --model says"
        },
    )


class Autoencoding(Pretraining):
    """Language autoencoding: every token but the special ones is a label."""

    script = "pretrain_tta"

    def check(self) -> None:
        super().check()
        source = self.options.query_source
        if source is not None and source not in QUERY_SOURCES:
            raise InputError(f"--query_source must be {' or '.join(QUERY_SOURCES)}, got {source!r}")

    def new_model(self, texts: Iterable[str]) -> tuple[Any, Any]:
        vocabulary = self.vocabulary_file(texts, build_character_vocabulary, cut=lambda text: ())
        tokenizer = TtaTokenizer(vocab_file=str(vocabulary))
        # Lets texts that are longer be cut, and be warned about.
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
                f"{model} has mask_diagonal false: a token would see itself, which it is to predict; set it to true "
                "in config.json to train that network as a T-TA again"
            )
        changes = {**special_ids(tokenizer), **self.config_changes(config, tokenizer), **self.query_options()}
        tta, found = TtaForMaskedLM.from_pretrained(model, dtype="float32", output_loading_info=True, **changes)
        missing = sorted(found["missing_keys"])
        needed = [name for name in missing if name.startswith(TRUNK)]
        if needed:
            raise InputError(
                f"{model} has no weights for {needed[0]} and {len(needed) - 1} others of the network: it would start "
                "from random ones"
            )
        if missing and self.arguments.process_index == 0:
            print(f"newly initialised, for {model} has none: {', '.join(missing)}")
        return tta, tokenizer

    def limit_logits(self, model: Any) -> None:
        use_chunked_loss(model)  # nearly all positions are labelled

    def query_options(self) -> dict[str, str]:
        return {} if self.options.query_source is None else {"query_source": self.options.query_source}

    def facts(self, model: Any) -> dict[str, Any]:
        return {**super().facts(model), "query_source": model.config.query_source}

    def collator(self, tokenizer: Any) -> Any:
        return LanguageAutoencodingCollator(tokenizer)


def special_ids(tokenizer: Any) -> dict[str, int | None]:
    """The numbers of special tokens that a T-TA's configuration has.

    Raises:
        InputError: there is no [MASK], which the queries start from; or the tokenizer does not put one token before a
            text and one after.
    """
    if tokenizer.mask_token_id is None:
        raise InputError(f"a T-TA needs a tokenizer with a mask token, {type(tokenizer).__name__} has none")
    ids = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("pad", "bos", "eos", "mask")}
    # A BERT's [CLS] and [SEP] stand where a T-TA has [SOS] and [EOS].
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
