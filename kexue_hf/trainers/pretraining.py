"""A pre-training script from its options to the saved model: what the scripts of all objectives have in common.

A script subclasses [`Pretraining`] and says what is its own: the new model, the given one, the collator.

The bias that a head like BERT's has beside its decoder's, where it is of no use.

Only the decoder's bias is added to the scores. With tied embeddings the two are one tensor; without, the other gets no
gradient, and processes that train together would wait for it or have to search for it in every step.
"""

import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from datasets import Dataset, Features, List, Value
from torch import nn
from transformers import TrainingArguments, set_seed

from kexue_hf.corpora.packing import FullRows, Segments
from kexue_hf.corpora.reading import load_corpus, stream_corpus
from kexue_hf.corpora.row_order import Stream, Table
from kexue_hf.errors import InputError
from kexue_hf.pipelines.text_windows import max_tokens
from kexue_hf.trainers.checked_options import check_model, one_line, remove_checkpoints
from kexue_hf.trainers.held_out_figures import guesses_and_losses, held_out_figures
from kexue_hf.trainers.labelled_positions import score_masked_positions_only
from kexue_hf.trainers.ordered_trainer import OrderedTrainer, seed_of, share_of
from kexue_hf.trainers.pretraining_options import PretrainingOptions, check_pretraining
from kexue_hf.trainers.training_script import print_figures, write_report
from kexue_hf.trainers.whole_checkpoints import last_whole_checkpoint, why_from_the_beginning, write_whole
from kexue_hf.vocabulary.counting import CorpusCounts, count_corpus


def freeze_unused_bias(model: nn.Module) -> None:
    """Leave the bias of `cls.predictions` out of the training, if it is not the decoder's."""
    head: Any = getattr(getattr(model, "cls", None), "predictions", None)
    bias = getattr(head, "bias", None)
    used = getattr(getattr(head, "decoder", None), "bias", None)
    if isinstance(bias, nn.Parameter) and used is not None and used is not bias:
        bias.requires_grad_(False)


# Six bytes a token in the cache instead of sixteen.
ROWS = Features({"input_ids": List(Value("int32")), "word_ids": List(Value("int16")), "length": Value("int32")})


class Pretraining:
    """One run of a script. Subclasses set `script`, its name, and override what is theirs.

    Args:
        options: of the script.
        arguments: transformers' TrainingArguments.
    """

    script = ""

    def __init__(self, options: Any, arguments: TrainingArguments) -> None:
        self.options, self.arguments = options, arguments
        self.folder = Path(arguments.output_dir)
        if options.batch_size is not None:
            arguments.per_device_train_batch_size = options.batch_size

    def check(self) -> None:
        """Raise InputError for options that cannot work, before anything is read."""
        check_pretraining(self.options, self.arguments, self.script)

    def new_model(self, texts: Iterable[str]) -> tuple[Any, Any]:
        """A model with random weights and its tokenizer, whose vocabulary is given or made of the texts."""
        raise NotImplementedError

    def given_model(self) -> tuple[Any, Any]:
        """The model of --model in float32, and its tokenizer."""
        raise NotImplementedError

    def collator(self, tokenizer: Any) -> Any:
        """What makes batches with labels of rows."""
        raise NotImplementedError

    def save_scores(self, model: Any) -> None:
        """Have a training step compute, or hold, fewer scores: here, of the labelled positions only."""
        score_masked_positions_only(model)

    def row_length(self) -> int:
        """The tokens of a row, those around it included."""
        return int(self.options.max_length)

    def facts(self, model: Any) -> dict[str, Any]:
        """What the rows and what is computed of them depend on, by name: without what `OrderedTrainer` sees by itself,
        and without what other weights would tell, as sizes."""
        names = ("pack", "max_length", "segment_characters")
        return {"script": self.script, **{name: getattr(self.options, name) for name in names}}

    def more_figures(self, measured: dict[str, float]) -> dict[str, float]:
        """Figures beside loss, perplexity and accuracy, of what the evaluation returned."""
        return {}

    def vocabulary_file(
        self,
        texts: Iterable[str],
        build: Callable[[CorpusCounts, int, int], list[str]],
        cut: Callable[[str], Iterable[str]] | None = None,
    ) -> Path:
        """The vocab.txt of a new model, and the random numbers that its weights are drawn from set.

        Args:
            texts: what to make it of, if none is given.
            build: makes the tokens of the counts, the size, and how often a character has to occur.
            cut: cuts a text into the words to be counted; by default WoBERT's tokenizer does.
        """
        options = self.options
        path = Path(options.vocabulary or self.folder / "vocab.txt")
        # A resumed run goes on with its vocabulary; of several processes, the others find the one the first has made.
        made = path.exists() and (options.resume or self.arguments.process_index > 0)
        if not options.vocabulary and not made:
            tokens = build(count_corpus(texts, cut), options.vocab_size, options.min_character_count)
            write_whole(path, "".join(f"{token}\n" for token in tokens))
        if not path.is_file():
            raise InputError(f"{path} does not exist; --vocabulary takes a vocab.txt")
        set_seed(self.arguments.seed)
        return path

    def sizes(self) -> dict[str, Any]:
        """A new model's configuration, as far as the options say it."""
        options = self.options
        return {
            "hidden_size": options.hidden_size,
            "num_hidden_layers": options.num_hidden_layers,
            "num_attention_heads": options.num_attention_heads,
            "intermediate_size": 4 * options.hidden_size,
            "max_position_embeddings": options.max_length,
            "hidden_dropout_prob": options.dropout or 0.0,
            "attention_probs_dropout_prob": options.dropout or 0.0,
            **self.chosen_attention(),
        }

    def changes(self, config: Any, tokenizer: Any) -> dict[str, Any]:
        """What the options change of the given model's configuration.

        Raises:
            InputError: it has fewer positions than a row, or fewer tokens than the tokenizer.
        """
        options, changes = self.options, self.chosen_attention()
        if options.dropout is not None:
            changes |= {"hidden_dropout_prob": options.dropout, "attention_probs_dropout_prob": options.dropout}
        positions = max_tokens(config)
        if positions is not None and options.max_length > positions:
            raise InputError(f"{options.model} has {positions} positions, --max_length is {options.max_length}")
        rows, tokens = getattr(config, "vocab_size", len(tokenizer)), len(tokenizer)
        if tokens > rows:
            raise InputError(
                f"{options.model} has rows for {rows} tokens, its tokenizer has {tokens}: call "
                f"model.resize_token_embeddings({tokens}) and save it, or give it its own tokenizer"
            )
        return changes

    def chosen_attention(self) -> dict[str, Any]:
        """The attention implementation: not every model has every one, so there is no default of ours."""
        return {} if self.options.attention is None else {"attn_implementation": self.options.attention}

    def run(self) -> dict[str, float]:
        """Train, evaluate, save model and tokenizer to `output_dir`, and return the figures."""
        options, arguments = self.options, self.arguments
        self.check()
        if options.model is not None:
            check_model(options.model)
        # The first process reads and tokenises, the others find it in the cache.
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
                with one_line("a new model cannot be made"):
                    model, tokenizer = self.new_model(texts if options.streaming else texts["text"])
            else:
                with one_line(f"--model {options.model} cannot be used"):
                    model, tokenizer = self.given_model()
            with one_line(f"the tokenizer of {options.model or options.vocabulary or self.folder} cannot be used"):
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

        if arguments.n_gpu <= 1:  # nn.DataParallel cannot gather scores of different numbers of positions
            self.save_scores(model)
        freeze_unused_bias(model)
        facts = self.facts(model)
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
                preprocess_logits_for_metrics=guesses_and_losses,
                compute_metrics=held_out_figures,
                facts=facts,
            )
        return self._train(trainer)

    def _train(self, trainer: OrderedTrainer) -> dict[str, float]:
        options, first = self.options, trainer.is_world_process_zero()
        if options.resume and last_whole_checkpoint(self.folder) is None and first:
            print(why_from_the_beginning(self.folder))
        result = trainer.resume() if options.resume else trainer.train()
        trained = trainer.state.global_step > trainer.first_step
        if not trained and first:
            print(f"all steps had been trained already: checkpoint-{trainer.first_step} is taken as it is")
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
            figures |= self.more_figures(measured)
        trainer.save_model()
        if first:
            print_figures(figures)
            write_report(options.report, figures)
        return figures


def table(options: PretrainingOptions, texts: Dataset, packing: Any) -> Table:
    """The rows of a corpus, kept in the cache of `datasets` until corpus, tokenizer or packing change."""
    workers = {"num_proc": options.preprocessing_num_proc, "desc": "tokenising"}
    return Table(texts.map(packing, batched=True, remove_columns=texts.column_names, features=ROWS, **workers))


__all__ = ["Pretraining", "freeze_unused_bias"]
