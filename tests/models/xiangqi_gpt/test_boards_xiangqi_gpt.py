"""The boards that a model works out from moves, and the model that reads them."""

from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import cpu_offload
from transformers import DynamicCache

from kexue_hf import LegalMoves, XiangqiTokenizer
from kexue_hf.models.xiangqi_gpt.boards_xiangqi_gpt import PIECES, boards_of
from kexue_hf.xiangqi import Board
from kexue_hf.xiangqi.coordinates import squares_of
from tests.fresh_process import run_elsewhere
from tests.models.tiny_models import trained_model
from tests.old_torch import needs_tracing
from tests.xiangqi.sample_games import GAMES

VOCABS = ("squares", "characters")
GAME = GAMES[0][0].split()


def classes_of(board: Board) -> list[int]:
    return [piece if piece >= 0 else 7 - piece for piece in board.squares]


def model_for(vocab: str, **changes: Any) -> tuple[Any, XiangqiTokenizer]:
    tokenizer = XiangqiTokenizer(vocab=vocab)
    fields = {"vocab_size": len(tokenizer), "max_position_embeddings": 200, "board_input": True, **changes}
    return trained_model("XiangqiGptForCausalLM", **fields).eval(), tokenizer


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("vocab", VOCABS)
def test_boards_are_those_of_the_rules(vocab: str, side: str) -> None:
    tokenizer = XiangqiTokenizer(vocab=vocab)
    games = [GAME, GAMES[1][0].split()[:5], []]
    batch = tokenizer([" ".join(game) for game in games], padding=True, padding_side=side, return_tensors="pt")
    boards = boards_of(batch["input_ids"], tokenizer.ids_per_move // 2)
    assert boards.shape == (*batch["input_ids"].shape, 90) and boards.dtype == torch.uint8
    for row, game in enumerate(games):
        real = boards[row][batch["attention_mask"][row].bool()]
        board = Board()
        for place in range(len(real)):
            if place and place % tokenizer.ids_per_move == 0:
                board.push(game[place // tokenizer.ids_per_move - 1])
            expected = classes_of(board)
            half = tokenizer.ids_per_move // 2
            if place and (place - 1) % tokenizer.ids_per_move >= half - 1 and place % tokenizer.ids_per_move:
                origin, _ = squares_of(game[(place - 1) // tokenizer.ids_per_move])
                expected[origin] += PIECES
            assert real[place].tolist() == expected, place


@pytest.mark.parametrize("vocab", VOCABS)
def test_any_ids_have_boards(vocab: str) -> None:
    """Moves that cannot be made, and half moves, are no error."""
    size = len(XiangqiTokenizer(vocab=vocab))
    ids = torch.randint(0, size, (8, 40), generator=torch.Generator().manual_seed(0))
    assert boards_of(ids, 1 if size > 20 else 2).max() <= 2 * PIECES


@pytest.mark.parametrize("vocab", VOCABS)
def test_the_board_counts_and_the_cache_continues_it(vocab: str) -> None:
    model, tokenizer = model_for(vocab)
    ids = tokenizer(" ".join(GAME[:6]), return_tensors="pt")["input_ids"]
    boards = boards_of(ids, model.config.ids_per_square)
    whole = model(ids).logits
    torch.testing.assert_close(model(ids, boards=boards).logits, whole)
    assert (model(ids, boards=torch.zeros_like(boards)).logits - whole).abs().max() > 1e-3
    embedded = model.get_input_embeddings()(ids)
    torch.testing.assert_close(model(inputs_embeds=embedded, boards=boards).logits, whole)
    cache = DynamicCache(config=model.config)
    model(ids[:, :7], cache=cache)
    torch.testing.assert_close(model(ids[:, 7:], cache=cache, boards=boards[:, 7:]).logits, whole[:, 7:])


@pytest.mark.parametrize("search", [{}, {"num_beams": 2}, {"do_sample": True}], ids=lambda search: "+".join(search))
@pytest.mark.parametrize("vocab", VOCABS)
def test_generation_reads_the_boards_of_its_own_moves(vocab: str, search: dict[str, Any]) -> None:
    model, tokenizer = model_for(vocab)
    batch = tokenizer([" ".join(GAME[:2]), ""], padding=True, return_tensors="pt")
    options = {"max_new_tokens": 4 * tokenizer.ids_per_move, **search}
    found = []
    for use_cache in (True, False):
        torch.manual_seed(0)
        moves = LegalMoves(tokenizer)
        found.append(model.generate(**batch, logits_processor=[moves], use_cache=use_cache, **options))
    torch.testing.assert_close(found[0], found[1])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"inputs_embeds": torch.zeros(1, 3, 16)}, "expected boards"),
        ({"input_ids": torch.ones(1, 3, dtype=torch.long), "cached": True}, "expected boards"),
        ({"input_ids": torch.ones(1, 3, dtype=torch.long), "boards": torch.zeros(1, 3, 90), "off": True}, "no boards"),
        ({"input_ids": torch.ones(1, 3, dtype=torch.long), "boards": torch.zeros(1, 1, 90)}, r"\[1, 3, 90\]"),
        ({"input_ids": torch.ones(1, 3, dtype=torch.long), "board": torch.zeros(1, 3, 90)}, "the name is boards"),
        ({"input_ids": torch.ones(1, 3, dtype=torch.long), "result": torch.zeros(1)}, "the name is results"),
    ],
)
def test_missing_and_needless_boards_are_refused(given: dict[str, Any], message: str) -> None:
    off = given.pop("off", False)
    model, tokenizer = model_for("squares", board_input=not off)
    if given.pop("cached", False):
        given["cache"] = model(tokenizer("h2e2", return_tensors="pt")["input_ids"], use_cache=True).past_key_values
    if "inputs_embeds" in given:
        given["inputs_embeds"] = torch.zeros(1, 3, model.config.hidden_size)
    with pytest.raises(ValueError, match=message):
        model(**given)


@pytest.mark.parametrize("vocab", VOCABS)
def test_another_size_of_the_vocabulary_changes_no_board(vocab: str) -> None:
    model, tokenizer = model_for(vocab)
    ids = tokenizer(" ".join(GAME[:6]), return_tensors="pt")["input_ids"]
    before = model.bert(ids).last_hidden_state
    model.resize_token_embeddings(len(tokenizer) + 5)
    torch.testing.assert_close(model.bert(ids).last_hidden_state, before)


@pytest.mark.parametrize("vocab", VOCABS)
def test_padding_makes_no_moves_whatever_its_ids(vocab: str) -> None:
    model, tokenizer = model_for(vocab)
    ids = tokenizer(" ".join(GAME[:6]), return_tensors="pt")["input_ids"]
    expected = model(ids).logits
    noise = torch.full((1, 3), 5)
    mask = torch.cat([torch.zeros_like(noise), torch.ones_like(ids)], dim=1)
    found = model(torch.cat([noise, ids], dim=1), attention_mask=mask).logits[:, 3:]
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prefill_chunk_size": 3}, "whole games"),
        ({"boards": torch.zeros(1, 5, 90)}, "takes no boards"),
        ({"inputs_embeds": torch.zeros(1, 5, 16)}, "takes no inputs_embeds"),
        ({"past": True}, "whole games"),
    ],
    ids=["chunks", "boards", "embeddings", "cache"],
)
def test_generation_refuses_what_hides_the_game(options: dict[str, Any], message: str) -> None:
    model, tokenizer = model_for("squares")
    batch = dict(tokenizer(" ".join(GAME[:4]), return_tensors="pt"))
    if options.get("past"):
        cache = DynamicCache(config=model.config)
        model(batch["input_ids"][:, :5], cache=cache)
        batch["input_ids"] = batch["input_ids"][:, 5:]
        options = {"past_key_values": cache}
    with pytest.raises(ValueError, match=message):
        model.generate(**batch, max_new_tokens=2, **options)


def test_a_static_cache_generates_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    model, tokenizer = model_for("squares")
    batch = tokenizer([" ".join(GAME[:2]), ""], padding=True, return_tensors="pt")
    options = {"max_new_tokens": 6, "do_sample": False, "logits_processor": [LegalMoves(tokenizer)]}
    expected = model.generate(**batch, **options)
    torch.testing.assert_close(model.generate(**batch, **options, cache_implementation="static"), expected)


def test_offloaded_it_computes_the_same() -> None:
    model, tokenizer = model_for("squares")
    ids = tokenizer(" ".join(GAME[:4]), return_tensors="pt")["input_ids"]
    expected = model(ids).logits
    torch.testing.assert_close(cpu_offload(model, torch.device("cpu"))(ids).logits, expected)


@needs_tracing
def test_a_trace_needs_the_boards() -> None:
    model, tokenizer = model_for("squares", num_hidden_layers=1)
    ids = tokenizer(" ".join(GAME[:4]), return_tensors="pt")["input_ids"]
    with pytest.raises(ValueError, match="the input `boards`"):
        torch.export.export(model, (), {"input_ids": ids}, strict=False)


def test_a_copy_without_the_package_plays_the_same_moves(tmp_path: Path) -> None:
    model, tokenizer = model_for("squares", value_head=True)
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    batch = tokenizer([" ".join(GAME[:4])], return_tensors="pt")
    expected = model.generate(**batch, max_new_tokens=8, do_sample=False)[0].tolist()
    code = f"""
from transformers import AutoModelForCausalLM, AutoTokenizer
model = AutoModelForCausalLM.from_pretrained({str(tmp_path)!r}, trust_remote_code=True).eval()
tokenizer = AutoTokenizer.from_pretrained({str(tmp_path)!r}, trust_remote_code=True)
batch = tokenizer([{" ".join(GAME[:4])!r}], return_tensors="pt")
print(model.generate(**batch, max_new_tokens=8, do_sample=False)[0].tolist())
"""
    assert run_elsewhere(code, tmp_path).strip().splitlines()[-1] == str(expected)


@pytest.mark.slow
def test_exported_with_the_boards_as_an_input() -> None:
    model, tokenizer = model_for("squares", num_hidden_layers=1)
    ids = tokenizer([" ".join(GAME[:6]), " ".join(GAME[1:7])], return_tensors="pt")["input_ids"]
    sizes = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    given = {"input_ids": ids, "boards": boards_of(ids, model.config.ids_per_square)}
    program = torch.export.export(model, (), given, dynamic_shapes=dict.fromkeys(given, sizes), strict=False).module()
    shorter = {name: tensor[:1, :7] for name, tensor in given.items()}
    for batch in (given, shorter):
        torch.testing.assert_close(program(**batch)["logits"], model(**batch).logits)
