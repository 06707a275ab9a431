"""Xiangqi GPT against transformers' BERT decoder; positions, cache, classifier and limits.

Parity with the original code is in `test_parity.py`.
"""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import BertConfig, BertLMHeadModel, DataCollatorForLanguageModeling, DynamicCache

from kexue_hf import (
    XiangqiGptConfig,
    XiangqiGptForCausalLM,
    XiangqiGptForSequenceClassification,
    XiangqiGptModel,
    XiangqiTokenizer,
)
from tests.fresh_process import run_elsewhere
from tests.models.tiny_models import SIZES, tiny_model, trained_model

GAMES = ["h2e2h9g7h0g2", "h2e2", ""]
CAUSAL = "XiangqiGptForCausalLM"


def model_for(vocab: str = "characters", name: str = CAUSAL, **changes: Any) -> tuple[Any, XiangqiTokenizer]:
    tokenizer = XiangqiTokenizer(vocab=vocab)
    return trained_model(name, vocab_size=len(tokenizer), max_position_embeddings=24, **changes), tokenizer


def test_the_network_is_berts_decoder() -> None:
    model, tokenizer = model_for()
    fields = {key: value for key, value in model.config.to_dict().items() if hasattr(BertConfig(), key)}
    bert = BertLMHeadModel(BertConfig(**fields)).eval()
    assert bert.config.is_decoder
    bert.load_state_dict(model.state_dict())
    batch = tokenizer(GAMES, padding=True, padding_side="right", return_tensors="pt")
    torch.testing.assert_close(model(**batch).logits, bert(**batch).logits)
    others = {"position_ids": torch.arange(13).flip(0)[None], "token_type_ids": torch.ones_like(batch["input_ids"])}
    torch.testing.assert_close(model(**batch, **others).logits, bert(**batch, **others).logits)
    # The loss is their shifted one too; [PAD] has none.
    labels = DataCollatorForLanguageModeling(tokenizer, mlm=False)([tokenizer(game) for game in GAMES])["labels"]
    assert (labels >= 0).sum() == 16
    torch.testing.assert_close(model(**batch, labels=labels).loss, bert(**batch, labels=labels).loss)


@pytest.mark.parametrize("name", [CAUSAL, "XiangqiGptForSequenceClassification"])
def test_padding_on_either_side_changes_nothing(name: str) -> None:
    """Without position_ids; both heads read a game's last token."""
    model, tokenizer = model_for(name=name)
    for side in ("left", "right"):
        batch = tokenizer(GAMES, padding=True, padding_side=side, return_tensors="pt")
        logits = model(**batch).logits
        for row, game in enumerate(GAMES):
            alone = model(**tokenizer(game, return_tensors="pt")).logits[0]
            padded = logits[row][batch["attention_mask"][row].bool()] if logits.dim() == 3 else logits[row]
            torch.testing.assert_close(padded, alone)


def test_the_classifier_reads_the_last_real_token() -> None:
    model, tokenizer = model_for(name="XiangqiGptForSequenceClassification")
    assert model.config.id2label == {0: "1-0", 1: "1/2-1/2", 2: "0-1"}
    batch = tokenizer(GAMES, padding=True, padding_side="right", return_tensors="pt")
    states = model.bert(**batch).last_hidden_state
    expected = model.classifier(states[[0, 1, 2], [12, 4, 0]])
    torch.testing.assert_close(model(**batch).logits, expected)
    # Without a mask, [PAD] is padding, but for the first.
    torch.testing.assert_close(model(batch["input_ids"]).logits, expected)
    wide = batch["attention_mask"][:, None, None].bool().expand(-1, 1, 13, -1) & torch.ones(13, 13).tril().bool()
    torch.testing.assert_close(model(**{**batch, "attention_mask": wide}).logits, expected)
    # A history in the cache, and a mask that covers it.
    batch = tokenizer(["h2e2h9g7h0g2", "h2e2h9g7"], padding=True, padding_side="right", return_tensors="pt")
    past = model(batch["input_ids"][:, :5], use_cache=True)
    after = model(batch["input_ids"][:, 5:], batch["attention_mask"], cache=past.past_key_values)
    torch.testing.assert_close(after.logits, model(**batch).logits)


def test_the_number_of_labels_is_the_users() -> None:
    assert XiangqiGptConfig(num_labels=3).id2label == {0: "LABEL_0", 1: "LABEL_1", 2: "LABEL_2"}
    assert XiangqiGptConfig(num_labels=2).id2label == {0: "LABEL_0", 1: "LABEL_1"}
    named = XiangqiGptConfig(id2label={0: "red", 1: "black"})
    assert named.num_labels == 2 and XiangqiGptConfig.from_dict(named.to_dict()).id2label == named.id2label


@pytest.mark.parametrize("vocab", ["characters", "squares"])
def test_generate_is_step_by_step_the_best_token(vocab: str) -> None:
    """With a cache and padding on the left."""
    model, tokenizer = model_for(vocab)
    batch = tokenizer(GAMES, padding=True, return_tensors="pt")
    found = model.generate(**batch, max_new_tokens=6, min_new_tokens=6)
    for row, game in enumerate(GAMES):
        ids = tokenizer(game, return_tensors="pt")["input_ids"]
        for _ in range(6):
            ids = torch.cat([ids, model(ids).logits[:, -1, 1:].argmax(-1, keepdim=True) + 1], -1)
        assert found[row, -6:].tolist() == ids[0, -6:].tolist()
    for options in ({"use_cache": False}, {"cache_implementation": "static"}, {"prefill_chunk_size": 3}):
        assert torch.equal(found, model.generate(**batch, max_new_tokens=6, min_new_tokens=6, **options)), options


def test_generate_starts_a_game_and_ends_it_by_pad() -> None:
    model, tokenizer = model_for()
    assert model.generate(max_new_tokens=3, min_new_tokens=3).shape == (1, 4)
    with torch.no_grad():
        model.cls.predictions.bias[0] = 1e4
    assert model.generate(**tokenizer("h2e2", return_tensors="pt"), max_new_tokens=9)[0].tolist() == [
        0,
        18,
        3,
        15,
        3,
        0,
    ]


def test_a_cache_is_returned_only_if_asked_for() -> None:
    model, tokenizer = model_for()
    batch = tokenizer("h2e2", return_tensors="pt")
    for one in (model, model.bert):
        assert one(**batch).past_key_values is None
        assert one(**batch, use_cache=True).past_key_values.get_seq_length() == 5
        cache = DynamicCache(config=model.config)
        assert one(**batch, cache=cache).past_key_values is cache


def test_games_beyond_the_positions() -> None:
    model, tokenizer = model_for()
    long = tokenizer("h2e2" * 6, return_tensors="pt")
    with pytest.raises(ValueError, match=r"at most 24 tokens .*got 25: cut it"):
        model(**long)
    # Padding needs no position, on either side.
    games = ["h2e2" * 5, "h2e2"]
    for side in ("left", "right"):
        batch = tokenizer(games, padding="max_length", max_length=30, padding_side=side, return_tensors="pt")
        logits = model(**batch).logits
        for row, game in enumerate(games):
            alone = model(**tokenizer(game, return_tensors="pt")).logits[0]
            real = batch["attention_mask"][row] == 1
            torch.testing.assert_close(logits[row, real], alone, atol=1e-5, rtol=0)
        with pytest.raises(ValueError, match=r"at most 24 tokens .*got 25"):
            model(
                **tokenizer(["h2e2" * 6], padding="max_length", max_length=30, padding_side=side, return_tensors="pt")
            )
    whole = tokenizer("h2e2" * 5, return_tensors="pt")
    with pytest.raises(ValueError, match=r"at most 24 tokens .*got 25"):
        model.generate(**whole, max_new_tokens=8, min_new_tokens=8)
    assert model.generate(**whole, max_new_tokens=4, min_new_tokens=4).shape == (1, 25)


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        (
            {"attention_mask": torch.ones(1, 4)},
            "of all 5 tokens, 0 in the cache and 5 new, got one of 4",
        ),
        ({"labels": torch.zeros(1, 5).long(), "logits_to_keep": 1}, "give shift_labels instead"),
    ],
)
def test_inputs_that_do_not_fit(keywords: dict[str, Any], message: str) -> None:
    model, tokenizer = model_for()
    with pytest.raises(ValueError, match=message):
        model(tokenizer("h2e2", return_tensors="pt")["input_ids"], **keywords)


def test_labels_of_chosen_tokens() -> None:
    model, tokenizer = model_for()
    ids = tokenizer("h2e2h9g7", return_tensors="pt")["input_ids"]
    whole = model(ids, labels=ids.masked_fill(torch.arange(9) < 5, -100)).loss
    chosen = model(ids, shift_labels=ids[:, 5:], logits_to_keep=torch.arange(4, 8))
    torch.testing.assert_close(chosen.loss, whole)
    assert chosen.logits.shape == (1, 4, 20)


def test_generate_refuses_padding_on_the_right() -> None:
    model, tokenizer = model_for()
    batch = tokenizer(GAMES, padding=True, padding_side="right", return_tensors="pt")
    with pytest.raises(ValueError, match="padded on the left, got padding at its end"):
        model.generate(**batch, max_new_tokens=2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"is_decoder": False}, "from left to right"), ({"add_cross_attention": True}, "no encoder to attend to")],
)
def test_other_networks_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tiny_model("XiangqiGptModel", **changes)
    config = XiangqiGptConfig(**SIZES)
    for key, value in changes.items():
        setattr(config, key, value)
    for model_class in (XiangqiGptModel, XiangqiGptForCausalLM, XiangqiGptForSequenceClassification):
        with pytest.raises(ValueError, match=message):
            model_class(config)


def test_the_classifier_starts_from_the_language_model(tmp_path: Path) -> None:
    model, _ = model_for()
    model.save_pretrained(tmp_path)
    found, info = XiangqiGptForSequenceClassification.from_pretrained(tmp_path, output_loading_info=True)
    assert set(info["missing_keys"]) == {"classifier.weight", "classifier.bias"} and not info["unexpected_keys"]
    for key, value in found.bert.state_dict().items():
        assert torch.equal(value, model.bert.state_dict()[key])


PLAY = """
import json, sys
sys.modules["kexue_hf"] = None
import transformers
folder, games, target = sys.argv[1], json.loads(sys.argv[2]), sys.argv[3]
tokenizer = transformers.AutoTokenizer.from_pretrained(folder, trust_remote_code=True)
model = transformers.AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True)
batch = tokenizer(games, padding=True, return_tensors="pt")
ids = model.generate(**batch, max_new_tokens=8, min_new_tokens=8)
json.dump([type(model).__module__.partition(".")[0], tokenizer.batch_decode(ids)], open(target, "w"))
"""


def test_a_copy_without_the_package_plays_the_same_moves(tmp_path: Path) -> None:
    model, tokenizer = model_for("squares")
    model.save_pretrained(tmp_path / "saved")
    tokenizer.save_pretrained(tmp_path / "saved")
    run_elsewhere(PLAY, tmp_path, tmp_path / "saved", json.dumps(GAMES), tmp_path / "played.json")
    ids = model.generate(**tokenizer(GAMES, padding=True, return_tensors="pt"), max_new_tokens=8, min_new_tokens=8)
    found = json.loads((tmp_path / "played.json").read_text())
    assert found == ["transformers_modules", tokenizer.batch_decode(ids)]


class TestValueHead:
    def test_it_is_the_classifier_at_every_token(self, tmp_path: Path) -> None:
        model, tokenizer = model_for(value_head=True)
        model.save_pretrained(tmp_path)
        value = XiangqiGptForSequenceClassification.from_pretrained(tmp_path)
        batch = tokenizer("h2e2h9g7", return_tensors="pt")
        logits = model(**batch).value_logits
        assert logits.shape == (1, 9, 3)
        for length in (1, 5, 9):
            torch.testing.assert_close(logits[:, length - 1], value(batch["input_ids"][:, :length]).logits)
        assert model(**batch, logits_to_keep=1).value_logits.shape == (1, 1, 3)
        assert model_for()[0](**batch).value_logits is None

    def test_its_loss_is_a_mean_over_the_labels_of_known_games(self) -> None:
        model, tokenizer = model_for(value_head=True, value_loss_weight=0.5)
        batch = tokenizer(["h2e2", "b2e2"], return_tensors="pt")
        labels = batch["input_ids"].clone()
        labels[0, 3:] = -100
        outputs = model(**batch, labels=labels, results=torch.tensor([2, -100]))
        policy = model(**batch, labels=labels).loss
        own = torch.nn.functional.cross_entropy(outputs.value_logits[0, :2], torch.full((2,), 2))
        torch.testing.assert_close(outputs.loss, policy + 0.5 * own)
        # Under accumulation both are divided by the number of labels of the whole batch.
        counted = model(**batch, labels=labels, results=torch.tensor([2, -100]), num_items_in_batch=12).loss
        torch.testing.assert_close(counted, policy * 6 / 12 + 0.5 * own * 2 / 12)
        assert model(**batch, labels=labels, results=torch.tensor([-100, -100])).loss == policy

    @pytest.mark.parametrize(
        ("changes", "given"), [({}, {"labels"}), ({"value_head": True}, set())], ids=["no head", "no labels"]
    )
    def test_results_that_would_have_no_effect_are_refused(self, changes: dict[str, Any], given: set[str]) -> None:
        model, tokenizer = model_for(**changes)
        ids = tokenizer("h2e2", return_tensors="pt")["input_ids"]
        with pytest.raises(ValueError, match=r"set config.value_head=True, and give labels too"):
            model(ids, results=torch.tensor([0]), **dict.fromkeys(given, ids))

    def test_a_negative_weight_is_refused(self) -> None:
        with pytest.raises(ValueError, match="value_loss_weight must be 0 or more, got -1"):
            XiangqiGptConfig(value_loss_weight=-1.0)
