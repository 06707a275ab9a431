"""The pipeline `text-matching`: the probability that two texts match, by each task of a matcher.

    match = pipeline("text-matching", model=folder)
    match(("今天天气不错", "今天天气很好"))                        # {"短短匹配A类": 0.91, "短短匹配B类": 0.34, ...}
    match({"text_a": "...", "text_b": "..."}, task="短短匹配A类")  # {"短短匹配A类": 0.91}
    match(pairs, batch_size=32)                                    # a list of these

`text_matching` defines the probability, also for unusual input. Its function sorts all pairs by length; a pipeline
sorts only within a batch.
"""

from collections.abc import Iterable, Iterator
from types import GeneratorType
from typing import Any

from transformers import AutoModelForSequenceClassification, Pipeline

from .given_texts import listed_inputs
from .text_matching import match_texts, task_names, task_numbers
from .text_pairs import TextPair, read_pair


class TextMatchingPipeline(Pipeline):
    """Compute the probability that texts match, with a matcher or any classifier of pairs with two classes.

    Options, of the pipeline or of a call: `tasks` (a name or several, by default all), `max_length`, `batch_tokens`;
    see `match_texts`. A call also takes `task`, which in `pipeline(...)` means the kind of pipeline.
    """

    _load_processor = False
    _load_image_processor = False
    _load_feature_extractor = False
    _load_tokenizer = True

    def __call__(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """Return the probabilities of a pair, or of each of several pairs.

        Args:
            inputs: a pair: a dictionary with `text_a`, `text_b` and optionally `task`, or two texts; a list, tuple or
                array of pairs (returns a list); a generator or torch dataset (returns an iterator).

        Raises:
            ValueError: a pair has another form, an empty text or an unknown task. For a list, tuple or generator, the
                message gives its number (from 0); a list or tuple is checked before any computation.
        """
        if isinstance(inputs, list | tuple) and len(inputs) == 2 and all(isinstance(text, str) for text in inputs):
            inputs = TextPair(*inputs)
        inputs = listed_inputs(inputs)
        if isinstance(inputs, list) and not inputs:
            return []
        if isinstance(inputs, list | GeneratorType):
            numbered = self._numbered(inputs)
            inputs = list(numbered) if isinstance(inputs, list) else numbered
        return super().__call__(inputs, *args, **kwargs)

    def _sanitize_parameters(
        self, task: Any = None, **options: Any
    ) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        known = ("tasks", "max_length", "batch_tokens")
        for name in options:
            if name not in known:
                raise ValueError(f"text-matching takes the options task, {', '.join(known)}, got {name!r}")
        if task is not None:
            if options.get("tasks") is not None:
                raise ValueError("text-matching takes either task or tasks, got both")
            options["tasks"] = task
        if options.get("tasks") is not None:
            # Checked here, because a generator would only be read later.
            task_numbers(options["tasks"], task_names(self.model))
        return {}, options, {}

    def _numbered(self, pairs: Iterable[Any]) -> Iterator[TextPair]:
        for number, pair in enumerate(pairs):
            yield self._read(pair, f"pair {number}")

    def _read(self, pair: Any, place: str = "") -> TextPair:
        read = read_pair(pair, place)
        if read.task is not None:
            try:
                task_numbers([read.task], task_names(self.model))
            except ValueError as error:
                at = f"{place}: " if place else ""
                raise ValueError(f"{at}{error} (the task of {read.text_a[:20]!r})") from None
        return read

    def preprocess(self, pair: Any) -> dict[str, Any]:
        return {"pair": self._read(pair)}

    def _forward(self, inputs: dict[str, Any], **options: Any) -> dict[str, Any]:
        # A batch is a list, because the pipeline pads only tensors.
        pairs = inputs["pair"]
        alone = isinstance(pairs, TextPair)
        found = list(match_texts(self.model, self.tokenizer, [pairs] if alone else pairs, **options))
        return {"probabilities": found[0] if alone else found}

    def postprocess(self, outputs: dict[str, Any]) -> dict[str, float]:
        probabilities: dict[str, float] = outputs["probabilities"]
        return probabilities


# Normally set by registration. A copy from the Hub is never registered; without this, its `save_pretrained` would omit
# the pipeline's files.
TextMatchingPipeline._registered_impl = {
    "text-matching": {"impl": TextMatchingPipeline, "pt": (AutoModelForSequenceClassification,), "type": "text"}
}

__all__ = ["TextMatchingPipeline"]
