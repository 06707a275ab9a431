"""The options that all pre-training scripts share, and the checks made before anything is read."""

import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from transformers.integrations import is_tensorboard_available

from kexue_hf.errors import InputError
from kexue_hf.trainers.checked_options import check_output_folder, check_range, check_training
from kexue_hf.trainers.ordered_trainer import missing_processes_requested


@dataclass
class PretrainingOptions:
    """Options for HfArgumentParser, next to transformers' TrainingArguments. Scripts add theirs in a subclass."""

    train_file: list[str] = field(
        metadata={
            "help": "files (.txt, .jsonl, .csv, .tsv, .parquet, .gz ...), globs, folders, or Hub names (name:config)"
        }
    )
    validation_file: list[str] | None = field(default=None, metadata={"help": "held-out text, in the same formats"})
    text_column: str = field(default="text", metadata={"help": "column of the text (not for .txt)"})
    pack: str = field(
        default="rows",
        metadata={"help": "rows: full rows of whole sentences across texts; segments: each row a part of one text"},
    )
    segment_characters: int | None = field(
        default=None,
        metadata={"help": "characters per segment; default 1.3 x max_length; tokens beyond max_length are dropped"},
    )
    preprocessing_num_proc: int | None = field(default=None, metadata={"help": "number of tokenizing processes"})
    streaming: bool = field(default=False, metadata={"help": "read and tokenize while training; needs --max_steps"})
    shuffle_buffer: int = field(default=10_000, metadata={"help": "rows of a stream to shuffle at a time"})
    model: str | None = field(default=None, metadata={"help": "folder or Hub name to start from; default: new model"})
    vocabulary: str | None = field(default=None, metadata={"help": "vocab.txt of a new model; default: from the text"})
    vocab_size: int = field(default=8000, metadata={"help": "size of a vocabulary built from the text"})
    min_character_count: int = field(default=5, metadata={"help": "rarer characters become [UNK]"})
    hidden_size: int = field(default=128, metadata={"help": "hidden size of a new model"})
    num_hidden_layers: int = field(default=3, metadata={"help": "layers of a new model"})
    num_attention_heads: int = field(default=4, metadata={"help": "attention heads of a new model"})
    dropout: float | None = field(default=None, metadata={"help": "default: 0 for a new model, else that of --model"})
    attention: str | None = field(
        default=None,
        metadata={"help": "sdpa, eager (faster for bf16 on a CPU) or flash_attention_2; default: the model's"},
    )
    max_length: int = field(default=128, metadata={"help": "tokens per row, special tokens included"})
    batch_size: int | None = field(default=None, metadata={"help": "short for --per_device_train_batch_size"})
    resume: bool = field(default=False, metadata={"help": "continue from the last checkpoint in --output_dir, if any"})
    overwrite: bool = field(default=False, metadata={"help": "replace an earlier training in --output_dir"})
    report: str | None = field(default=None, metadata={"help": "write the final figures to this JSON file"})


def check_pretraining(options: PretrainingOptions, arguments: Any, script: str) -> None:
    """Raise InputError for invalid options, and print warnings.

    Args:
        options: the script's options.
        arguments: transformers' TrainingArguments.
        script: name of the script, for the warnings.
    """
    if options.streaming and arguments.max_steps <= 0:
        raise InputError("--streaming needs --max_steps, because a stream has no known length: add --max_steps")
    if options.max_length < 3:
        raise InputError(
            "--max_length must be at least 3, for a token and those around it ([CLS] and [SEP], or [SOS] and [EOS]), "
            f"got {options.max_length}"
        )
    check_training(arguments, options.dropout, options.report)
    check_output_folder(Path(arguments.output_dir), options.resume, options.overwrite)
    sizes = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads")
    counts = ("segment_characters", "preprocessing_num_proc", "shuffle_buffer")
    check_range({name: getattr(options, name) for name in (*counts, *sizes)}, 1)
    if options.pack not in ("rows", "segments"):
        raise InputError(f"--pack must be rows or segments, got {options.pack!r}")
    if "tensorboard" in arguments.report_to and not is_tensorboard_available():
        raise InputError("--report_to tensorboard needs the package tensorboard: pip install tensorboard")
    launched = int(os.environ.get("WORLD_SIZE", "1"))
    if launched > arguments.world_size:
        raise InputError(f"expected {launched} connected processes, got separate ones for lack of GPUs: add --use_cpu")
    if options.streaming and options.pack == "rows" and arguments.process_index == 0:
        readers = arguments.world_size * max(1, arguments.dataloader_num_workers)
        if readers > 1:
            print(
                f"{script}: warning: each of {readers} processes and workers tokenizes the whole stream, because full "
                "rows depend on earlier ones: divide the work with --pack segments, or leave --streaming out",
                file=sys.stderr,
            )
    if missing_processes_requested():
        print(
            f"{script}: warning: accelerate was asked for several processes but started one: use accelerate launch "
            "--multi_gpu --num_processes N (on CPUs too, with this script's --use_cpu), or torchrun",
            file=sys.stderr,
        )


__all__ = ["PretrainingOptions", "check_pretraining"]
