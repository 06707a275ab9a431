"""All functions that take texts take any iterable of strings; a string is one text."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from kexue_hf import Corrector, rerank, score_texts, sentence_vectors
from kexue_hf.pipelines.sentence_vectors_pipeline import SentenceVectorsPipeline
from kexue_hf.pipelines.text_correction_pipeline import TextCorrectionPipeline
from kexue_hf.pipelines.text_scoring import score_stream
from kexue_hf.pipelines.text_scoring_pipeline import TextScoringPipeline
from tests.pipelines.correction_models import make

TEXTS = ["今天天气不错", "我们去看书", "天气"]
FORMS: dict[str, Callable[[list[str]], Any]] = {
    "tuple": tuple,
    "generator": lambda texts: (text for text in texts),
    "dictionary's keys": lambda texts: dict.fromkeys(texts).keys(),
    "array": np.array,
    "array of objects": lambda texts: np.array(texts, dtype=object),
    "series": pd.Series,
    "series with an index of its own": lambda texts: pd.Series(texts, index=[7, 3, 5]),
}
FUNCTIONS: dict[str, Callable[..., Any]] = {
    "score_texts": lambda model, tokenizer, texts: [one.log_prob for one in score_texts(model, tokenizer, texts)],
    "score_stream": lambda model, tokenizer, texts: [one.log_prob for one in score_stream(model, tokenizer, texts)],
    "sentence_vectors": lambda model, tokenizer, texts: sentence_vectors(model, tokenizer, texts).tolist(),
    "Corrector.correct": lambda model, tokenizer, texts: [
        one.corrected for one in Corrector(model, tokenizer, candidates="top_k").correct(texts)
    ],
    "Corrector.stream": lambda model, tokenizer, texts: [
        one.corrected for one in Corrector(model, tokenizer, candidates="top_k").stream(texts)
    ],
    "Corrector.propose": lambda model, tokenizer, texts: [
        len(one) for one in Corrector(model, tokenizer, candidates="top_k").propose(texts)
    ],
    "rerank": lambda model, tokenizer, texts: [one.text for one in rerank(model, tokenizer, texts)],
}
PIPELINES = {
    "text-scoring": (TextScoringPipeline, {}),
    "sentence-vectors": (SentenceVectorsPipeline, {}),
    "text-correction": (TextCorrectionPipeline, {"candidates": "top_k"}),
}


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    return make("tta", tmp_path_factory.mktemp("tta"))


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("function", FUNCTIONS.values(), ids=FUNCTIONS)
def test_every_form_equals_a_list(pair, function: Any, form: Callable[[list[str]], Iterable[str]]) -> None:
    assert function(*pair, form(TEXTS)) == function(*pair, TEXTS)


@pytest.mark.parametrize("function", FUNCTIONS.values(), ids=FUNCTIONS)
class TestOneText:
    def test_a_string_is_one_text(self, pair, function: Any) -> None:
        assert function(*pair, TEXTS[0]) == function(*pair, TEXTS[:1])

    @pytest.mark.parametrize(
        ("given", "message"),
        [
            (pd.DataFrame({"text": TEXTS}), "got a DataFrame: pass one of its columns"),
            ({"text": "天气"}, "got a dict"),
            (b"text", "got a bytes"),
            (7, "an iterable of texts, got int"),
            (None, "an iterable of texts, got NoneType"),
            (np.array("天气"), "an iterable of texts, got ndarray"),
            (["天气", None], "text 1 must be a string, got NoneType"),
            (pd.Series(["天气", np.nan]), "text 1 must be a string, got float"),
            (["\ud800"], "text 0 contains an unpaired surrogate"),
        ],
        ids=["table", "dictionary", "bytes", "number", "none", "array of one", "none in it", "nan in it", "surrogate"],
    )
    def test_non_texts_are_refused(self, pair, function: Any, given: Any, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            function(*pair, given)


@pytest.mark.parametrize("form", ["tuple", "array", "series"])
@pytest.mark.parametrize("task", PIPELINES)
def test_pipelines_take_every_form(pair, task: str, form: str) -> None:
    kind, options = PIPELINES[task]
    pipe = kind(model=pair[0], tokenizer=pair[1], **options)
    assert repr(pipe(FORMS[form](TEXTS))) == repr(pipe(TEXTS))


@pytest.mark.parametrize(
    ("head", "message"),
    [
        ("GPT2LMHeadModel", "predicts the next token"),
        ("PerformerBertForCausalLM", "predicts the next token"),
        ("WoBertForCausalLM", "predicts the next token"),
        ("BertModel", "does not score the vocabulary"),
        ("TtaModel", "does not score the vocabulary"),
        ("BertForSequenceClassification", "does not score the vocabulary"),
        ("WoBertForTokenClassification", "does not score the vocabulary"),
        ("a decoder under another name", "do not depend on the tokens after it"),
    ],
)
@pytest.mark.parametrize("function", ["score_texts", "Corrector.correct", "rerank"])
def test_only_a_masked_language_model_scores(pair, tmp_path: Path, head: str, message: str, function: str) -> None:
    with pytest.raises(ValueError, match=f"expected a masked language model.*{message}"):
        FUNCTIONS[function](head_of(head, pair[0].config), pair[1], TEXTS)


@pytest.mark.parametrize("head", ["BertForPreTraining", "WoBertForPreTraining", "NezhaForPreTraining"])
def test_a_pre_training_head_scores_like_its_masked_language_model(pair, tmp_path: Path, head: str) -> None:
    model = head_of(head, pair[0].config)
    model.save_pretrained(tmp_path)
    alone = head_of(head.replace("PreTraining", "MaskedLM"), pair[0].config).from_pretrained(tmp_path).eval()
    for function in ("score_texts", "Corrector.correct"):
        expected, found = (FUNCTIONS[function](one, pair[1], TEXTS) for one in (alone, model))
        assert found == pytest.approx(expected) if function == "score_texts" else found == expected


def head_of(name: str, config: Any) -> Any:
    import torch
    import transformers

    import kexue_hf

    torch.manual_seed(0)
    sizes = {"vocab_size": config.vocab_size, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    if "decoder" in name:
        decoder = transformers.BertLMHeadModel(transformers.BertConfig(**sizes, is_decoder=True))
        decoder.__class__ = type("BertForWords", (transformers.BertLMHeadModel,), {})
        return decoder.eval()
    kind = getattr(kexue_hf, name, None) or getattr(transformers, name)
    return kind(kind.config_class(**sizes)).eval()
