"""WoBertForCausalLM: its mask against a naive one, and the same tokens however they are generated."""

import logging
import warnings
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, DynamicCache, GenerationConfig, pipeline
from transformers.generation import TextStreamer
from transformers.utils.logging import warning_once

from kexue_hf import WoBertConfig, WoBertForCausalLM, WoBertForMaskedLM, WoBertForPreTraining, WoBertTokenizer
from tests.old_torch import needs_tracing

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[unused1]"]
TOKENS = [*SPECIAL, *"的一是在不了有和人这中大为上个国我以要他时来用们"]
PAD, UNK, CLS, SEP, MASK = range(5)
LIMIT = 24
# Bare generation would be half special tokens in a model with random weights.
NEVER = [PAD, UNK, CLS, MASK, 5]


def tiny_model(attention: str = "eager", **changes) -> WoBertForCausalLM:
    torch.manual_seed(3)
    config = WoBertConfig(
        vocab_size=len(TOKENS),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=24,
        max_position_embeddings=LIMIT,
        # Weights so large that what a token sees changes what it says.
        initializer_range=0.5,
        **changes,
    )
    config._attn_implementation = attention
    return WoBertForCausalLM(config).eval()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A masked language model saved with its tokenizer: nothing in it knows of generation."""
    folder = tmp_path_factory.mktemp("mlm")
    mlm = WoBertForMaskedLM(tiny_model().config)
    mlm.load_state_dict(tiny_model().state_dict())
    mlm.save_pretrained(folder)
    (folder / "words").write_text("".join(f"{token}\n" for token in TOKENS), encoding="utf-8")
    WoBertTokenizer(vocab_file=str(folder / "words")).save_pretrained(folder)
    return folder


def row(prompt: int, continuation: int = 0, left: int = 0, right: int = 0, seed: int = 0) -> dict[str, torch.Tensor]:
    """One row of random ids with so many tokens of each kind."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(6, len(TOKENS), (1, prompt + continuation), generator=generator)
    pad = torch.zeros(1, left, dtype=torch.long), torch.zeros(1, right, dtype=torch.long)
    return {
        "input_ids": torch.cat([pad[0], ids, pad[1]], 1),
        "token_type_ids": torch.tensor([[0] * (left + prompt) + [1] * continuation + [0] * right]),
        "attention_mask": torch.tensor([[0] * left + [1] * (prompt + continuation) + [0] * right]),
    }


def batch(*rows: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: torch.cat([row[name] for row in rows]) for name in rows[0]}


def attended(model: WoBertForCausalLM, inputs: dict[str, torch.Tensor], **options) -> torch.Tensor:
    """[batch, queries, keys]: who attends to whom, from the attention probabilities of the first layer."""
    return model(**inputs, output_attentions=True, **options).attentions[0][:, 0] > 0


MIXED = batch(row(5, 3, left=1), row(3, 4, right=2, seed=1), row(9, 0, seed=2), row(4, 2, left=2, right=1, seed=3))


def naive_mask(inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    """bert4keras' rule, one pair of tokens at a time."""
    types, real = inputs["token_type_ids"].tolist(), inputs["attention_mask"].tolist()
    rows = []
    for t, r in zip(types, real, strict=True):
        total = [sum(t[: i + 1]) for i in range(len(t))]
        rows.append([[bool(r[j]) and total[j] <= total[i] for j in range(len(t))] for i in range(len(t))])
    return torch.tensor(rows)


def test_the_mask_is_bert4keras_rule() -> None:
    seen, real = attended(tiny_model(), MIXED), MIXED["attention_mask"].bool()
    # What padding attends to is nobody's business.
    assert torch.equal(seen[real], naive_mask(MIXED)[real])


def test_the_types_of_padding_do_not_matter() -> None:
    model, inputs = tiny_model(), row(5, 3, left=2, right=2)
    expected = attended(model, inputs)[:, 2:10]
    inputs["token_type_ids"] = inputs["token_type_ids"].where(inputs["attention_mask"] == 1, 1)
    assert torch.equal(attended(model, inputs)[:, 2:10], expected)


def test_all_is_prompt_without_types_and_equals_the_masked_language_model() -> None:
    model = tiny_model()
    inputs = batch(row(6), row(4, right=2, seed=1))
    mlm = WoBertForMaskedLM(model.config).eval()
    mlm.load_state_dict(model.state_dict())
    expected = mlm(**inputs).logits
    del inputs["token_type_ids"]
    real = inputs["attention_mask"].bool()
    torch.testing.assert_close(model(**inputs).logits[real], expected[real], rtol=0, atol=1e-5)
    assert attended(model, row(6)).all()


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_who_depends_on_whom(attention: str) -> None:
    """Gradients of each state by the input embeddings: no continuation token, and no prompt token, sees ahead of what
    the rule allows; the prompt does see its own later tokens."""
    model, inputs = tiny_model(attention), row(5, 4)
    embeddings = model.get_input_embeddings()(inputs.pop("input_ids")).detach().requires_grad_()
    logits = model(inputs_embeds=embeddings, **inputs).logits
    for i in range(9):
        (gradient,) = torch.autograd.grad(logits[0, i].square().sum(), embeddings, retain_graph=True)
        depends = gradient[0].abs().sum(-1) > 0
        assert depends.tolist() == [j < 5 or j <= i for j in range(9)], i


def test_positions_count_real_tokens() -> None:
    model = tiny_model()
    alone, padded = row(5, 3), row(5, 3, left=4, right=2)
    torch.testing.assert_close(model(**padded).logits[:, 4:12], model(**alone).logits, rtol=0, atol=1e-5)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("new", [1, 3])
def test_a_cache_gives_the_same_scores(attention: str, new: int) -> None:
    model = tiny_model(attention)
    inputs = batch(row(5, 4), row(3, 4, left=2, seed=1))
    expected = model(**inputs).logits[:, 5:]
    cache, found = DynamicCache(config=model.config), []
    for start, end in [(0, 5), *((i, min(i + new, 9)) for i in range(5, 9, new))]:
        part = {name: inputs[name][:, start:end] for name in ("input_ids", "token_type_ids")}
        mask = inputs["attention_mask"][:, :end]
        output = model(**part, attention_mask=mask, past_key_values=cache, use_cache=True)
        assert output.past_key_values is cache
        found.append(output.logits)
    torch.testing.assert_close(torch.cat(found[1:], 1), expected, rtol=0, atol=1e-5)
    assert model(**inputs).past_key_values is None


@pytest.mark.parametrize("given", [1, 4, 7])
def test_the_mask_of_a_continued_cache_is_the_whole_texts(given: int) -> None:
    model, cache = tiny_model(), DynamicCache()
    model(**row(5), past_key_values=cache)
    new = {**row(1), "attention_mask": torch.ones(1, given, dtype=torch.long)}
    with pytest.raises(ValueError, match=f"all 6 tokens, 5 in the cache and 1 new, got one of {given};"):
        model(**new, past_key_values=cache)


def test_a_mask_of_four_dimensions_needs_positions() -> None:
    model, inputs = tiny_model(), row(5, 3, left=2)
    expected = model(**inputs).logits[:, 2:]
    real = inputs["attention_mask"].bool()
    inputs["attention_mask"] = naive_mask(inputs)[:, None]
    with pytest.raises(ValueError, match="position_ids with an attention_mask of 4 dimensions"):
        model(**inputs)
    with pytest.raises(ValueError, match=r"attention_mask \[batch, length\], got \(1, 1, 10, 10\)"):
        generated(model, inputs)
    # As numbers to be added, and rows of padding left alone: eager attention adds what it is given.
    inputs["attention_mask"] = torch.zeros(1, 1, 10, 10).masked_fill(~inputs["attention_mask"], -1e9)
    found = model(**inputs, position_ids=(real.cumsum(-1) - 1).clamp(min=0)).logits[:, 2:]
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


HOW = {
    "greedy": {},
    "beams": {"num_beams": 3},
    "beams, two each": {"num_beams": 3, "num_return_sequences": 2},
    "sampling": {"do_sample": True},
    "sampling beams": {"do_sample": True, "num_beams": 2},
    "repetition": {"repetition_penalty": 1.5, "no_repeat_ngram_size": 2},
}


def generated(model: WoBertForCausalLM, inputs: dict[str, torch.Tensor], **options) -> torch.Tensor:
    """What is written, without the prompt."""
    torch.manual_seed(0)
    options = {"max_new_tokens": 8, "suppress_tokens": NEVER, "eos_token_id": SEP, "pad_token_id": PAD, **options}
    return model.generate(**inputs, **options)[:, inputs["input_ids"].shape[1] :]


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_the_cache_changes_nothing(attention: str, how: str) -> None:
    model, inputs = tiny_model(attention), batch(row(6), row(4, left=2, seed=1), row(3, left=3, seed=2))
    cached = generated(model, inputs, **HOW[how])
    assert torch.equal(cached, generated(model, inputs, use_cache=False, **HOW[how]))
    assert len(set(map(tuple, cached.tolist()))) > 1


def test_a_static_cache_changes_nothing() -> None:
    model, inputs = tiny_model("sdpa"), batch(row(6), row(4, left=2, seed=1))
    assert torch.equal(generated(model, inputs), generated(model, inputs, cache_implementation="static"))


def test_what_is_generated_is_what_forward_says() -> None:
    """The oracle of the loop: at every step the whole text again, the new tokens of type 1."""
    model, inputs = tiny_model(), row(6)
    ids, types = inputs["input_ids"], inputs["token_type_ids"]
    for _ in range(8):
        scores = model(ids, token_type_ids=types).logits[:, -1]
        scores[:, NEVER] = -torch.inf
        ids = torch.cat([ids, scores.argmax(-1, keepdim=True)], 1)
        types = torch.cat([types, torch.ones(1, 1, dtype=torch.long)], 1)
        if ids[0, -1] == SEP:
            break
    assert torch.equal(generated(model, inputs), ids[:, 6:])


@pytest.mark.parametrize("how", ["greedy", "beams"])
@pytest.mark.parametrize("side", ["left", "right"])
def test_a_row_of_a_batch_is_the_row_alone(side: str, how: str) -> None:
    model = tiny_model()
    rows = [row(6), row(4, **{side: 2}, seed=1), row(2, **{side: 4}, seed=2)]
    together = generated(model, batch(*rows), **HOW[how])
    for index, length in enumerate((6, 4, 2)):
        alone = generated(model, row(length, seed=index), **HOW[how])
        width = alone.shape[1]
        assert torch.equal(together[index : index + 1, :width], alone) and not together[index, width:].any()


def test_padding_is_found_without_a_mask() -> None:
    model, padded = tiny_model(), row(4, right=2)
    assert torch.equal(generated(model, {"input_ids": padded["input_ids"]}), generated(model, row(4)))


def test_a_begun_continuation_goes_on() -> None:
    """token_type_ids may end in 1: those tokens are then no prompt."""
    model, inputs = tiny_model(), row(6)
    whole = generated(model, inputs, eos_token_id=None)
    ids = torch.cat([inputs["input_ids"], whole[:, :3]], 1)
    types = torch.tensor([[0] * 6 + [1] * 3])
    rest = generated(model, {"input_ids": ids, "token_type_ids": types}, max_new_tokens=5, eos_token_id=None)
    assert torch.equal(rest, whole[:, 3:])


def test_embeddings_and_positional_inputs() -> None:
    model, ids = tiny_model(), row(6)["input_ids"]
    settings = {"max_new_tokens": 6, "suppress_tokens": NEVER}
    expected = model.generate(input_ids=ids, **settings)[:, 6:]
    assert torch.equal(model.generate(ids, **settings)[:, 6:], expected)
    embeddings = model.get_input_embeddings()(ids)
    assert torch.equal(model.generate(inputs_embeds=embeddings, **settings), expected)


def test_any_masked_language_model_folder_just_works(folder: Path, tmp_path: Path) -> None:
    tokenizer = WoBertTokenizer.from_pretrained(folder)
    model, info = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    assert type(model) is WoBertForCausalLM and not info["missing_keys"] and not info["unexpected_keys"]
    settings = model.generation_config
    assert (settings.eos_token_id, settings.pad_token_id, settings.max_length) == (SEP, PAD, LIMIT)
    assert settings.suppress_tokens == NEVER
    # All special tokens are made likely: none is written but the [SEP] that ends a text.
    with torch.no_grad():
        model.cls.predictions.bias[:6] += 3
    encoded = tokenizer(["的一是在", "不了有和人这中大"], padding=True, return_tensors="pt")
    written = model.generate(**encoded)[:, encoded["input_ids"].shape[1] :]
    assert not set(written.flatten().tolist()) & {UNK, CLS, MASK, 5}
    for line in written.tolist():
        end = line.index(SEP) if SEP in line else len(line)
        assert PAD not in line[:end] and not any(line[end + 1 :])
    model.save_pretrained(tmp_path)
    again = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert again.generation_config.to_dict() == settings.to_dict()


def test_own_settings_stay(folder: Path, tmp_path: Path) -> None:
    WoBertForCausalLM.from_pretrained(folder).save_pretrained(tmp_path)
    GenerationConfig(max_new_tokens=3, eos_token_id=7, suppress_tokens=[1], do_sample=True).save_pretrained(tmp_path)
    settings = WoBertForCausalLM.from_pretrained(tmp_path).generation_config
    assert (settings.max_new_tokens, settings.eos_token_id, settings.suppress_tokens) == (3, 7, [1])
    assert settings.do_sample is True and settings.max_length is None


@pytest.mark.parametrize("where", ["config.json", "generation_config.json"])
def test_an_end_of_its_own_leaves_the_other_defaults(folder: Path, tmp_path: Path, where: str) -> None:
    WoBertForMaskedLM.from_pretrained(folder).save_pretrained(tmp_path)
    (tmp_path / "vocab.txt").write_bytes((folder / "vocab.txt").read_bytes())
    if where == "config.json":
        WoBertConfig.from_pretrained(folder, eos_token_id=7).save_pretrained(tmp_path)
    else:
        GenerationConfig(eos_token_id=7).save_pretrained(tmp_path)
    settings = WoBertForCausalLM.from_pretrained(tmp_path).generation_config
    assert (settings.eos_token_id, settings.pad_token_id, settings.suppress_tokens) == (7, PAD, NEVER)


def test_the_heads_of_pretraining_do_not_matter(folder: Path, tmp_path: Path) -> None:
    mlm = WoBertForMaskedLM.from_pretrained(folder)
    both = WoBertForPreTraining(mlm.config)
    both.load_state_dict(mlm.state_dict(), strict=False)
    both.save_pretrained(tmp_path)
    inputs = row(6)
    model, expected = WoBertForCausalLM.from_pretrained(tmp_path), WoBertForCausalLM.from_pretrained(folder)
    assert torch.equal(generated(model, inputs), generated(expected, inputs))


def test_the_pipeline_writes_the_continuation(folder: Path) -> None:
    pipe = pipeline("text-generation", model=str(folder))
    alone = pipe("的一是在", return_full_text=False, max_new_tokens=5)[0]["generated_text"]
    assert alone and "的一是在" not in alone
    (together,), _ = pipe(["的一是在", "不了有"], return_full_text=False, max_new_tokens=5, batch_size=2)
    assert together["generated_text"] == alone
    assert pipe("的一是在", max_new_tokens=5)[0]["generated_text"].startswith("的一是在")
    # Nothing said about the length: until [SEP], or where the positions end.
    assert pipe("的一是在", return_full_text=False)[0]["generated_text"].startswith(alone)


def test_a_streamer_gets_the_tokens(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, tokenizer = WoBertForCausalLM.from_pretrained(folder), WoBertTokenizer.from_pretrained(folder)
    encoded, streamer = tokenizer("的一是", return_tensors="pt"), TextStreamer(tokenizer, skip_prompt=True)
    capsys.readouterr()
    ids = model.generate(**encoded, max_new_tokens=4, streamer=streamer)[0, encoded["input_ids"].shape[1] :]
    written = capsys.readouterr().out.strip()
    assert len(ids) == 4 and written == tokenizer.decode(ids)


@pytest.mark.parametrize("how", ["greedy", "beams"])
class TestLimit:
    def test_up_to_the_last_position(self, how: str) -> None:
        model = tiny_model()
        # The last token is written and never read: it needs no position.
        written = generated(model, row(6), max_new_tokens=LIMIT - 5, eos_token_id=None, **HOW[how])
        assert written.shape == (1, LIMIT - 5)
        # Padding needs none either.
        padded = batch(row(6, left=6), row(4, left=8, seed=1))
        assert generated(model, padded, max_new_tokens=LIMIT - 5, eos_token_id=None, **HOW[how]).shape[1] == LIMIT - 5

    @pytest.mark.parametrize("options", [{"max_new_tokens": LIMIT - 4}, {"max_new_tokens": None, "max_length": 40}])
    def test_one_more_is_refused(self, how: str, options: dict) -> None:
        with pytest.raises(ValueError, match=r"in all.*prompt of 6 and \d+ new tokens; cut the prompt"):
            generated(tiny_model(), row(6), **options, **HOW[how])

    def test_a_prompt_that_fills_them_is_refused(self, how: str) -> None:
        with pytest.raises(ValueError, match=f"fewer than {LIMIT} tokens.*got {LIMIT};"):
            generated(tiny_model(), row(LIMIT), **HOW[how])

    def test_the_default_is_where_they_end(self, how: str) -> None:
        model = tiny_model()
        ids = model.generate(**row(6, left=4), suppress_tokens=NEVER, **HOW[how])
        assert ids.shape[1] == LIMIT + 4


@pytest.mark.parametrize(
    ("options", "warned"),
    [
        ({"max_new_tokens": 6}, False),
        ({"generation_config": GenerationConfig(max_new_tokens=6)}, False),
        ({"generation_config": GenerationConfig(suppress_tokens=NEVER)}, False),
        ({"max_new_tokens": 6, "max_length": 20}, True),
        ({"generation_config": GenerationConfig(max_new_tokens=6, max_length=20)}, True),
    ],
    ids=["option", "configuration", "configuration without a length", "both options", "both in a configuration"],
)
def test_only_who_gives_two_lengths_is_warned(
    options: dict, warned: bool, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, inputs = tiny_model(), row(6)
    given = options.get("generation_config")
    before = None if given is None else given.to_dict()
    # What is logged there reaches pytest, or not, as whoever set transformers' logging up before has it.
    logger = logging.getLogger("transformers.generation.utils")
    monkeypatch.setattr(logger, "handlers", [caplog.handler])
    monkeypatch.setattr(logger, "propagate", False)
    warning_once.cache_clear()
    ids = model.generate(**inputs, **options)
    assert [record.getMessage()[:5] for record in caplog.records] == ["Both "] * warned
    assert ids.shape[1] == (12 if given is None or given.max_new_tokens else LIMIT)
    assert given is None or given.to_dict() == before


def test_forward_refuses_more_tokens_than_positions() -> None:
    with pytest.raises(ValueError, match=f"at most {LIMIT} tokens.*got {LIMIT + 1}; cut"):
        tiny_model()(**row(LIMIT + 1))
    assert tiny_model()(**row(LIMIT, left=5)).logits.shape[1] == LIMIT + 5


def test_segments_in_the_wrong_order() -> None:
    model, inputs = tiny_model(), batch(row(6), row(6, seed=1))
    inputs["token_type_ids"] = torch.tensor([[0, 0, 1, 1, 1, 1], [0, 1, 1, 0, 0, 1]])
    message = "got a 0 after a 1 in row 1, token 3; put the prompt first"
    with pytest.raises(ValueError, match=message):
        generated(model, inputs)
    with pytest.warns(UserWarning, match=message) as caught:
        seen = attended(model, inputs)
    assert [Path(warning.filename) for warning in caught] == [Path(__file__)]
    # From the first 1 on nobody sees ahead, whatever the types say.
    assert torch.equal(seen[1, 1:], torch.ones(6, 6, dtype=torch.bool).tril()[1:])
    padded = row(3, 2, right=2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model(**padded)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"token_type_ids": torch.zeros(1, 4, dtype=torch.long)}, r"shape \(1, 6\), got \(1, 4\)"),
        ({"token_type_ids": torch.tensor([[0, 0, 0, 1, 1, 2]])}, r"below 2 \(type_vocab_size\).*got 0 to 2"),
        ({"token_type_ids": torch.tensor([[0, 0, 0, 1, 1, -1]])}, r"below 2 \(type_vocab_size\).*got -1 to 1"),
        (batch(row(6), row(0, left=6)), "a prompt of at least one token, got none in row 1"),
        (row(0), "a prompt of at least one token, got none in row 0"),
        ({"input_ids": torch.tensor([6, 7])}, r"at least one token: input_ids \[batch, length\]"),
    ],
    ids=["shape of types", "type 2", "type -1", "a row of padding", "empty", "no batch"],
)
def test_what_is_no_prompt(options: dict, message: str) -> None:
    inputs = {**row(6), **options}
    with pytest.raises(ValueError, match=message):
        tiny_model().generate(**inputs, max_new_tokens=4)


def test_without_any_prompt() -> None:
    with pytest.raises(ValueError, match="at least one token"):
        tiny_model().generate(bos_token_id=CLS, max_new_tokens=4)


def test_a_model_without_a_type_for_what_it_writes() -> None:
    with pytest.raises(ValueError, match=r"type_vocab_size of 2.*got 1"):
        generated(tiny_model(type_vocab_size=1), row(6))


@pytest.mark.parametrize("name", ["prefill_chunk_size", "prompt_lookup_num_tokens", "assistant_early_exit"])
class TestPromptInParts:
    def test_is_refused(self, name: str) -> None:
        with pytest.raises(ValueError, match=f"{name} is not possible with a UniLM"):
            generated(tiny_model(), {**row(6), name: 1})
        with pytest.raises(ValueError, match=f"{name} is not possible with a UniLM"):
            tiny_model().generate(**row(6), generation_config=GenerationConfig(**{name: 1}))

    def test_is_refused_in_the_folder(self, name: str, folder: Path, tmp_path: Path) -> None:
        WoBertForCausalLM.from_pretrained(folder).save_pretrained(tmp_path)
        GenerationConfig(**{name: 1}).save_pretrained(tmp_path)
        model = WoBertForCausalLM.from_pretrained(tmp_path)
        for options in ({}, {"generation_config": GenerationConfig(max_new_tokens=4)}):
            with pytest.raises(ValueError, match=f"{name} is not possible.*out of the generation_config"):
                model.generate(**row(6), **options)
        # Unless the call puts it right.
        assert torch.equal(generated(model, {**row(6), name: None}), generated(tiny_model(), row(6)))


def test_continuous_batching_is_refused() -> None:
    model, ids = tiny_model(), row(6)["input_ids"]
    for start in (
        lambda: model.generate_batch(ids.tolist(), max_new_tokens=4),
        lambda: model.init_continuous_batching(),
        lambda: model.continuous_batching_context_manager().__enter__(),
        lambda: model.generate(ids, cache_implementation="paged", max_new_tokens=4),
    ):
        with pytest.raises(ValueError, match="continuous batching is not possible with a UniLM"):
            start()


def labelled() -> dict[str, torch.Tensor]:
    inputs = batch(row(5, 4), row(3, 4, right=2, seed=1), row(6, 2, right=1, seed=2))
    wanted = inputs["token_type_ids"].bool()
    return {**inputs, "labels": inputs["input_ids"].where(wanted, -100)}


def test_the_loss_is_of_the_next_token() -> None:
    model, inputs = tiny_model(), labelled()
    output = model(**inputs)
    logs = output.logits.log_softmax(-1)
    picked = [
        -logs[row, i - 1, inputs["labels"][row, i]]
        for row in range(3)
        for i in range(1, 9)
        if inputs["labels"][row, i] != -100
    ]
    assert len(picked) == 10
    torch.testing.assert_close(output.loss, torch.stack(picked).mean())
    shifted = torch.nn.functional.pad(inputs.pop("labels")[:, 1:], (0, 1), value=-100)
    torch.testing.assert_close(model(**inputs, shift_labels=shifted).loss, output.loss)


def test_scores_of_some_positions_only() -> None:
    model, inputs = tiny_model(), row(5, 3)
    logits = model(**inputs).logits
    torch.testing.assert_close(model(**inputs, logits_to_keep=2).logits, logits[:, -2:])
    some = torch.tensor([1, 4])
    torch.testing.assert_close(model(**inputs, logits_to_keep=some).logits, logits[:, some])
    for keep in (2, some):
        with pytest.raises(ValueError, match="give shift_labels instead"):
            model(**inputs, logits_to_keep=keep, labels=inputs["input_ids"])
    wanted = inputs["input_ids"][:, some + 1]
    expected = torch.nn.functional.cross_entropy(logits[0, some], wanted[0])
    torch.testing.assert_close(model(**inputs, logits_to_keep=some, shift_labels=wanted).loss, expected)
    output = model(**inputs, output_hidden_states=True)
    assert len(output.hidden_states) == 3 and output.hidden_states[0].shape == (1, 8, 16)


@needs_tracing
def test_export_with_types() -> None:
    model, inputs = tiny_model("sdpa"), row(5, 3)
    exported = torch.export.export(model, (), kwargs=inputs).module()
    other = row(2, 6, seed=4)
    torch.testing.assert_close(exported(**other).logits, model(**other).logits)
