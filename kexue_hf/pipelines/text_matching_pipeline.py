"""The pipeline `text-matching`: do two texts match, by each of a matcher's standards?

    match = pipeline("text-matching", model=folder)
    match(("今天天气不错", "今天天气很好"))                        # {"短短匹配A类": 0.91, "短短匹配B类": 0.34, ...}
    match({"text_a": "...", "text_b": "..."}, task="短短匹配A类")  # {"短短匹配A类": 0.91}
    match(pairs, batch_size=32)                                    # a list of these

What a probability is, and what is defined for odd input, is said in `text_matching`; its function sorts pairs by
length, which a pipeline does within a batch only.
"""

from collections.abc import Iterable, Iterator
from types import GeneratorType
from typing import Any

from transformers import AutoModelForSequenceClassification, Pipeline

from .given_texts import listed_inputs
from .text_matching import match_texts, task_names, task_numbers
from .text_pairs import TextPair, read_pair


class TextMatchingPipeline(Pipeline):
    """Probabilities that texts match, by a matcher or any classifier of pairs with two classes.

    Options, of the pipeline or of a call: `tasks` (a name or several, by default all; in a call also as `task`, which
    in the pipeline's own arguments is what sort of pipeline it is), `max_length`, `batch_tokens`: see `match_texts`.
    """

    _load_processor = False
    _load_image_processor = False
    _load_feature_extractor = False
    _load_tokenizer = True

    def __call__(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """The probabilities of a pair, or of any number of them.

        Args:
            inputs: a pair: a dictionary with `text_a`, `text_b` and perhaps the `task` that it is to be judged by, or
                two texts; a list, tuple or array of pairs (a list
                comes back); a generator or torch data set (an iterator
                comes back).

        Raises:
            ValueError: a pair is none, has an empty text or an unknown task; with its number (from 0), if it is one of
                a list, a tuple or a generator. In a list or a tuple, before anything is judged.
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
                raise ValueError(f"text-matching has no option {name!r}, only task, {', '.join(known)}")
        if task is not None:
            if options.get("tasks") is not None:
                raise ValueError("text-matching takes either task or tasks")
            options["tasks"] = task
        if options.get("tasks") is not None:
            # Here, and not when a generator comes to it.
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
        # A batch is a list: nothing in it is a tensor that the pipeline would pad.
        pairs = inputs["pair"]
        alone = isinstance(pairs, TextPair)
        found = list(match_texts(self.model, self.tokenizer, [pairs] if alone else pairs, **options))
        return {"probabilities": found[0] if alone else found}

    def postprocess(self, outputs: dict[str, Any]) -> dict[str, float]:
        probabilities: dict[str, float] = outputs["probabilities"]
        return probabilities


# What registering sets. A copy from the Hub is never registered, and without this its `save_pretrained` would leave
# the pipeline's own files out.
TextMatchingPipeline._registered_impl = {
    "text-matching": {"impl": TextMatchingPipeline, "pt": (AutoModelForSequenceClassification,), "type": "text"}
}

__all__ = ["TextMatchingPipeline"]
