"""Train WoBERT, or any encoder with a masked-word head, to fill in masked words.

    # from nothing: a vocabulary from the text, a small network, held-out loss and accuracy at the end
    python examples/pretrain_mlm.py --train_file text.jsonl --validation_file dev.jsonl --output_dir tiny \\
        --hidden_size 128 --num_hidden_layers 3 --vocab_size 8000 --max_steps 5000 --learning_rate 2e-3

    # on with the training of a converted checkpoint, on several devices; started again, it goes on where it was
    accelerate launch examples/pretrain_mlm.py --model wobert --train_file "corpus/*.jsonl.gz" --output_dir more \\
        --max_length 512 --pack segments --train_sampling_strategy group_by_length --preprocessing_num_proc 16 \\
        --max_steps 100000 --bf16 --gradient_accumulation_steps 16 --save_steps 1000 --resume

All of transformers' TrainingArguments are options too. The losses are a function of the seed and of the rows of a
step: N processes, accumulated batches and a killed and resumed run give those of one process in one go (see
kexue_hf/trainers/ordered_trainer.py). docs/pretraining.md: several devices, options, what it costs.
"""

import inspect
import json
import math
import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from datasets import Dataset, Features, List, Value
from transformers import (
    MODEL_FOR_PRETRAINING_MAPPING,
    AutoConfig,
    AutoModelForMaskedLM,
    AutoModelForPreTraining,
    AutoTokenizer,
    HfArgumentParser,
    TrainingArguments,
    set_seed,
)
from transformers.integrations import is_tensorboard_available

from kexue_hf import WoBertConfig, WoBertForMaskedLM, WoBertForPreTraining, WoBertTokenizer
from kexue_hf.corpora.packing import FullRows, Segments
from kexue_hf.corpora.reading import load_corpus, stream_corpus
from kexue_hf.corpora.row_order import Stream, Table
from kexue_hf.errors import InputError, KexueError
from kexue_hf.trainers.checked_options import check_range, check_training, one_line
from kexue_hf.trainers.masked_positions import score_masked_positions_only
from kexue_hf.trainers.next_segment import NextSegmentCollator
from kexue_hf.trainers.ordered_trainer import (
    OrderedTrainer,
    asked_for_processes_that_are_not_there,
    seed_of,
    share_of,
)
from kexue_hf.trainers.whole_checkpoints import last_whole_checkpoint, why_from_the_beginning, write_whole
from kexue_hf.trainers.word_masking import IGNORED, WordMaskingCollator
from kexue_hf.vocabulary.building import build_vocabulary
from kexue_hf.vocabulary.counting import count_corpus

# Six bytes a token in the cache instead of sixteen.
ROWS = Features({"input_ids": List(Value("int32")), "word_ids": List(Value("int16")), "length": Value("int32")})


@dataclass
class Options:
    train_file: list[str] = field(
        metadata={"help": "files (.txt, .jsonl, .json, .parquet, .gz ...), globs, folders, or Hub names (name:config)"}
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
    model: str | None = field(default=None, metadata={"help": "folder or Hub name to go on from; none: a new WoBERT"})
    vocabulary: str | None = field(default=None, metadata={"help": "vocab.txt of a new model; none: made of the text"})
    vocab_size: int = field(default=8000, metadata={"help": "tokens of a vocabulary made of the text"})
    min_character_count: int = field(default=5, metadata={"help": "rarer characters are left to [UNK]"})
    hidden_size: int = field(default=128, metadata={"help": "of a new model; so are the next two"})
    num_hidden_layers: int = 3
    num_attention_heads: int = 4
    dropout: float | None = field(default=None, metadata={"help": "none: 0 for a new model, else what --model says"})
    attention: str | None = field(
        default=None,
        metadata={"help": "sdpa, eager (faster for bf16 on a CPU), flash_attention_2; none: the model's default"},
    )
    max_length: int = field(default=128, metadata={"help": "tokens in a row, [CLS] and [SEP] included"})
    mask_probability: float = field(default=0.15, metadata={"help": "share of the words to be predicted"})
    next_segment: bool = field(default=False, metadata={"help": "train [CLS] as well, by BERT's next-sentence task"})
    batch_size: int | None = field(default=None, metadata={"help": "short for --per_device_train_batch_size"})
    resume: bool = field(default=False, metadata={"help": "go on from the last checkpoint in --output_dir, if any"})
    report: str | None = field(default=None, metadata={"help": "write the final figures to this JSON file"})


def check(options: Options, arguments: TrainingArguments) -> None:
    """Raise InputError for options that cannot work, before anything is read."""
    if options.streaming and arguments.max_steps <= 0:
        raise InputError("a stream has no known length: say with --max_steps when to stop")
    if options.max_length < 3:
        raise InputError(f"--max_length must leave room for [CLS], a token and [SEP], got {options.max_length}")
    check_training(arguments, options.dropout, options.report)
    counts = ("segment_characters", "preprocessing_num_proc", "shuffle_buffer", "vocab_size", "hidden_size")
    counts += ("num_hidden_layers", "num_attention_heads")
    check_range({name: getattr(options, name) for name in counts}, 1)
    check_range({"mask_probability": options.mask_probability}, 0, 1)
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
                f"pretrain_mlm: warning: each of {readers} processes and workers tokenises the whole stream, since "
                "full rows depend on those before: divide the work with --pack segments, or leave --streaming out",
                file=sys.stderr,
            )
    if asked_for_processes_that_are_not_there():
        print(
            "pretrain_mlm: warning: this is one process, but accelerate seems to have been asked for several: use "
            "accelerate launch --multi_gpu --num_processes N (on CPUs too, with this script's --use_cpu), or torchrun",
            file=sys.stderr,
        )


def new_model(options: Options, texts: Iterable[str], folder: Path, arguments: TrainingArguments) -> tuple[Any, Any]:
    """A WoBERT with random weights and its tokenizer, whose vocabulary is given or made of the texts."""
    path = Path(options.vocabulary or folder / "vocab.txt")
    # A resumed run goes on with its vocabulary; of several processes, the others find the one that the first has made.
    made = path.exists() and (options.resume or arguments.process_index > 0)
    if not options.vocabulary and not made:
        tokens = build_vocabulary(count_corpus(texts), options.vocab_size, options.min_character_count)
        write_whole(path, "".join(f"{token}\n" for token in tokens))
    if not path.is_file():
        raise InputError(f"{path} does not exist; --vocabulary takes a vocab.txt")
    tokenizer = WoBertTokenizer(vocab_file=str(path))
    set_seed(arguments.seed)
    config = WoBertConfig(
        vocab_size=len(tokenizer),
        vocab_fingerprint=tokenizer.vocab_fingerprint,
        hidden_size=options.hidden_size,
        num_hidden_layers=options.num_hidden_layers,
        num_attention_heads=options.num_attention_heads,
        intermediate_size=4 * options.hidden_size,
        max_position_embeddings=options.max_length,
        hidden_dropout_prob=options.dropout or 0.0,
        attention_probs_dropout_prob=options.dropout or 0.0,
        add_pooling_layer=options.next_segment,
        **chosen_attention(options),
    )
    return (WoBertForPreTraining if options.next_segment else WoBertForMaskedLM)(config), tokenizer


def chosen_attention(options: Options) -> dict[str, str]:
    # Not every model has every one, so there is no default of ours.
    return {} if options.attention is None else {"attn_implementation": options.attention}


def given_model(options: Options) -> tuple[Any, Any]:
    """The model of --model in float32, and its tokenizer."""
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    config = AutoConfig.from_pretrained(options.model)
    auto_class, changes = AutoModelForMaskedLM, chosen_attention(options)
    if options.next_segment:
        auto_class = AutoModelForPreTraining
        kind = MODEL_FOR_PRETRAINING_MAPPING.get(type(config), None)
        if kind is None or "next_sentence_label" not in inspect.signature(kind.forward).parameters:
            raise InputError(f"--next_segment needs BERT's two heads, which no class for {config.model_type} has")
        if hasattr(config, "add_pooling_layer"):
            changes["add_pooling_layer"] = True
    if options.dropout is not None:
        changes |= {"hidden_dropout_prob": options.dropout, "attention_probs_dropout_prob": options.dropout}
    positions = getattr(config, "max_position_embeddings", options.max_length)
    if options.max_length > positions:
        raise InputError(f"{options.model} has {positions} positions, --max_length is {options.max_length}")
    # Not in the float16 that the folder may be stored in, in which the optimizer's small steps get lost.
    return auto_class.from_pretrained(options.model, dtype="float32", **changes), tokenizer


def table(options: Options, texts: Dataset, packing: Any) -> Table:
    """The rows of a corpus, kept in the cache of `datasets` until corpus, tokenizer or packing change."""
    workers = {"num_proc": options.preprocessing_num_proc, "desc": "tokenising"}
    return Table(texts.map(packing, batched=True, remove_columns=texts.column_names, features=ROWS, **workers))


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
    check(options, arguments)
    folder = Path(arguments.output_dir)

    # The first process reads and tokenises, the others find it in the cache.
    with arguments.main_process_first(desc="data"):
        folder.mkdir(parents=True, exist_ok=True)
        workers = options.preprocessing_num_proc
        texts: Any = (
            stream_corpus(options.train_file, options.text_column)
            if options.streaming
            else load_corpus(options.train_file, options.text_column, workers)
        )
        if options.model is None:
            with one_line("a new model cannot be made"):
                words = texts if options.streaming else texts["text"]
                model, tokenizer = new_model(options, words, folder, arguments)
        else:
            with one_line(f"--model {options.model} cannot be used"):
                model, tokenizer = given_model(options)
        with one_line(f"the tokenizer of {options.model or options.vocabulary or folder} cannot be used"):
            collator_class = NextSegmentCollator if options.next_segment else WordMaskingCollator
            collator = collator_class(tokenizer, options.mask_probability, seed=arguments.seed)
        length = options.max_length - options.next_segment  # one [SEP] more between the segments
        if options.pack == "rows":
            packing: Any = FullRows(tokenizer, length)
        else:
            packing = Segments(tokenizer, length, options.segment_characters)
        if options.streaming:
            order = {"seed": seed_of(arguments), "strategy": str(arguments.train_sampling_strategy)}
            train: Any = Stream(texts, packing, share_of(arguments), window=options.shuffle_buffer, **order)
        else:
            train = table(options, texts, packing)
        held_out = None
        if options.validation_file:
            held_out = table(options, load_corpus(options.validation_file, options.text_column), packing)

    if arguments.n_gpu <= 1:  # nn.DataParallel cannot gather scores of different numbers of positions
        score_masked_positions_only(model)
    facts: dict[str, Any] = {
        name: getattr(options, name) for name in ("pack", "max_length", "segment_characters", "next_segment")
    }
    if options.streaming:
        facts["corpus"] = texts.version()
    with one_line("wrong options"):
        trainer = OrderedTrainer(
            model=model,
            args=arguments,
            train_dataset=train,
            eval_dataset=held_out,
            data_collator=collator,
            processing_class=tokenizer,
            preprocess_logits_for_metrics=best_guess,
            compute_metrics=accuracy,
            facts=facts,
        )
    if options.resume and last_whole_checkpoint(folder) is None and trainer.is_world_process_zero():
        print(why_from_the_beginning(folder))
    result = trainer.resume() if options.resume else trainer.train()
    trained = trainer.state.global_step > trainer.first_step
    if not trained and trainer.is_world_process_zero():
        print(f"all steps had been trained already: checkpoint-{trainer.first_step} is taken as it is")
    figures = {
        "steps": trainer.state.global_step,
        "epochs": round(trainer.state.epoch or 0.0, 3),
        **({"train_loss": result.training_loss} if trained else {}),
        "seconds": result.metrics["train_runtime"],
        "parameters": sum(weight.numel() for weight in model.parameters()),
    }
    if held_out is not None:
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
    try:
        with one_line("wrong options"):
            options, training = HfArgumentParser((Options, TrainingArguments)).parse_args_into_dataclasses(arguments)
        run(options, training)
    except KexueError as error:
        # One from a loader's worker comes with its traceback before it.
        message = str(error).strip().splitlines()[-1].removeprefix("kexue_hf.errors.InputError: ")
        print(f"pretrain_mlm: error: {message}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
