"""Train WoBERT as a UniLM to generate one text from another, such as titles from abstracts.

    pip install "kexue-hf[examples]"
    python examples/finetune_title.py --model my-wobert --train_file train.jsonl --eval_file dev.jsonl \\
        --source_column abstract --target_column title --output_dir my-titles --learning_rate 5e-4 \\
        --num_train_epochs 20

Data files are .jsonl (one object per line), .csv or .tsv, optionally compressed (.gz ...). After the training, the
model generates a target for every held-out source by beam search. The script prints the mean ROUGE-L (F1 over
lower-case characters without spaces), next to that of the source's first sentence. It saves a folder with model and
tokenizer that loads anywhere with AutoModelForCausalLM. All of transformers' TrainingArguments are options.
"""

import json
import re
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    NoRepeatNGramLogitsProcessor,
    TrainingArguments,
    set_seed,
)

from kexue_hf import WoBertConfig
from kexue_hf.corpora.text_files import read_objects
from kexue_hf.errors import InputError
from kexue_hf.generation.logits_processors import ContinuationOnly, PromptWordsOnly
from kexue_hf.hub.card_callback import ModelCardCallback
from kexue_hf.hub.model_facts import UNILM
from kexue_hf.pipelines.text_windows import position_limit
from kexue_hf.trainers.checked_options import (
    check_model,
    check_output_folder,
    check_range,
    check_training,
    one_line_errors,
    remove_checkpoints,
)
from kexue_hf.trainers.collators import UniLmCollator
from kexue_hf.trainers.selected_logits import compute_target_logits_only
from kexue_hf.trainers.training_script import leave_process_group, print_figures, run_script, write_report
from kexue_hf.trainers.whole_checkpoints import AtomicCheckpointTrainer, last_whole_checkpoint, restart_reason

# A full stop within a number, an abbreviation or a name does not end a sentence: 3.5, v.2, Fig.a
FIRST_SENTENCE = re.compile(r".*?(?:[。！？!?；;]|[.](?![0-9A-Za-z])|$)", re.DOTALL)


@dataclass
class Options:
    model: str = field(metadata={"help": "folder or Hub name of a WoBERT with a masked-word head"})
    train_file: str = field(metadata={"help": ".jsonl, .csv or .tsv"})
    eval_file: str | None = field(default=None, metadata={"help": "held-out data, in the same format"})
    source_column: str = field(default="abstract", metadata={"help": "column of the source"})
    target_column: str = field(default="title", metadata={"help": "column of the target"})
    max_length: int = field(default=128, metadata={"help": "tokens of source and target; the source is truncated"})
    max_target_length: int = field(default=40, metadata={"help": "tokens of a target, in training and generation"})
    num_beams: int = field(default=4, metadata={"help": "beams of the search; 1: greedy"})
    no_repeat: int = field(default=0, metadata={"help": "length of word sequences that may not repeat; 0: no limit"})
    source_words_only: bool = field(default=False, metadata={"help": "generate only words of the source"})
    max_train_rows: int | None = field(default=None, metadata={"help": "use this many random rows (by --seed)"})
    batch_size: int | None = field(default=None, metadata={"help": "short for --per_device_train_batch_size"})
    dropout: float | None = field(default=None, metadata={"help": "replaces the model's dropout"})
    attention: str | None = field(
        default=None, metadata={"help": "sdpa, or eager (faster for bf16 on a CPU); default: the model's"}
    )
    resume: bool = field(default=False, metadata={"help": "continue from the last checkpoint in --output_dir, if any"})
    overwrite: bool = field(default=False, metadata={"help": "replace an earlier training in --output_dir"})
    report: str | None = field(default=None, metadata={"help": "write figures and generated texts to this JSON file"})


class Characters:
    """A tokenizer of characters; rouge-score's own keeps only a-z and 0-9."""

    def tokenize(self, text: str) -> list[str]:
        return [character for character in text.lower() if not character.isspace()]


def rouge_l(references: list[str], written: list[str]) -> list[float]:
    """Return ROUGE-L, the F1 over characters, of each pair.

    Raises:
        InputError: rouge-score is not installed.
    """
    try:
        from rouge_score.rouge_scorer import RougeScorer
    except ImportError:
        raise InputError('scoring needs the package rouge-score: pip install "kexue-hf[examples]"') from None
    scorer = RougeScorer(["rougeL"], tokenizer=Characters())
    return [scorer.score(*pair)["rougeL"].fmeasure for pair in zip(references, written, strict=True)]


def read_pairs(path: str, source_column: str, target_column: str) -> list[tuple[str, str]]:
    """Return the (source, target) pairs of a .jsonl, .csv or .tsv file.

    Raises:
        InputError: with file and line: the file is missing or not UTF-8, a line is not an object, a column is missing,
            or a value is not a string or is empty.
    """
    pairs = []
    for place, row in read_objects(path):
        if not isinstance(row, dict):
            raise InputError(f"{place}: expected a JSON object, got {type(row).__name__}")
        for column in (source_column, target_column):
            if column not in row:
                found = ", ".join(map(str, row)) or "nothing"
                raise InputError(
                    f"{place}: no column {column!r} (found {found}); see --source_column, --target_column"
                )
            if not isinstance(row[column], str) or not row[column].strip():
                raise InputError(f"{place}: {column!r} must be a text, got {json.dumps(row[column])}")
        pairs.append((row[source_column], row[target_column]))
    if not pairs:
        raise InputError(f"{path} holds no rows; expected an object with {source_column} and {target_column} per line")
    return pairs


@torch.no_grad()
def write(model: Any, tokenizer: Any, sources: list[str], options: Options, batch_size: int = 16) -> list[str]:
    """Generate a target for each source."""
    model.eval()
    room = options.max_length - options.max_target_length - 1
    written = []
    for start in range(0, len(sources), batch_size):
        batch = tokenizer(
            sources[start : start + batch_size],
            truncation=True,
            max_length=room,
            padding=True,
            padding_side="left",
            return_tensors="pt",
        ).to(model.device)
        length = batch["input_ids"].shape[1]
        rules = []
        if options.no_repeat:
            rules.append(ContinuationOnly(NoRepeatNGramLogitsProcessor(options.no_repeat), length))
        if options.source_words_only:
            rules.append(PromptWordsOnly(length, [tokenizer.sep_token_id]))
        ids = model.generate(
            **batch,
            max_new_tokens=options.max_target_length,
            num_beams=options.num_beams,
            logits_processor=rules,
        )
        written += tokenizer.batch_decode(ids[:, length:], skip_special_tokens=True)
    return written


def run(options: Options, arguments: TrainingArguments) -> dict[str, Any]:
    """Train, generate for the held-out rows, save model and tokenizer to `output_dir`, and return the figures."""
    if options.batch_size is not None:
        arguments.per_device_train_batch_size = options.batch_size
    check_training(arguments, options.dropout, options.report)
    check_output_folder(Path(arguments.output_dir), options.resume, options.overwrite)
    check_model(options.model)
    check_range({"num_beams": options.num_beams, "max_train_rows": options.max_train_rows}, 1)
    check_range({"no_repeat": options.no_repeat}, 0)
    if not 0 < options.max_target_length <= options.max_length - 5:
        raise InputError(
            f"expected --max_target_length from 1 to --max_length - 5, got {options.max_target_length} and "
            f"{options.max_length}"
        )
    pairs = {"train": read_pairs(options.train_file, options.source_column, options.target_column)}
    if options.eval_file:
        pairs["held-out"] = read_pairs(options.eval_file, options.source_column, options.target_column)
        # Before the training, so that a missing rouge-score does not end it with an error.
        leads = [FIRST_SENTENCE.match(source).group(0) for source, _ in pairs["held-out"]]
        references = [target for _, target in pairs["held-out"]]
        lead_scores = rouge_l(references, leads)

    set_seed(arguments.seed)
    with one_line_errors(f"--model {options.model} cannot be used"):
        tokenizer = AutoTokenizer.from_pretrained(options.model)
        config = AutoConfig.from_pretrained(options.model)
        if not isinstance(config, WoBertConfig):
            raise InputError(
                f"--model must be a WoBERT, the only UniLM here, got {options.model}, a {config.model_type}"
            )
        positions = position_limit(config)
        if positions is not None and options.max_length > positions:
            raise InputError(
                f"--max_length must be at most {positions}, the number of positions of {options.model}, got "
                f"{options.max_length}"
            )
        changes: dict[str, Any] = {}
        if options.dropout is not None:
            changes = {"hidden_dropout_prob": options.dropout, "attention_probs_dropout_prob": options.dropout}
        if options.attention is not None:
            changes["attn_implementation"] = options.attention
        # Not the folder's dtype: float16 would lose the optimizer's small steps.
        model = AutoModelForCausalLM.from_pretrained(options.model, dtype="float32", **changes)
        collator = UniLmCollator(tokenizer, options.max_length, options.max_target_length)
    data = Dataset.from_dict(
        {
            "input_ids": tokenizer([s for s, _ in pairs["train"]], truncation=True, max_length=options.max_length)[
                "input_ids"
            ],
            "labels": tokenizer([t for _, t in pairs["train"]], add_special_tokens=False)["input_ids"],
        }
    )
    if options.max_train_rows is not None and options.max_train_rows < len(data):
        data = data.shuffle(seed=arguments.seed).select(range(options.max_train_rows))
    compute_target_logits_only(model)
    rows_of_a_step = arguments.train_batch_size * arguments.gradient_accumulation_steps * arguments.world_size
    facts = {"rows": len(data), "seed": arguments.seed, "rows of a step": rows_of_a_step}
    with one_line_errors("wrong options"):
        trainer = AtomicCheckpointTrainer(
            model=model,
            args=arguments,
            train_dataset=data,
            data_collator=collator,
            processing_class=tokenizer,
            facts=facts,
        )
    card = ModelCardCallback(options.model, options.train_file, options.eval_file, script="finetune_title", post=UNILM)
    trainer.add_callback(card)
    remove_checkpoints(options, arguments)
    if options.resume and last_whole_checkpoint(arguments.output_dir) is None and trainer.is_world_process_zero():
        print(restart_reason(arguments.output_dir))
    result = trainer.resume() if options.resume else trainer.train()
    trained = result.global_step > trainer.first_step
    if not trained and trainer.is_world_process_zero():
        print(f"all steps were already trained: using checkpoint-{trainer.first_step}")
    figures: dict[str, Any] = {
        "train_rows": len(data),
        "steps": result.global_step,
        **({"train_loss": result.training_loss} if trained else {}),
        "seconds": result.metrics["train_runtime"],
    }
    trainer.save_model()
    if trainer.is_world_process_zero():
        if "held-out" in pairs:
            started = time.perf_counter()
            written = write(model, tokenizer, [source for source, _ in pairs["held-out"]], options)
            scores = rouge_l(references, written)
            figures["held_out_rows"] = len(scores)
            figures["lead_rouge_l"] = sum(lead_scores) / len(lead_scores)
            figures["rouge_l"] = sum(scores) / len(scores)
            figures["writing_seconds"] = time.perf_counter() - started
        shown = ("rouge_l", "lead_rouge_l")
        card.write(arguments.output_dir, figures={name: figures[name] for name in shown if name in figures})
        print_figures(figures)
        print(f"saved to {arguments.output_dir}")
        if "held-out" in pairs:
            figures["rows"] = [
                {"expected": reference, "written": text, "first sentence": lead, "rouge_l": round(score, 4)}
                for reference, text, lead, score in zip(references, written, leads, scores, strict=True)
            ]
        write_report(options.report, figures)
    return figures


def main(arguments: list[str] | None = None) -> None:
    run_script("finetune_title", __doc__, Options, run, arguments)


if __name__ == "__main__":
    main()
    leave_process_group()
