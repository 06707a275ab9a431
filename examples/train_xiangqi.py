"""Train a GPT that plays Chinese chess on recorded games, with a head that predicts who wins.

    python examples/train_xiangqi.py --train_file games.train.jsonl --validation_file games.dev.jsonl \\
        --output_dir player --num_train_epochs 6 --learning_rate 1e-3 --batch_size 32

    # as in kexue.fm 7877: four ids a move, of the winner's moves only, without the board
    ... --vocab characters --winner_only --no_board_input

Files are .pgn (ICCS or Chinese moves), .jsonl ({"moves": "h2e2 h9g7 ...", "result": "1-0"}) or .iccs (a game a line).
A game that cannot be used is reported, and the others are trained on. Games are cut to --curriculum's length, mirrored
with probability --mirror, and grouped by length. --model continues from a folder, for example from a converted
original.

At each evaluation the loss and, on --evaluated_games games, the accuracy of the next move among the legal ones are
measured. OUTPUT_DIR is a model for `kexue-hf play OUTPUT_DIR`, AutoModelForCausalLM, and, with its value head,
AutoModelForSequenceClassification. All of transformers' TrainingArguments are options.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainingArguments, set_seed

from kexue_hf import XiangqiGptConfig, XiangqiGptForCausalLM, XiangqiTokenizer
from kexue_hf.corpora.row_order import Table
from kexue_hf.errors import InputError
from kexue_hf.evaluation.next_moves import next_move_figures
from kexue_hf.hub.card_callback import ModelCardCallback
from kexue_hf.trainers.checked_options import (
    check_model,
    check_output_folder,
    check_range,
    check_training,
    one_line_errors,
    remove_checkpoints,
)
from kexue_hf.trainers.length_curriculum import CurriculumTrainer, LengthCurriculum
from kexue_hf.trainers.training_script import leave_process_group, print_figures, run_script, write_report
from kexue_hf.trainers.whole_checkpoints import last_whole_checkpoint, restart_reason
from kexue_hf.trainers.xiangqi_games import GamesCollator, game_rows
from kexue_hf.xiangqi import Game, read_games
from kexue_hf.xiangqi.fen import is_start
from kexue_hf.xiangqi.outcome import UNKNOWN


@dataclass
class Options:
    train_file: list[str] = field(metadata={"help": "games: .pgn, .jsonl, .iccs or .txt"})
    validation_file: list[str] | None = field(default=None, metadata={"help": "held-out games, in the same formats"})
    encoding: str = field(default="utf-8", metadata={"help": "of the files, such as gb18030"})
    model: str | None = field(default=None, metadata={"help": "folder or Hub name to start from; default: new model"})
    vocab: Literal["squares", "characters"] = field(
        default="squares", metadata={"help": "tokens of a new model: 2 squares a move, or 4 characters"}
    )
    hidden_size: int = field(default=256, metadata={"help": "hidden size of a new model"})
    num_hidden_layers: int = field(default=5, metadata={"help": "layers of a new model"})
    num_attention_heads: int = field(default=4, metadata={"help": "attention heads of a new model"})
    intermediate_size: int = field(default=768, metadata={"help": "inner size of a new model's feed-forward layers"})
    dropout: float | None = field(default=None, metadata={"help": "default: 0 for a new model, else that of --model"})
    board_input: bool = field(
        default=True,
        metadata={
            "help": "let a new model see the board after each token, which it works out itself; the post's does not"
        },
    )
    max_length: int = field(
        default=512, metadata={"help": "greatest number of tokens, and of a new model's positions"}
    )
    curriculum: list[str] = field(
        default_factory=lambda: ["0:64", "0.05:128", "0.25:256", "0.6:512"],
        metadata={
            "help": "BEGIN:LENGTH, BEGIN a fraction of the training: games are cut to LENGTH tokens from there on"
        },
    )
    value_loss_weight: float = field(
        default=0.1, metadata={"help": "weight of the loss of the predicted result; 0 for no value head"}
    )
    mirror: float = field(default=0.5, metadata={"help": "fraction of games with left and right exchanged"})
    flip: float = field(default=0.0, metadata={"help": "fraction of games with the colours exchanged"})
    winner_only: bool = field(default=False, metadata={"help": "train on the winner's moves, and on both in a draw"})
    evaluated_games: int = field(default=40, metadata={"help": "games for the accuracy of the next move; 0 for all"})
    batch_size: int | None = field(default=None, metadata={"help": "short for --per_device_train_batch_size"})
    save_dtype: Literal["float32", "float16"] = field(
        default="float32", metadata={"help": "of the weights in --output_dir; checkpoints are in float32"}
    )
    resume: bool = field(default=False, metadata={"help": "continue from the last checkpoint in --output_dir, if any"})
    overwrite: bool = field(default=False, metadata={"help": "replace an earlier training in --output_dir"})
    report: str | None = field(default=None, metadata={"help": "write the final figures to this JSON file"})


class GamesTrainer(CurriculumTrainer):
    """A trainer whose evaluation adds the accuracy of the next move to the loss."""

    def __init__(self, *arguments: Any, games: list[Game], **options: Any) -> None:
        self.games = games
        super().__init__(*arguments, **options)

    def evaluate(self, *arguments: Any, metric_key_prefix: str = "eval", **options: Any) -> dict[str, float]:
        figures = super().evaluate(*arguments, metric_key_prefix=metric_key_prefix, **options)
        model: Any = self.accelerator.unwrap_model(self.model)
        model.eval()
        found = next_move_figures(model, self.processing_class, self.games)
        named = {f"{metric_key_prefix}_{name}": value for name, value in found.items()}
        self.log(named)
        return {**figures, **named}


def curriculum(stages: list[str]) -> LengthCurriculum:
    """Return the curriculum of the options BEGIN:LENGTH.

    Raises:
        InputError: a stage cannot be read, or they are not in order.
    """
    pairs = []
    for stage in stages:
        begin, _, length = stage.partition(":")
        try:
            pairs.append((float(begin), int(length)))
        except ValueError:
            raise InputError(f"--curriculum takes BEGIN:LENGTH such as 0.25:256, got {stage!r}") from None
    try:
        return LengthCurriculum(pairs)
    except InputError as error:
        raise InputError(f"--curriculum: {error}") from None


def usable_games(paths: list[str], options: Options, report: bool) -> Iterator[Game]:
    """Yield the games of the files that can be used, and print one line for each of the first others.

    Raises:
        InputError: a file cannot be read, or holds no game that can be used.
    """
    for path in paths:
        faults: list[object] = []
        found = False
        for game in read_games(path, encoding=options.encoding, on_error=faults.append):
            if fault := unusable(game, options):
                faults.append(f"{path}: {fault}")
                continue
            found = True
            yield game
        for fault in faults[:5] if report else ():
            print(f"left out: {fault}")
        if len(faults) > 5 and report:
            print(f"left out: {len(faults) - 5} more games of {path}")
        if not found:
            raise InputError(f"{path} holds no game that can be used{f' ({faults[0]})' if faults else ''}")


def unusable(game: Game, options: Options) -> str | None:
    """Return why a legal game cannot be trained on."""
    if not game.moves:
        return "a game without moves"
    if not is_start(game.fen):
        return f"a game from another position than the start, {game.fen}, which its moves do not tell"
    if options.winner_only and game.result == UNKNOWN:
        return "a game without a result, which --winner_only needs"
    return None


def check(options: Options, arguments: TrainingArguments) -> None:
    """Raise InputError for wrong options before anything is read."""
    if options.batch_size is not None:
        arguments.per_device_train_batch_size = options.batch_size
    check_training(arguments, options.dropout, options.report)
    check_output_folder(Path(arguments.output_dir), options.resume, options.overwrite)
    if options.model is not None:
        check_model(options.model)
    sizes = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
    check_range({name: getattr(options, name) for name in sizes}, 1)
    check_range({"max_length": options.max_length}, 5)
    check_range({"value_loss_weight": options.value_loss_weight, "evaluated_games": options.evaluated_games}, 0)
    check_range({"mirror": options.mirror, "flip": options.flip}, 0, 1)
    if options.hidden_size % options.num_attention_heads:
        raise InputError(
            f"--hidden_size must be a multiple of --num_attention_heads, got {options.hidden_size} and "
            f"{options.num_attention_heads}"
        )
    if options.validation_file is None and arguments.eval_strategy != "no":
        raise InputError("--eval_strategy needs games to evaluate on: add --validation_file")


def load(options: Options) -> tuple[Any, Any]:
    """Return the model and its tokenizer."""
    value = {"value_head": options.value_loss_weight > 0, "value_loss_weight": options.value_loss_weight}
    if options.model is not None:
        dropout = {} if options.dropout is None else dropout_fields(options.dropout)
        with one_line_errors(f"--model {options.model} cannot be used"):
            tokenizer = AutoTokenizer.from_pretrained(options.model)
            model = AutoModelForCausalLM.from_pretrained(options.model, dtype="float32", **value, **dropout)
        if not isinstance(model, XiangqiGptForCausalLM):
            raise InputError(f"--model {options.model}: expected a Xiangqi GPT, got {type(model).__name__}")
        return model, tokenizer
    tokenizer = XiangqiTokenizer(vocab=options.vocab)
    config = XiangqiGptConfig(
        vocab_size=len(tokenizer),
        vocab_fingerprint=tokenizer.vocab_fingerprint,
        hidden_size=options.hidden_size,
        num_hidden_layers=options.num_hidden_layers,
        num_attention_heads=options.num_attention_heads,
        intermediate_size=options.intermediate_size,
        max_position_embeddings=options.max_length,
        type_vocab_size=1,
        board_input=options.board_input,
        **dropout_fields(options.dropout or 0.0),
        **value,
    )
    return XiangqiGptForCausalLM(config), tokenizer


def dropout_fields(dropout: float) -> dict[str, float]:
    return {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout}


def run(options: Options, arguments: TrainingArguments) -> dict[str, float]:
    """Train, evaluate, save the model and its tokenizer, and return the figures."""
    check(options, arguments)
    stages = curriculum(options.curriculum)
    folder = Path(arguments.output_dir)
    with arguments.main_process_first(desc="games"):
        folder.mkdir(parents=True, exist_ok=True)
        remove_checkpoints(options, arguments)
        set_seed(arguments.seed)
        model, tokenizer = load(options)
        longest = min(options.max_length, model.config.max_position_embeddings)
        first = arguments.process_index == 0
        train = Table(
            Dataset.from_list(list(game_rows(usable_games(options.train_file, options, first), tokenizer, longest)))
        )
        held_out = list(usable_games(options.validation_file, options, first)) if options.validation_file else []
        evaluation = Table(Dataset.from_list(list(game_rows(held_out, tokenizer, longest)))) if held_out else None
    trainer = GamesTrainer(
        model=model,
        args=arguments,
        train_dataset=train,
        eval_dataset=evaluation,
        data_collator=GamesCollator(
            tokenizer,
            mirror=options.mirror,
            flip=options.flip,
            results=model.config.value_head,
            winner_only=options.winner_only,
            seed=arguments.seed,
        ),
        processing_class=tokenizer,
        curriculum=stages,
        games=list(itertools.islice(held_out, options.evaluated_games or None)),
        facts={
            "script": "train_xiangqi",
            "curriculum": [list(stage) for stage in stages.stages],
            **{
                name: getattr(options, name)
                for name in ("mirror", "flip", "winner_only", "value_loss_weight", "max_length")
            },
        },
    )
    trainer.add_callback(
        ModelCardCallback(options.model, options.train_file, options.validation_file, script="train_xiangqi")
    )
    if options.resume and last_whole_checkpoint(folder) is None and first:
        print(restart_reason(folder))
    result = trainer.resume() if options.resume else trainer.train()
    figures = {
        "games": len(train),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "steps": trainer.state.global_step,
        "train_loss": result.training_loss,
        "seconds": result.metrics["train_runtime"],
    }
    if evaluation is not None:
        figures |= {name: value for name, value in trainer.evaluate().items() if "per_second" not in name}
    if options.save_dtype == "float16":
        model.half()
    trainer.save_model()
    if trainer.is_world_process_zero():
        print_figures(figures)
        write_report(options.report, figures)
    return figures


def main(arguments: list[str] | None = None) -> None:
    run_script("train_xiangqi", __doc__, Options, run, arguments)


if __name__ == "__main__":
    main()
    leave_process_group()
