"""The batch callables: results of the functions, in order; pickled and hashed at any time; one model a process."""

import itertools
import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from datasets import Dataset
from datasets.fingerprint import Hasher

import kexue_hf
from kexue_hf import Corrector, CorrectTexts, EmbedTexts, InputError, MatchTexts, ScoreTexts
from kexue_hf.batch import correct_texts, loaded_models, model_loading
from kexue_hf.pipelines.text_windows import encode_texts
from tests.fresh_process import TRANSFORMERS, run_forked
from tests.pipelines import correction_models, matchers
from tests.pipelines.test_text_scoring import LONG, TEXTS, make

CANDIDATES = ["竟\t境竞", "境\t竟", "汽\t气", "天\t今"]
ROWS = [*TEXTS, None, LONG]
FILLED = [text or "" for text in ROWS]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    makers: dict[str, tuple[Callable[..., Any], str]] = {
        "tta": (make, "tta"), "corrector": (correction_models.make, "tta"), "matcher": (matchers.make, "matcher"),
    }  # fmt: skip
    found = {}
    for name, (maker, kind) in makers.items():
        found[name] = tmp_path_factory.mktemp(name)
        for part in maker(kind, found[name]):
            part.save_pretrained(found[name])
    return found


@pytest.fixture(autouse=True)
def nothing_loaded() -> Iterator[None]:
    loaded_models.loaded_model.cache_clear()
    yield
    loaded_models.loaded_model.cache_clear()


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The models loaded from now on."""
    found: list[str] = []
    load = model_loading.load_encoder

    def counted(name: str, *options: str) -> tuple[Any, Any]:
        found.append(name)
        return load(name, *options)

    monkeypatch.setattr(model_loading, "load_encoder", counted)
    return found


def test_vectors_are_those_of_the_function(folders: dict[str, Path], tmp_path: Path) -> None:
    found = EmbedTexts(folders["tta"], normalize=True, prefix="my_")({"text": ROWS, "id": [*range(len(ROWS))]})
    assert list(found) == ["text", "id", "my_vector"] and found["my_vector"].dtype == np.float32
    expected = kexue_hf.sentence_vectors(*make("tta", tmp_path), FILLED, normalize=True)
    np.testing.assert_allclose(found["my_vector"], expected, atol=1e-5)
    assert not found["my_vector"][ROWS.index(None)].any()


def test_scores_are_those_of_the_function(folders: dict[str, Path], tmp_path: Path) -> None:
    found = ScoreTexts(folders["tta"])({"text": ROWS})
    for number, score in enumerate(kexue_hf.score_texts(*make("tta", tmp_path), FILLED)):
        assert found["log_prob"][number] == pytest.approx(score.log_prob, abs=1e-5)
        assert found["num_tokens"][number] == len(score.tokens) and found["num_unknown"][number] == sum(score.unknown)
        expected = np.nan if score.perplexity is None else score.perplexity
        assert found["perplexity"][number] == pytest.approx(expected, rel=1e-5, nan_ok=True)
    assert {values.dtype.name for name, values in found.items() if name != "text"} == {"float64", "int64"}


def test_corrections_are_those_of_the_corrector(folders: dict[str, Path], tmp_path: Path) -> None:
    texts = [*correction_models.TEXTS, "", None]
    found = CorrectTexts(folders["corrector"], threshold=0.5, protect="逆竟")({"text": texts})
    corrector = Corrector(*correction_models.make("tta", tmp_path), threshold=0.5, protect=["逆竟"])
    expected = corrector.correct([text or "" for text in texts])
    assert found["corrected"].tolist()[:-1] == [one.corrected for one in expected][:-1]
    assert found["corrected"][-1] is None
    assert found["num_corrections"].tolist() == [len(one.corrections) for one in expected]
    assert found["num_corrections"].sum() > 0


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """A file of candidates with some of the included ones."""
    path = tmp_path / "mine.txt"
    path.write_text("".join(f"{line}\n" for line in CANDIDATES), encoding="utf-8")
    return path


def test_a_calibration_for_a_file_holds_wherever_the_file_is(
    folders: dict[str, Path], mine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, tokenizer = correction_models.make("tta", mine.parent)
    monkeypatch.chdir(mine.parent)
    calibrated = Corrector(model, tokenizer, candidates=mine.name, threshold=0.0)
    model.config.correction = {"threshold": 3.25, "candidates": calibrated.candidates}
    for part in (model, tokenizer):
        part.save_pretrained(mine.parent / "calibrated")
    assert Corrector(model, tokenizer, candidates=mine).threshold == 3.25
    options = CorrectTexts(mine.parent / "calibrated", candidates=mine.name)
    options({"text": ["天"]})
    assert correct_texts._corrector(options).threshold == 3.25
    model.config.correction["threshold"] = None
    model.save_pretrained(mine.parent / "calibrated")
    with pytest.raises(InputError, match="is too weak for correction"):
        CorrectTexts(mine.parent / "calibrated", candidates=mine.name)({"text": ["天"]})


def test_edited_candidates_are_others(folders: dict[str, Path], mine: Path, tmp_path: Path) -> None:
    def made(path: Path) -> CorrectTexts:
        return CorrectTexts(folders["corrector"], candidates=path, threshold=0.5)

    before, text = made(mine), correction_models.TEXTS
    first = before({"text": text})["corrected"].tolist()
    (copy := tmp_path / "copy.txt").write_bytes(mine.read_bytes())
    assert made(copy).fingerprint == before.fingerprint
    mine.write_text("龘\t龖\n", encoding="utf-8")
    after = made(mine)
    assert after.fingerprint != before.fingerprint and Hasher.hash(after) != Hasher.hash(before)
    correct_texts._corrector.cache_clear()
    with pytest.raises(InputError, match=r"mine.txt: differs from the file that the callable was made with"):
        before({"text": text})
    with pytest.raises(InputError, match="expected candidates that are tokens of"):
        after({"text": text})
    assert first != text
    mine.chmod(0)
    if not os.access(mine, os.R_OK):
        with pytest.raises(InputError, match=r"mine.txt: cannot be read: Permission denied"):
            made(mine)


def test_a_name_is_no_file(folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "confusion").write_text("not candidates")
    assert CorrectTexts(folders["corrector"]).candidates == "confusion"


def test_matches_are_those_of_the_function(folders: dict[str, Path], tmp_path: Path) -> None:
    pairs = [(a, b) for a, b in (pair[:2] for pair in map(_texts_of, matchers.PAIRS))]
    batch = {"a": [*(pair[0] for pair in pairs), None, "天"], "b": [*(pair[1] for pair in pairs), "天", " "]}
    found = MatchTexts(folders["matcher"], column_a="a", column_b="b")(batch)
    expected = list(kexue_hf.match_texts(*matchers.make("matcher", tmp_path), pairs))
    for task in matchers.NAMES:
        np.testing.assert_allclose(found[task][:-2], [row[task] for row in expected], atol=1e-5)
        assert np.isnan(found[task][-2:]).all()
    one = MatchTexts(folders["matcher"], column_a="a", column_b="b", tasks=[1])(batch)
    assert list(one) == ["a", "b", matchers.NAMES[1]]


def _texts_of(pair: Any) -> tuple[str, str]:
    return (pair["text_a"], pair["text_b"]) if isinstance(pair, dict) else (pair[0], pair[1])


def test_the_model_sees_a_bounded_number_of_texts_sorted_by_length(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    embed = EmbedTexts(folders["tta"], batch_tokens=40)
    texts = ["今" * (1 + number % 9) for number in range(2500)]
    # The first padded batch of a model is preceded by a probe.
    embed({"text": ["今", "今今"]})
    model, _ = embed._loaded()
    seen: list[tuple[int, ...]] = []
    model.register_forward_pre_hook(
        lambda module, given, named: seen.append(tuple(named["input_ids"].shape)), with_kwargs=True
    )
    monkeypatch.setattr("kexue_hf.pipelines.sentence_vectors.encode_texts", spy := _Spy(encode_texts))
    found = embed({"text": texts})["vector"]
    assert max(spy.sizes) <= 1024 and sum(spy.sizes) == 2500
    lengths = [shape[1] for shape in seen]
    # Three chunks, each with the longest first.
    assert sum(later > earlier for earlier, later in itertools.pairwise(lengths)) == 2
    np.testing.assert_allclose(found[:9], found[9:18], atol=1e-6)


class _Spy:
    def __init__(self, function: Callable[..., Any]) -> None:
        self.function, self.sizes = function, []

    def __call__(self, tokenizer: Any, texts: list[str]) -> Any:
        self.sizes.append(len(texts))
        return self.function(tokenizer, texts)


def test_an_empty_batch_has_the_same_columns(folders: dict[str, Path]) -> None:
    assert EmbedTexts(folders["tta"])({"text": []})["vector"].shape == (0, 16)
    assert ScoreTexts(folders["tta"])({"text": np.array([], dtype=object)})["log_prob"].dtype == np.float64
    assert CorrectTexts(folders["corrector"], threshold=1.0)({"text": []})["corrected"].shape == (0,)
    assert list(MatchTexts(folders["matcher"])({"text_a": [], "text_b": []}))[2:] == list(matchers.NAMES)


def test_copies_share_one_model(folders: dict[str, Path], loads: list[str]) -> None:
    embed = EmbedTexts(folders["tta"])
    before = pickle.dumps(embed)
    embed({"text": ["今天"]})
    assert pickle.dumps(embed) == before and len(before) < 1000
    for _ in range(3):
        pickle.loads(before)({"text": ["今天"]})
    EmbedTexts(folders["tta"], normalize=True)({"text": ["今天"]})
    assert loads == [str(folders["tta"])]


def test_callables_that_alternate_load_their_models_once(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[str] = []
    load = model_loading._load

    def counted(name: str, auto_class: str, *options: str) -> tuple[Any, Any]:
        found.append(auto_class)
        return load(name, auto_class, *options)

    monkeypatch.setattr(model_loading, "_load", counted)
    correct_texts._corrector.cache_clear()
    steps = (
        EmbedTexts(folders["tta"]),
        ScoreTexts(folders["tta"]),
        MatchTexts(folders["matcher"]),
        CorrectTexts(folders["corrector"], threshold=1.0),
        CorrectTexts(folders["corrector"], threshold=2.0),
    )
    batch = {"text": ["今天"], "text_a": ["今"], "text_b": ["天"]}
    for step in steps * 2:
        step(batch)
    assert len(found) == 4 and correct_texts._corrector.cache_info().misses == 2


def test_the_hash_depends_on_options_and_files_only(folders: dict[str, Path]) -> None:
    """`datasets` names its cache files for this hash."""
    embed = EmbedTexts(folders["tta"])
    before = Hasher.hash(embed)
    embed({"text": ["今天"]})
    assert Hasher.hash(embed) == before
    code = """
import sys
from datasets.fingerprint import Hasher
from kexue_hf import EmbedTexts
print(Hasher.hash(EmbedTexts(sys.argv[1])), EmbedTexts(sys.argv[1]).fingerprint)
"""
    assert run_forked(TRANSFORMERS, code, folders["tta"]) == f"{before} {embed.fingerprint}\n"
    assert Hasher.hash(EmbedTexts(folders["tta"], normalize=True)) != before


def test_sets_have_the_same_order_in_every_process() -> None:
    code = """
from kexue_hf import CorrectTexts, MatchTexts
words = {"甲", "乙", "丙", "丁", "戊"}
print(CorrectTexts("a", protect=words), MatchTexts("a", tasks=words))
"""
    # Not forked: a fork keeps its parent's seed.
    found = {
        subprocess.check_output([sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": seed})
        for seed in ("1", "2", "3")
    }
    assert len(found) == 1
    assert MatchTexts("a", tasks=["b", "a"]).tasks == ("b", "a")


def test_the_fingerprint_is_that_of_the_results(folders: dict[str, Path], tmp_path: Path) -> None:
    made = EmbedTexts(folders["tta"])
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in folders["tta"].iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    assert EmbedTexts(copy, threads=2, device="cpu", batch_tokens=5).fingerprint == made.fingerprint
    assert EmbedTexts(copy, layer=0).fingerprint != made.fingerprint
    assert ScoreTexts(copy).fingerprint != made.fingerprint
    weights = bytearray((copy / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (copy / "model.safetensors").write_bytes(weights)
    assert EmbedTexts(copy).fingerprint != made.fingerprint


def test_a_worker_refuses_a_changed_model(folders: dict[str, Path], tmp_path: Path) -> None:
    for part in make("tta", tmp_path):
        part.save_pretrained(tmp_path)
    embed = EmbedTexts(tmp_path)
    (tmp_path / "config.json").write_text((tmp_path / "config.json").read_text() + "\n")
    with pytest.raises(InputError, match="its files differ from those that the callable was made with"):
        embed({"text": ["今天"]})


@pytest.mark.parametrize("workers", [None, 2])
def test_datasets_gets_the_new_columns(folders: dict[str, Path], workers: int | None) -> None:
    embed = EmbedTexts(folders["tta"])
    expected = embed({"text": ROWS})["vector"]
    data = Dataset.from_dict({"text": ROWS, "id": [*range(len(ROWS))]})
    found = data.map(embed, batched=True, batch_size=4, num_proc=workers, remove_columns=["text"])
    assert found.column_names == ["id", "vector"] and found.features["vector"].feature.dtype == "float32"
    np.testing.assert_allclose(np.array(found["vector"]), expected, atol=1e-5)


def test_spark_gets_frames(folders: dict[str, Path]) -> None:
    """Called as Spark calls it: it pickles the bound method with cloudpickle, and passes an iterator of frames."""
    cloudpickle = pytest.importorskip("cloudpickle")
    embed = EmbedTexts(folders["tta"])
    method = pickle.loads(cloudpickle.dumps(embed.map_pandas))
    frames = [pd.DataFrame({"id": [0, 1], "text": ROWS[:2]}), pd.DataFrame({"id": [2], "text": [None]})]
    found = pd.concat(method(iter(frames)))
    assert list(found.columns) == ["id", "text", "vector"] and found["id"].tolist() == [0, 1, 2]
    np.testing.assert_allclose(np.stack(found["vector"]), embed({"text": [*ROWS[:2], None]})["vector"], atol=1e-5)


def test_threads_are_set_for_the_batch_only(folders: dict[str, Path]) -> None:
    embed = EmbedTexts(folders["tta"], threads=2)
    model, _ = embed._loaded()
    seen: list[int] = []
    model.register_forward_pre_hook(lambda module, given: seen.append(torch.get_num_threads()))
    before = torch.get_num_threads()
    embed({"text": ["今天"]})
    assert seen == [2] and torch.get_num_threads() == before


def test_a_process_of_a_pool_gets_one_thread() -> None:
    code = """
import multiprocess, torch

def threads(number):
    import torch
    from kexue_hf.batch.loaded_models import torch_threads
    with torch_threads(number):
        return torch.get_num_threads()

torch.set_num_threads(3)
# Not a variable: dill would pickle it with the function.
print(threads(None), threads(2), *multiprocess.get_context("fork").Pool(1).map(threads, [None, 1]))
try:
    multiprocess.get_context("fork").Pool(1).map(threads, [2])
except ValueError as error:
    print(error)
"""
    message = "threads must be 1 in a forked process, as those of num_proc, got 2: leave it out"
    assert run_forked(TRANSFORMERS, code) == f"3 2 1 1\n{message}\n"


@pytest.mark.parametrize(
    ("make_batches", "message"),
    [
        (lambda folder: EmbedTexts(folder, batch_tokens=0), "batch_tokens must be at least 1, got 0"),
        (lambda folder: EmbedTexts(folder, threads=0), "threads must be at least 1, got 0"),
        (lambda folder: CorrectTexts(folder, protect=[1]), "protect must hold texts"),
        (lambda folder: EmbedTexts(folder / "none")({"text": ["a"]}), "is not a folder"),
        (lambda folder: EmbedTexts(folder, max_length=10**6)({"text": ["a"]}), "max_length must be from"),
        (lambda folder: ScoreTexts(folder, method="none")({"text": ["a"]}), "none"),
        (lambda folder: EmbedTexts(folder, dtype="int8")({"text": ["a"]}), "dtype must be one of"),
    ],
)
def test_wrong_options_are_one_line(
    folders: dict[str, Path], make_batches: Callable[[Path], Any], message: str
) -> None:
    with pytest.raises(InputError) as raised:
        make_batches(folders["tta"])
    assert message in str(raised.value) and "\n" not in str(raised.value)


def test_making_one_loads_no_library() -> None:
    code = "import sys; from kexue_hf import EmbedTexts; EmbedTexts('a-name'); print('torch' in sys.modules)"
    assert run_forked("", code) == "False\n"
    assert "EmbedTexts" in dir(sys.modules["kexue_hf"]) and "EmbedTexts" in dir(kexue_hf.batch)
