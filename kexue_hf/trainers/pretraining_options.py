"""The options that every pre-training script has, and what is checked of them before anything is read."""

import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from transformers.integrations import is_tensorboard_available

from kexue_hf.errors import InputError
from kexue_hf.trainers.checked_options import check_nothing_is_replaced, check_range, check_training
from kexue_hf.trainers.ordered_trainer import missing_processes_requested


@dataclass
class PretrainingOptions:
    """For HfArgumentParser, beside transformers' TrainingArguments. A script's own options are a subclass."""

    train_file: list[str] = field(
        metadata={
            "help": "files (.txt, .jsonl, .csv, .tsv, .parquet, .gz ...), globs, folders, or Hub names (name:config)"
        }
    )
    validation_file: list[str] | None = field(default=None, metadata={"help": "held-out text, in the same forms"})
    text_column: str = field(default="text", metadata={"help": "where the text is in all but .txt"})
    pack: str = field(
        default="rows",
        metadata={"help": "rows: full of whole sentences, over the ends of texts; segments: each a part of one text"},
    )
    segment_characters: int | None = field(
        default=None, metadata={"help": "of a segment; none: 1.3 x max_length. Tokens beyond max_length are dropped"}
    )
    preprocessing_num_proc: int | None = field(default=None, metadata={"help": "processes that tokenise, cached"})
    streaming: bool = field(default=False, metadata={"help": "read and tokenise while training; needs --max_steps"})
    shuffle_buffer: int = field(default=10_000, metadata={"help": "rows of a stream that are shuffled at a time"})
    model: str | None = field(default=None, metadata={"help": "folder or Hub name to go on from; none: a new model"})
    vocabulary: str | None = field(default=None, metadata={"help": "vocab.txt of a new model; none: made of the text"})
    vocab_size: int = field(default=8000, metadata={"help": "tokens of a vocabulary made of the text"})
    min_character_count: int = field(default=5, metadata={"help": "rarer characters are left to [UNK]"})
    hidden_size: int = field(default=128, metadata={"help": "width of a new model"})
    num_hidden_layers: int = field(default=3, metadata={"help": "layers of a new model"})
    num_attention_heads: int = field(default=4, metadata={"help": "attention heads of a new model"})
    dropout: float | None = field(default=None, metadata={"help": "none: 0 for a new model, else what --model says"})
    attention: str | None = field(
        default=None,
        metadata={"help": "sdpa, eager (faster for bf16 on a CPU), flash_attention_2; none: the model's default"},
    )
    max_length: int = field(default=128, metadata={"help": "tokens in a row, those around a text included"})
    batch_size: int | None = field(default=None, metadata={"help": "short for --per_device_train_batch_size"})
    resume: bool = field(default=False, metadata={"help": "go on from the last checkpoint in --output_dir, if any"})
    overwrite: bool = field(default=False, metadata={"help": "replace what an earlier training left in --output_dir"})
    report: str | None = field(default=None, metadata={"help": "write the final figures to this JSON file"})


def check_pretraining(options: PretrainingOptions, arguments: Any, script: str) -> None:
    """Raise InputError for options that cannot work, and print what to be warned of.

    Args:
        arguments: transformers' TrainingArguments.
        script: its name, to begin a warning with.
    """
    if options.streaming and arguments.max_steps <= 0:
        raise InputError("a stream has no known length: say with --max_steps when to stop")
    if options.max_length < 3:
        raise InputError(
            f"--max_length must leave room for a token and those around it, [CLS] and [SEP] or [SOS] and [EOS], got "
            f"{options.max_length}"
        )
    check_training(arguments, options.dropout, options.report)
    check_nothing_is_replaced(Path(arguments.output_dir), options.resume, options.overwrite)
    sizes = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads")
    counts = ("segment_characters", "preprocessing_num_proc", "shuffle_buffer")
    check_range({name: getattr(options, name) for name in (*counts, *sizes)}, 1)
    if options.pack not in ("rows", "segments"):
        raise InputError(f"--pack must be rows or segments, got {options.pack!r}")
    if "tensorboard" in arguments.report_to and not is_tensorboard_available():
        raise InputError("--report_to tensorboard needs another package: pip install tensorboard")
    launched = int(os.environ.get("WORLD_SIZE", "1"))
    if launched > arguments.world_size:
        raise InputError(
            f"{launched} processes were started that do not know of each other, for want of GPUs: add --use_cpu"
        )
    if options.streaming and options.pack == "rows" and arguments.process_index == 0:
        readers = arguments.world_size * max(1, arguments.dataloader_num_workers)
        if readers > 1:
            print(
                f"{script}: warning: each of {readers} processes and workers tokenises the whole stream, since "
                "full rows depend on those before: divide the work with --pack segments, or leave --streaming out",
                file=sys.stderr,
            )
    if missing_processes_requested():
        print(
            f"{script}: warning: this is one process, but accelerate seems to have been asked for several: use "
            "accelerate launch --multi_gpu --num_processes N (on CPUs too, with this script's --use_cpu), or torchrun",
            file=sys.stderr,
        )


__all__ = ["PretrainingOptions", "check_pretraining"]
