"""As `test_hub_copy`, for T-TA: what is saved or converted loads in a fresh process, with this package and without it.

One process a mode loads every folder. Oracle: the outputs, ids and offsets in this process.
"""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import kexue_hf
from kexue_hf import TtaConfig, TtaTokenizer
from kexue_hf.conversion.convert import convert
from kexue_hf.models.tta.auto_map_tta import AUTO_MAP
from tests.conversion.checkpoints import golden_copy
from tests.fresh_process import run_elsewhere
from tests.models.tta.tokenizer_oracle import make_vocabulary

HEADS = {auto: reference.split(".")[1] for auto, reference in AUTO_MAP.items() if auto != "AutoConfig"}
TEXTS = ["The boy's home, 今天 hello!", "[MASK] boy", ""]

LOADER = """
import json, os, sys, numpy, torch
with_package, target, again, folders = sys.argv[1] == "with", sys.argv[2], sys.argv[3], sys.argv[4:]
if with_package:
    import kexue_hf
else:
    sys.modules["kexue_hf"] = None  # importing it raises ImportError
import transformers
flags = {} if with_package else {"trust_remote_code": True}
home = "kexue_hf" if with_package else "transformers_modules"
sys.stdin = open(os.devnull)  # nobody answers whether to trust
arrays, texts = {}, {}
for number, (auto, folder) in enumerate(pair.split("=", 1) for pair in folders):
    if not with_package:
        for name in ("AutoTokenizer", auto):
            try:
                getattr(transformers, name).from_pretrained(folder)
                raise SystemExit(f"{name} needs no trust")
            except ValueError:
                pass
    config = transformers.AutoConfig.from_pretrained(folder, **flags)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, **flags)
    model, info = getattr(transformers, auto).from_pretrained(folder, output_loading_info=True, **flags)
    for made in (config, tokenizer, model):
        assert type(made).__module__.startswith(home), type(made)
    assert config.model_type == "tta" and type(tokenizer).__name__ == "TtaTokenizer"
    assert not info["missing_keys"] and not info["unexpected_keys"], info
    encoded = tokenizer(TEXTS, padding=True, return_tensors="pt")
    with torch.no_grad():
        for place, output in enumerate(model.eval()(**encoded).to_tuple()):
            arrays[f"{number}_{place}"] = output.numpy()
    given = tokenizer(TEXTS, return_offsets_mapping=True, return_special_tokens_mask=True)
    texts[number] = [dict(given), tokenizer.batch_decode(given["input_ids"]), len(tokenizer)]
tokenizer.save_pretrained(again)
model.save_pretrained(again)
numpy.savez(target, **arrays)
json.dump(texts, open(target + ".json", "w"))
""".replace("TEXTS", repr(TEXTS))


def outcome(tokenizer) -> list:
    given = tokenizer(TEXTS, return_offsets_mapping=True, return_special_tokens_mask=True)
    return json.loads(json.dumps([dict(given), tokenizer.batch_decode(given["input_ids"]), len(tokenizer)]))


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory):
    """(Auto class, folder, outputs, what the tokenizer does): every head saved, then a converted checkpoint."""
    root = tmp_path_factory.mktemp("hub")
    tokenizer = TtaTokenizer(make_vocabulary())
    tokenizer.add_tokens(["hello!"])
    made = []
    for auto, name in HEADS.items():
        torch.manual_seed(1)
        sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
        config = TtaConfig(vocab_size=len(tokenizer), max_position_embeddings=32, **sizes)
        getattr(kexue_hf, name)(config).save_pretrained(root / name)
        tokenizer.save_pretrained(root / name)
        made.append((auto, root / name))
    convert(golden_copy("tta_tf_ckpt", root / "checkpoint"), root / "converted")
    made.append(("AutoModelForMaskedLM", root / "converted"))
    expected = []
    for auto, folder in made:
        own = TtaTokenizer.from_pretrained(folder)
        model = getattr(kexue_hf, HEADS[auto]).from_pretrained(folder).eval()
        with torch.no_grad():
            outputs = [output.numpy() for output in model(**own(TEXTS, padding=True, return_tensors="pt")).to_tuple()]
        expected.append((auto, folder, outputs, outcome(own)))
    return expected


@pytest.mark.parametrize("mode", ["with", "without"])
def test_every_auto_class_loads_what_was_saved_or_converted(mode: str, folders, tmp_path: Path) -> None:
    target, again = tmp_path / "outputs.npz", tmp_path / "again"
    run_elsewhere(LOADER, tmp_path, mode, target, again, *(f"{auto}={folder}" for auto, folder, _, _ in folders))
    arrays, texts = np.load(target), json.loads(Path(f"{target}.json").read_text())
    for number, (_, _, outputs, encoded) in enumerate(folders):
        assert texts[str(number)] == encoded
        for place, output in enumerate(outputs):
            np.testing.assert_allclose(arrays[f"{number}_{place}"], output, rtol=0, atol=1e-6)
    # What that process saved is whole as well.
    assert outcome(TtaTokenizer.from_pretrained(again)) == folders[-1][3]
    assert {path.name for path in again.glob("*.py")} >= {
        "modeling_tta.py",
        "tokenization_tta.py",
        "vocabulary_tta.py",
    }
