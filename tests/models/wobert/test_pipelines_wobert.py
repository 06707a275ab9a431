"""transformers' pipelines over WoBERT models and tokenizer."""

import pytest
import torch
from transformers import pipeline

from kexue_hf import WoBertTokenizer
from tests.models.tiny_models import tiny_model

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = [*SPECIAL, "，", "。", "我", "在", "北京", "上海", "工作", "喜欢", "天", "安", "门", "ni", "##ce", "张", "三"]
TEXT = "张三在北京工作，喜欢天安门。 Nice"


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> WoBertTokenizer:
    path = tmp_path_factory.mktemp("vocabulary") / "vocab.txt"
    path.write_text("".join(f"{word}\n" for word in WORDS), encoding="utf-8")
    return WoBertTokenizer(vocab_file=str(path))


def model(head: str, **changes):
    return tiny_model(head, vocab_size=len(WORDS), max_position_embeddings=64, **changes)


def test_fill_mask(tokenizer: WoBertTokenizer) -> None:
    fill = pipeline("fill-mask", model=model("WoBertForMaskedLM"), tokenizer=tokenizer, top_k=len(WORDS))
    answers = fill("我在[MASK]工作")
    assert sum(answer["score"] for answer in answers) == pytest.approx(1, abs=1e-4)
    by_word = {answer["token_str"]: answer["sequence"] for answer in answers}
    assert by_word["北京"] == "我在北京工作"
    chosen = fill("我在[MASK]工作", targets=["北京", "上海"], top_k=2)
    assert {answer["token_str"] for answer in chosen} == {"北京", "上海"}
    assert len(fill("我在[MASK][MASK]")) == 2


def test_text_classification(tokenizer: WoBertTokenizer) -> None:
    classify = pipeline("text-classification", model=model("WoBertForSequenceClassification"), tokenizer=tokenizer)
    single = classify(TEXT, top_k=None)
    assert {answer["label"] for answer in single} == {"LABEL_0", "LABEL_1"}
    batched = classify([TEXT, "我", TEXT], batch_size=2)
    assert batched[0]["score"] == pytest.approx(max(answer["score"] for answer in single), abs=1e-5)
    assert classify({"text": TEXT, "text_pair": "北京"})


@pytest.mark.parametrize("strategy", ["none", "simple", "first", "average", "max"])
def test_token_classification_reports_raw_positions(tokenizer: WoBertTokenizer, strategy: str) -> None:
    labels = {0: "O", 1: "B-LOC", 2: "I-LOC"}
    network = model("WoBertForTokenClassification", id2label=labels, label2id={v: k for k, v in labels.items()})
    network.classifier.bias.data[:] = torch.tensor([-9.0, 0.0, 0.0])
    find = pipeline("token-classification", model=network, tokenizer=tokenizer, aggregation_strategy=strategy)
    found = find(TEXT)
    assert found
    for entity in found:
        piece = TEXT[entity["start"] : entity["end"]].lower()
        assert piece
        if strategy == "none":
            assert entity["word"].removeprefix("##") == piece
    assert found[0]["start"] == 0 and found[-1]["end"] == len(TEXT)


def test_feature_extraction(tokenizer: WoBertTokenizer) -> None:
    network = model("WoBertModel")
    features = pipeline("feature-extraction", model=network, tokenizer=tokenizer)(TEXT, return_tensors=True)
    with torch.no_grad():
        expected = network(**tokenizer(TEXT, return_tensors="pt")).last_hidden_state
    torch.testing.assert_close(features, expected)


def test_an_answer_is_found_by_offsets(tokenizer: WoBertTokenizer) -> None:
    """What the question-answering pipeline did before transformers 5 dropped it: windows, spans, raw text."""
    context = "我喜欢上海。" * 12 + "张三在北京工作。"
    windows = tokenizer(
        "张三在",
        context,
        max_length=32,
        stride=8,
        truncation="only_second",
        padding=True,
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
        return_tensors="pt",
    )
    owners = windows.pop("overflow_to_sample_mapping")
    offsets = windows.pop("offset_mapping")
    assert len(owners) > 1 and set(owners.tolist()) == {0}
    with torch.no_grad():
        output = model("WoBertForQuestionAnswering")(**windows)
    assert output.start_logits.shape == windows["input_ids"].shape
    covered: set[int] = set()
    for row in range(len(owners)):
        for position, owner in enumerate(windows.sequence_ids(row)):
            start, end = (int(value) for value in offsets[row][position])
            if owner == 1:
                assert context[start:end] == tokenizer.convert_ids_to_tokens(int(windows["input_ids"][row][position]))
                covered.update(range(start, end))
    assert covered == set(range(len(context)))
