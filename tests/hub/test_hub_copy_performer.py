"""As `test_hub_copy`, for Performer BERT: what is saved loads in a fresh process, with this package and without it.

One process a mode loads every folder, and runs a text above the switch length and one below it. Oracle: the outputs
in this process.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import BertTokenizer

import kexue_hf
from kexue_hf import PerformerBertConfig
from kexue_hf.models.performer_bert.auto_map_performer_bert import AUTO_MAP
from tests.fresh_process import run_elsewhere

HEADS = {auto: reference.split(".")[1] for auto, reference in AUTO_MAP.items() if auto != "AutoConfig"}
TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "今", "天", "好"]
TEXTS = [["今天好", "天"], ["今天好" * 15, "好"]]

LOADER = """
import sys, numpy, torch
with_package, target, again, folders = sys.argv[1] == "with", sys.argv[2], sys.argv[3], sys.argv[4:]
if with_package:
    import kexue_hf
else:
    sys.modules["kexue_hf"] = None  # importing it raises ImportError
import transformers
flags = {} if with_package else {"trust_remote_code": True}
home = "kexue_hf" if with_package else "transformers_modules"
results = {}
for pair in folders:
    auto, folder = pair.split("=", 1)
    config = transformers.AutoConfig.from_pretrained(folder, **flags)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, **flags)
    model, info = getattr(transformers, auto).from_pretrained(folder, output_loading_info=True, **flags)
    for made in (config, model):
        assert type(made).__module__.startswith(home), type(made)
    assert config.model_type == "performer_bert" and type(tokenizer).__name__ == "BertTokenizer"
    assert not info["missing_keys"] and not info["unexpected_keys"], info
    for number, texts in enumerate(TEXTS):
        with torch.no_grad():
            outputs = model.eval()(**tokenizer(texts, padding=True, return_tensors="pt")).to_tuple()
        for place, output in enumerate(outputs):
            results[f"{auto}_{number}_{place}"] = output.numpy()
    # A copy on the Hub counts steps as well.
    model.train()
    torch.optim.AdamW(model.parameters(), lr=0.0, fused=True).step()
    counts = [int(count) for name, count in model.named_buffers() if name.endswith("favor_map.steps")]
    assert counts == ([1, 1] if config.redraw else []), counts
model.save_pretrained(again)
numpy.savez(target, **results)
""".replace("TEXTS", repr(TEXTS))


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory):
    """The folder of every Auto class, and the outputs; positions go beyond the table, and maps are calibrated."""
    root = tmp_path_factory.mktemp("hub")
    (root / "vocab.txt").write_text("".join(f"{token}\n" for token in TOKENS), encoding="utf-8")
    tokenizer = BertTokenizer.from_pretrained(root)
    made, expected = [], {}
    for number, (auto, name) in enumerate(HEADS.items()):
        torch.manual_seed(1)
        sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
        config = PerformerBertConfig(
            vocab_size=len(TOKENS), max_position_embeddings=32, attention_switch_length=20,
            feature_map=("low_order", "favor++")[number % 2], redraw=(None, 3)[number % 2], **sizes,
        )  # fmt: skip
        model = getattr(kexue_hf, name)(config).eval()
        encoded = [tokenizer(texts, padding=True, return_tensors="pt") for texts in TEXTS]
        kexue_hf.calibrate_performer(model, encoded)
        model.save_pretrained(root / name)
        tokenizer.save_pretrained(root / name)
        made.append(f"{auto}={root / name}")
        for place, batch in enumerate(encoded):
            with torch.no_grad():
                for output_number, output in enumerate(model(**batch).to_tuple()):
                    expected[f"{auto}_{place}_{output_number}"] = output.numpy()
    return made, expected


@pytest.mark.parametrize("mode", ["with", "without"])
def test_every_auto_class_loads_what_was_saved(mode: str, folders, tmp_path: Path) -> None:
    made, expected = folders
    target, again = tmp_path / "outputs.npz", tmp_path / "again"
    run_elsewhere(LOADER, tmp_path, mode, target, again, *made)
    arrays = np.load(target)
    assert set(arrays.files) == set(expected)
    for name, output in expected.items():
        np.testing.assert_allclose(arrays[name], output, rtol=0, atol=1e-6)
    # What that process saved is whole as well.
    assert {path.name for path in again.glob("*.py")} >= {
        "modeling_performer_bert.py",
        "attention_performer_bert.py",
        "feature_maps_performer_bert.py",
    }
