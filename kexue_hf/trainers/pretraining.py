"""The frame of a pre-training script, from its options to the saved model.

A script subclasses [`Pretraining`] and provides the new model, the loaded model, and the collator.
"""

import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from datasets import Dataset, Features, List, Value
from torch import nn
from transformers import TrainerCallback, TrainingArguments, set_seed

from kexue_hf.corpora.packing import FullRows, Segments
from kexue_hf.corpora.reading import load_corpus, stream_corpus
from kexue_hf.corpora.row_order import Stream, Table
from kexue_hf.errors import InputError
from kexue_hf.pipelines.text_windows import position_limit
from kexue_hf.trainers.checked_options import check_model, one_line_errors, remove_checkpoints
from kexue_hf.trainers.held_out_figures import guesses_and_losses, held_out_figures
from kexue_hf.trainers.ordered_trainer import OrderedTrainer, seed_of, share_of
from kexue_hf.trainers.pretraining_options import PretrainingOptions, check_pretraining
from kexue_hf.trainers.selected_logits import compute_masked_logits_only
from kexue_hf.trainers.training_script import print_figures, write_report
from kexue_hf.trainers.whole_checkpoints import last_whole_checkpoint, restart_reason, write_whole
from kexue_hf.vocabulary.corpus_counts import CorpusCounts, count_corpus


def freeze_unused_bias(model: nn.Module) -> None:
    """Freeze the bias of `cls.predictions` if the decoder has another one.

    Only the decoder's bias is added to the logits. With tied embeddings the two are one tensor. Without, the unused
    bias gets no gradient, and DDP would wait for it or would have to search for unused parameters in every step.
    """
    head: Any = getattr(getattr(model, "cls", None), "predictions", None)
    bias = getattr(head, "bias", None)
    used = getattr(getattr(head, "decoder", None), "bias", None)
    if isinstance(bias, nn.Parameter) and used is not None and used is not bias:
        bias.requires_grad_(False)


# Six bytes per token in the cache instead of sixteen.
ROWS = Features({"input_ids": List(Value("int32")), "word_ids": List(Value("int16")), "length": Value("int32")})


class Pretraining:
    """One run of a script. Subclasses set `script`, the script's name, and override the methods that differ.

    Args:
        options: the script's options.
        arguments: transformers' TrainingArguments.
    """

    script = ""

    def __init__(self, options: Any, arguments: TrainingArguments) -> None:
        self.options, self.arguments = options, arguments
        self.folder = Path(arguments.output_dir)
        if options.batch_size is not None:
            arguments.per_device_train_batch_size = options.batch_size

    def check(self) -> None:
        """Raise InputError for invalid options before anything is read."""
        check_pretraining(self.options, self.arguments, self.script)

    def new_model(self, texts: Iterable[str]) -> tuple[Any, Any]:
        """Return a model with random weights and its tokenizer, whose vocabulary is given or built from the texts."""
        raise NotImplementedError

    def load_model(self) -> tuple[Any, Any]:
        """Return the model of --model in float32, and its tokenizer."""
        raise NotImplementedError

    def collator(self, tokenizer: Any) -> Any:
        """Return the collator that builds batches with labels."""
        raise NotImplementedError

    def limit_logits(self, model: Any) -> None:
        """Make training steps compute or keep fewer logits; here, only those of labelled positions."""
        compute_masked_logits_only(model)

    def row_length(self) -> int:
        """Return the number of tokens per row, special tokens included."""
        return int(self.options.max_length)

    def facts(self, model: Any) -> dict[str, Any]:
        """Return the settings on which rows and loss depend, by name, for the check when a run resumes.

        `OrderedTrainer` adds those that it knows itself. Settings that change the shape of the weights, such as sizes,
        are not needed.
        """
        names = ("pack", "max_length", "segment_characters")
        return {"script": self.script, **{name: getattr(self.options, name) for name in names}}

    def callbacks(self) -> list[TrainerCallback]:
        """Return callbacks to add to the Trainer."""
        return []

    def extra_figures(self, measured: dict[str, float]) -> dict[str, float]:
        """Return figures beyond loss, perplexity and accuracy from the evaluation's results."""
        return {}

    def vocabulary_file(
        self,
        texts: Iterable[str],
        build: Callable[[CorpusCounts, int, int], list[str]],
        cut: Callable[[str], Iterable[str]] | None = None,
    ) -> Path:
        """Return the vocab.txt of a new model, and set the seed of its weights.

        Args:
            texts: texts to build the vocabulary from, if none is given.
            build: builds the tokens from counts, vocabulary size and minimum character count.
            cut: cuts a text into the words to count; by default WoBERT's tokenizer.
        """
        options = self.options
        path = Path(options.vocabulary or self.folder / "vocab.txt")
        # A resumed run keeps its vocabulary. The other processes use the one that the first process has built.
        made = path.exists() and (options.resume or self.arguments.process_index > 0)
        if not options.vocabulary and not made:
            tokens = build(count_corpus(texts, cut), options.vocab_size, options.min_character_count)
            write_whole(path, "".join(f"{token}\n" for token in tokens))
        if not path.is_file():
            raise InputError(f"--vocabulary must be a vocab.txt, got {path}, which does not exist")
        set_seed(self.arguments.seed)
        return path

    def config_options(self) -> dict[str, Any]:
        """Return the configuration of a new model, as far as the options set it."""
        options = self.options
        return {
            "hidden_size": options.hidden_size,
            "num_hidden_layers": options.num_hidden_layers,
            "num_attention_heads": options.num_attention_heads,
            "intermediate_size": 4 * options.hidden_size,
            "max_position_embeddings": options.max_length,
            "hidden_dropout_prob": options.dropout or 0.0,
            "attention_probs_dropout_prob": options.dropout or 0.0,
            **self.attention_options(),
        }

    def config_changes(self, config: Any, tokenizer: Any) -> dict[str, Any]:
        """Return the changes that the options make to the configuration of --model.

        Raises:
            InputError: the model has fewer positions than a row, or fewer tokens than the tokenizer.
        """
        options, changes = self.options, self.attention_options()
        if options.dropout is not None:
            changes |= {"hidden_dropout_prob": options.dropout, "attention_probs_dropout_prob": options.dropout}
        positions = position_limit(config)
        if positions is not None and options.max_length > positions:
            raise InputError(
                f"--max_length must be at most {positions}, the number of positions of {options.model}, got "
                f"{options.max_length}"
            )
        rows, tokens = getattr(config, "vocab_size", len(tokenizer)), len(tokenizer)
        if tokens > rows:
            raise InputError(
                f"{options.model} has rows for {rows} tokens, its tokenizer has {tokens}: call "
                f"model.resize_token_embeddings({tokens}) and save the model, or use its own tokenizer"
            )
        return changes

    def attention_options(self) -> dict[str, Any]:
        """Return the attention implementation, if one is given.

        There is no default, because not every model supports every implementation.
        """
        return {} if self.options.attention is None else {"attn_implementation": self.options.attention}

    def run(self) -> dict[str, float]:
        """Train, evaluate, save model and tokenizer to `output_dir`, and return the figures."""
        options, arguments = self.options, self.arguments
        self.check()
        if options.model is not None:
            check_model(options.model)
        # The first process reads and tokenizes; the others read the cache.
        with arguments.main_process_first(desc="data"):
            self.folder.mkdir(parents=True, exist_ok=True)
            remove_checkpoints(options, arguments)
            workers = options.preprocessing_num_proc
            texts: Any = (
                stream_corpus(options.train_file, options.text_column)
                if options.streaming
                else load_corpus(options.train_file, options.text_column, workers)
            )
            if options.model is None:
                with one_line_errors("a new model cannot be created"):
                    model, tokenizer = self.new_model(texts if options.streaming else texts["text"])
            else:
                with one_line_errors(f"--model {options.model} cannot be used"):
                    model, tokenizer = self.load_model()
            source = options.model or options.vocabulary or self.folder
            with one_line_errors(f"the tokenizer of {source} cannot be used"):
                collator = self.collator(tokenizer)
                if options.pack == "rows":
                    packing: Any = FullRows(tokenizer, self.row_length())
                else:
                    packing = Segments(tokenizer, self.row_length(), options.segment_characters)
            if options.streaming:
                order: dict[str, Any] = {
                    "seed": seed_of(arguments),
                    "strategy": str(arguments.train_sampling_strategy),
                }
                train: Any = Stream(texts, packing, share_of(arguments), window=options.shuffle_buffer, **order)
            else:
                train = table(options, texts, packing)
            held_out = None
            if options.validation_file:
                held_out = table(options, load_corpus(options.validation_file, options.text_column), packing)

        if arguments.n_gpu <= 1:  # nn.DataParallel cannot gather different numbers of logits
            self.limit_logits(model)
        freeze_unused_bias(model)
        facts = self.facts(model)
        if options.streaming:
            facts["corpus"] = texts.version()
        with one_line_errors("wrong options"):
            trainer = OrderedTrainer(
                model=model,
                args=arguments,
                train_dataset=train,
                eval_dataset=held_out,
                data_collator=collator,
                processing_class=tokenizer,
                preprocess_logits_for_metrics=guesses_and_losses,
                compute_metrics=held_out_figures,
                facts=facts,
            )
        for callback in self.callbacks():
            trainer.add_callback(callback)
        return self._train(trainer)

    def _train(self, trainer: OrderedTrainer) -> dict[str, float]:
        options, first = self.options, trainer.is_world_process_zero()
        if options.resume and last_whole_checkpoint(self.folder) is None and first:
            print(restart_reason(self.folder))
        result = trainer.resume() if options.resume else trainer.train()
        trained = trainer.state.global_step > trainer.first_step
        if not trained and first:
            print(f"all steps were already trained: using checkpoint-{trainer.first_step}")
        figures = {
            "steps": trainer.state.global_step,
            "epochs": round(trainer.state.epoch or 0.0, 3),
            **({"train_loss": result.training_loss} if trained else {}),
            "seconds": result.metrics["train_runtime"],
            "parameters": sum(weight.numel() for weight in trainer.model.parameters()),
        }
        if trainer.eval_dataset is not None:
            measured = trainer.evaluate()
            figures["held_out_loss"] = measured["eval_loss"]
            figures["held_out_perplexity"] = math.exp(min(measured["eval_loss"], 700))
            figures["held_out_accuracy"] = measured["eval_accuracy"]
            figures |= self.extra_figures(measured)
        trainer.save_model()
        if first:
            print_figures(figures)
            write_report(options.report, figures)
        return figures


def table(options: PretrainingOptions, texts: Dataset, packing: Any) -> Table:
    """Return the rows of a corpus, cached by `datasets` until corpus, tokenizer or packing change."""
    workers = {"num_proc": options.preprocessing_num_proc, "desc": "tokenizing"}
    return Table(texts.map(packing, batched=True, remove_columns=texts.column_names, features=ROWS, **workers))


__all__ = ["Pretraining", "freeze_unused_bias"]
