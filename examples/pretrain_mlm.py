"""Train WoBERT, or any encoder with a masked-word head, to fill in masked words.

    # from nothing: a vocabulary from the text, a small network, held-out loss and accuracy at the end
    python examples/pretrain_mlm.py --train_file text.jsonl --validation_file dev.jsonl --output_dir tiny \\
        --hidden_size 128 --num_hidden_layers 3 --vocab_size 8000 --max_steps 5000 --learning_rate 2e-3

    # on with the training of a converted checkpoint, on several devices, stopped and resumed
    accelerate launch examples/pretrain_mlm.py --model wobert --train_file corpus --streaming --output_dir more \\
        --max_steps 100000 --bf16 --gradient_accumulation_steps 16 --save_steps 1000 --resume

A data file is .jsonl (one object a line, the text under --text_column), .txt (one paragraph a line), or a folder that
`datasets.save_to_disk` wrote. All of transformers' TrainingArguments are options. Sentences are kept whole: they fill
rows of --max_length tokens one after the other, with [SEP] between documents; only a longer sentence is cut.
"""

import json
import math
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from datasets import Dataset, IterableDataset, load_dataset, load_from_disk
from transformers import (
    AutoModelForMaskedLM,
    AutoModelForPreTraining,
    AutoTokenizer,
    HfArgumentParser,
    Trainer,
    TrainingArguments,
    set_seed,
)
from transformers.trainer_utils import get_last_checkpoint

from kexue_hf import WoBertConfig, WoBertForMaskedLM, WoBertForPreTraining, WoBertTokenizer
from kexue_hf.errors import InputError, KexueError
from kexue_hf.models.wobert.build_vocabulary_wobert import build_vocabulary, count_corpus, save_vocabulary
from kexue_hf.trainers.masked_positions import score_masked_positions_only
from kexue_hf.trainers.next_segment import NextSegmentCollator
from kexue_hf.trainers.word_masking import IGNORED, WordMaskingCollator

# A sentence with the mark that ends it and the quotation marks that close after it.
SENTENCE = re.compile(r"[^。！？\n]*[。！？\n]+[”’」』）]*|[^。！？\n]+")


@dataclass
class Options:
    train_file: str = field(metadata={"help": ".jsonl, .txt, or a folder of datasets.save_to_disk"})
    validation_file: str | None = field(default=None, metadata={"help": "held-out text, in the same forms"})
    text_column: str = field(default="text", metadata={"help": "where the text is in a .jsonl or a folder"})
    streaming: bool = field(default=False, metadata={"help": "read and tokenise while training; needs --max_steps"})
    model: str | None = field(default=None, metadata={"help": "folder or Hub name to go on from; none: a new WoBERT"})
    vocabulary: str | None = field(default=None, metadata={"help": "vocab.txt of a new model; none: made of the text"})
    vocab_size: int = field(default=8000, metadata={"help": "tokens of a vocabulary made of the text"})
    min_character_count: int = field(default=5, metadata={"help": "rarer characters are left to [UNK]"})
    hidden_size: int = field(default=128, metadata={"help": "of a new model; so are the next three"})
    num_hidden_layers: int = 3
    num_attention_heads: int = 4
    dropout: float = 0.0
    attention: str = field(
        default="sdpa", metadata={"help": "sdpa, eager (faster for bf16 on a CPU), flash_attention_2"}
    )
    max_length: int = field(default=128, metadata={"help": "tokens in a row, [CLS] and [SEP] included"})
    mask_probability: float = field(default=0.15, metadata={"help": "share of the words to be predicted"})
    next_segment: bool = field(default=False, metadata={"help": "train [CLS] as well, by BERT's next-sentence task"})
    batch_size: int | None = field(default=None, metadata={"help": "short for --per_device_train_batch_size"})
    resume: bool = field(default=False, metadata={"help": "go on from the last checkpoint in --output_dir, if any"})
    report: str | None = field(default=None, metadata={"help": "write the final figures to this JSON file"})


def load_texts(path: str, column: str, streaming: bool) -> Dataset | IterableDataset:
    """The texts of a file or folder as a data set with the one column `text`."""
    if not Path(path).exists():
        raise InputError(f"{path} does not exist; expected a .jsonl or .txt file or a folder of datasets.save_to_disk")
    if Path(path).is_dir():
        data = load_from_disk(path)
        data = data.to_iterable_dataset() if streaming else data
    elif Path(path).suffix in (".jsonl", ".json", ".txt"):
        form = "text" if path.endswith(".txt") else "json"
        data = load_dataset(form, data_files=path, split="train", streaming=streaming)
    else:
        raise InputError(f"{path}: expected the ending .jsonl, .json or .txt, or a folder of datasets.save_to_disk")
    columns = data.column_names or list(next(iter(data)))
    if column not in columns:
        raise InputError(f"{path} has no column {column!r}, only {', '.join(columns)}; name one with --text_column")
    return data.select_columns([column]).rename_columns({} if column == "text" else {column: "text"})


class Packer:
    """Fills rows of `max_length` tokens with whole sentences (RoBERTa's FULL-SENTENCES), batch by batch."""

    def __init__(self, tokenizer: Any, max_length: int) -> None:
        self.tokenizer, self.room = tokenizer, max_length - 2

    def __call__(self, batch: dict[str, list[str]]) -> dict[str, list[list[int]]]:
        first, last = self.tokenizer.cls_token_id, self.tokenizer.sep_token_id
        columns: dict[str, list[list[int]]] = {"input_ids": [], "word_ids": []}
        for ids, words in self._rows(batch["text"]):
            start = words[0]  # a row's words are numbered from 0
            columns["input_ids"].append([first, *ids, last])
            columns["word_ids"].append([-1, *(word - start if word >= 0 else -1 for word in words), -1])
        return columns

    def _rows(self, texts: Iterable[str]) -> Iterator[tuple[list[int], list[int]]]:
        row: tuple[list[int], list[int]] = ([], [])
        next_word = 0
        for text in texts:
            for position, (ids, words) in enumerate(self._sentences(text)):
                numbers = [next_word + word for word in words]
                next_word = numbers[-1] + 1
                separator = 1 if position == 0 and row[0] else 0
                if row[0] and len(row[0]) + separator + len(ids) > self.room:
                    yield row
                    row, separator = ([], []), 0
                if separator:
                    row[0].append(self.tokenizer.sep_token_id)
                    row[1].append(-1)
                row[0].extend(ids)
                row[1].extend(numbers)
                while len(row[0]) > self.room:
                    yield row[0][: self.room], row[1][: self.room]
                    row = row[0][self.room :], row[1][self.room :]
        if row[0]:
            yield row

    def _sentences(self, text: str) -> Iterator[tuple[list[int], list[int]]]:
        sentences = SENTENCE.findall(text)
        if not sentences:
            return
        encoded = self.tokenizer(
            sentences, add_special_tokens=False, return_attention_mask=False, return_token_type_ids=False
        )
        for index, ids in enumerate(encoded["input_ids"]):
            words = encoded.word_ids(index)
            # Tokens that another tokenizer counts to no word.
            known = [(i, w) for i, w in zip(ids, words, strict=True) if w is not None]
            if known:
                yield [i for i, _ in known], [w for _, w in known]


def new_model(options: Options, texts: Iterable[str], folder: Path, seed: int) -> tuple[Any, Any]:
    """A WoBERT with random weights and its tokenizer, whose vocabulary is given or made of the texts."""
    path = options.vocabulary
    if path is None:
        path = str(folder / "vocab.txt")
        if not (options.resume and Path(path).exists()):
            counts = count_corpus(texts)
            save_vocabulary(build_vocabulary(counts, options.vocab_size, options.min_character_count), path)
    tokenizer = WoBertTokenizer(vocab_file=path)
    set_seed(seed)
    config = WoBertConfig(
        vocab_size=len(tokenizer),
        vocab_fingerprint=tokenizer.vocab_fingerprint,
        hidden_size=options.hidden_size,
        num_hidden_layers=options.num_hidden_layers,
        num_attention_heads=options.num_attention_heads,
        intermediate_size=4 * options.hidden_size,
        max_position_embeddings=options.max_length,
        hidden_dropout_prob=options.dropout,
        attention_probs_dropout_prob=options.dropout,
        add_pooling_layer=options.next_segment,
        attn_implementation=options.attention,
    )
    return (WoBertForPreTraining if options.next_segment else WoBertForMaskedLM)(config), tokenizer


def accuracy(prediction: Any) -> dict[str, float]:
    if not isinstance(prediction.label_ids, tuple):
        labelled = prediction.label_ids != IGNORED
        return {"accuracy": float((prediction.predictions == prediction.label_ids)[labelled].mean())}
    words, segments = (p == label for p, label in zip(prediction.predictions, prediction.label_ids, strict=True))
    return {
        "accuracy": float(words[prediction.label_ids[0] != IGNORED].mean()),
        "next_segment_accuracy": float(segments.mean()),
    }


def best_guess(logits: Any, labels: Any) -> Any:
    """Ids instead of scores, which would fill the memory: [batch, length] (and, for the segments, [batch])."""
    return tuple(part.argmax(-1) for part in logits) if isinstance(logits, tuple) else logits.argmax(-1)


def run(options: Options, arguments: TrainingArguments) -> dict[str, float]:
    """Train, evaluate, save model and tokenizer to `output_dir`, and return the figures."""
    if options.batch_size is not None:
        arguments.per_device_train_batch_size = options.batch_size
    if options.streaming and arguments.max_steps <= 0:
        raise InputError("a stream has no known length: say with --max_steps when to stop")
    if options.max_length < 3:
        raise InputError(f"--max_length must leave room for [CLS], a token and [SEP], got {options.max_length}")
    folder = Path(arguments.output_dir)
    texts = load_texts(options.train_file, options.text_column, options.streaming)
    with arguments.main_process_first(desc="vocabulary"):
        folder.mkdir(parents=True, exist_ok=True)
        if options.model is None:
            # The second process of several finds the vocabulary that the first has made.
            first = arguments.process_index == 0
            options = options if first else Options(**{**vars(options), "resume": True})
            model, tokenizer = new_model(options, (row["text"] for row in texts), folder, arguments.seed)
        else:
            tokenizer = AutoTokenizer.from_pretrained(options.model)
            auto_class = AutoModelForPreTraining if options.next_segment else AutoModelForMaskedLM
            extra = {"add_pooling_layer": True} if options.next_segment else {}
            # Not in the float16 that the folder may be stored in, in which the optimizer's small steps get lost.
            model = auto_class.from_pretrained(
                options.model, dtype="float32", attn_implementation=options.attention, **extra
            )
    if arguments.n_gpu <= 1:  # nn.DataParallel cannot gather scores of different numbers of positions
        score_masked_positions_only(model)

    packer = Packer(tokenizer, options.max_length - options.next_segment)  # one [SEP] more between the segments
    data: dict[str, Any] = {}
    with arguments.main_process_first(desc="tokenising"):
        data["train"] = texts.map(packer, batched=True, remove_columns=["text"])
        if options.validation_file is not None:
            held_out = load_texts(options.validation_file, options.text_column, streaming=False)
            data["held-out"] = held_out.map(packer, batched=True, remove_columns=["text"])
    if options.streaming:
        data["train"] = data["train"].shuffle(seed=arguments.seed, buffer_size=10_000)

    collator_class = NextSegmentCollator if options.next_segment else WordMaskingCollator
    arguments.remove_unused_columns = False  # the collator wants word_ids, which no model's forward takes
    trainer = Trainer(
        model=model,
        args=arguments,
        train_dataset=data["train"],
        eval_dataset=data.get("held-out"),
        data_collator=collator_class(tokenizer, options.mask_probability, seed=arguments.seed),
        processing_class=tokenizer,
        preprocess_logits_for_metrics=best_guess,
        compute_metrics=accuracy,
    )
    checkpoint = get_last_checkpoint(str(folder)) if options.resume else None
    if checkpoint is None and options.resume and trainer.is_world_process_zero():
        print(f"no checkpoint in {folder} yet: starting from the beginning")
    result = trainer.train(resume_from_checkpoint=checkpoint)
    figures = {
        "steps": trainer.state.global_step,
        "epochs": round(trainer.state.epoch or 0.0, 3),
        "train_loss": result.training_loss,
        "seconds": result.metrics["train_runtime"],
        "parameters": sum(weight.numel() for weight in model.parameters()),
    }
    if options.validation_file is not None:
        measured = trainer.evaluate()
        figures["held_out_loss"] = measured["eval_loss"]
        figures["held_out_perplexity"] = math.exp(min(measured["eval_loss"], 700))
        figures["held_out_accuracy"] = measured["eval_accuracy"]
        if options.next_segment:  # the loss is then of both tasks
            figures["held_out_next_segment_accuracy"] = measured["eval_next_segment_accuracy"]
    trainer.save_model()
    if trainer.is_world_process_zero():
        # A pickle of the arguments: nobody needs it, and a folder with a pickle in it frightens people off.
        (folder / "training_args.bin").unlink(missing_ok=True)
        for name, value in figures.items():
            print(f"{name:>20}: {value:.4f}" if isinstance(value, float) else f"{name:>20}: {value}")
        if options.report:
            Path(options.report).write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    return figures


def main(arguments: list[str] | None = None) -> None:
    options, training = HfArgumentParser((Options, TrainingArguments)).parse_args_into_dataclasses(arguments)
    try:
        run(options, training)
    except KexueError as error:
        print(f"pretrain_mlm: error: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
