"""What the page does with texts; the models are loaded once."""

import tempfile
from importlib import resources
from pathlib import Path
from typing import Any

from transformers import pipeline

from kexue_hf import Corrector, convert, match_texts, score_texts, sentence_vectors
from kexue_hf.batch.model_loading import load_masked_lm, load_text_matcher
from kexue_hf.errors import InputError
from kexue_hf.pipelines.text_correction import DEFAULT_THRESHOLD

LONGEST = 500
MOST_MASKS = 5
CHOICES = 5


class LanguageTools:
    """A masked language model and a matcher, and what they say of texts.

    Args:
        language_model: folder or Hub name; None for the small model in the package.
        matcher: folder or Hub name; None to compare the language model's sentence vectors.

    Attributes:
        too_weak_to_correct: whether the language model's calibration found that its changes are mostly wrong.

    Raises:
        InputError: a model cannot be loaded, or is not of the expected kind.
    """

    def __init__(self, language_model: str | None, matcher: str | None) -> None:
        self._model, self._tokenizer = load_masked_lm(language_model) if language_model else _packaged()
        self._fill = pipeline("fill-mask", model=self._model, tokenizer=self._tokenizer, top_k=CHOICES)
        self.too_weak_to_correct = False
        try:
            self._corrector = Corrector(self._model, self._tokenizer)
        except ValueError:
            # A calibration can say so, as that of the model in the package does. Its changes are still worth a look.
            self.too_weak_to_correct = True
            try:
                self._corrector = Corrector(self._model, self._tokenizer, threshold=DEFAULT_THRESHOLD)
            except ValueError as error:
                raise InputError(f"{language_model}: {error}") from None
        self._matcher = load_text_matcher(matcher) if matcher else None

    @property
    def has_matcher(self) -> bool:
        return self._matcher is not None

    def fill(self, text: str) -> list[dict[str, float]]:
        """Return for each [MASK] the most probable words and their probabilities."""
        text = checked(text)
        mask = self._tokenizer.mask_token
        text = text.replace("[MASK]", mask)
        masks = text.count(mask)
        if not 1 <= masks <= MOST_MASKS:
            raise InputError(f"expected 1 to {MOST_MASKS} [MASK] where words are missing, got {masks}")
        length, limit = len(self._tokenizer(text)["input_ids"]), self._model.config.max_position_embeddings
        if length > limit:
            raise InputError(f"expected a text of at most {limit} tokens, as the model reads, got {length}")
        found = self._fill(text)
        rows = found if masks > 1 else [found]
        return [{choice["token_str"].replace(" ", ""): choice["score"] for choice in row} for row in rows]

    def score(self, text: str) -> tuple[list[tuple[str, float]], float]:
        """Return the tokens with log p(token | all others), and the perplexity."""
        score = score_texts(self._model, self._tokenizer, checked(text))[0]
        if not score.tokens:
            raise InputError("expected a text of words, got one without any")
        places = score.offsets or [None] * len(score.tokens)
        names = [
            token if place is None else score.text[slice(*place)]
            for token, place in zip(score.tokens, places, strict=True)
        ]
        assert score.perplexity is not None  # there are tokens
        return list(zip(names, score.log_probs, strict=True)), score.perplexity

    def correct(self, text: str) -> tuple[str, list[tuple[str, str, float]]]:
        """Return the corrected text, and the changes: what stood there, what stands there now, and the gain."""
        found = self._corrector.correct(checked(text))[0]
        changes = [(change.original, change.replacement, change.gain) for change in found.corrections]
        return found.corrected, changes

    def compare(self, first: str, second: str) -> dict[str, float]:
        """Return the matcher's probabilities by task, or the cosine of the two sentence vectors."""
        pair = (checked(first), checked(second))
        if self._matcher:
            return next(iter(match_texts(*self._matcher, [pair])))
        one, other = sentence_vectors(self._model, self._tokenizer, list(pair), normalize=True)
        return {"cosine": float(one @ other)}


def _packaged() -> tuple[Any, Any]:
    """Return the model in the package, which is an original checkpoint, and its tokenizer."""
    assets = resources.files("kexue_hf") / "assets" / "wobert_tiny"
    with tempfile.TemporaryDirectory() as folder, resources.as_file(assets) as source:
        return load_masked_lm(str(convert(source, Path(folder) / "model").output))


def checked(text: str) -> str:
    """Return a text without the space around it.

    Raises:
        InputError: it is empty or too long.
    """
    text = (text or "").strip()
    if not 1 <= len(text) <= LONGEST:
        raise InputError(f"expected a text of 1 to {LONGEST} characters, got {len(text)}")
    return text
