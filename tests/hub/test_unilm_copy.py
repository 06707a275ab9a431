"""A folder saved as a masked language model generates in a process without the package, to the same tokens."""

import json
from pathlib import Path

from kexue_hf import WoBertForCausalLM, WoBertTokenizer
from tests.fresh_process import run_elsewhere
from tests.hub.hub_types import TOKENS, WORD_TEXTS, word_tokenizer
from tests.models.tiny_models import tiny_model

CODE = """
import json, sys
sys.modules["kexue_hf"] = None  # importing it raises ImportError
import transformers
source, again, result = sys.argv[1:]
tokenizer = transformers.AutoTokenizer.from_pretrained(source, trust_remote_code=True)
model = transformers.AutoModelForCausalLM.from_pretrained(source, trust_remote_code=True)
assert type(model).__module__.startswith("transformers_modules"), type(model)
written = []
for options in OPTIONS:
    written.append(model.generate(**tokenizer(TEXTS, padding=True, return_tensors="pt"), **options).tolist())
model.save_pretrained(again)
tokenizer.save_pretrained(again)
pipe = transformers.pipeline("text-generation", model=again, trust_remote_code=True)
written.append(pipe(TEXTS[0], return_full_text=False, max_new_tokens=5)[0]["generated_text"])
json.dump(written, open(result, "w"))
"""
OPTIONS = [{"max_new_tokens": 5}, {"max_new_tokens": 5, "num_beams": 3, "use_cache": False}, {}]


def test_generates_without_the_package(tmp_path: Path) -> None:
    sizes = {"vocab_size": len(TOKENS), "max_position_embeddings": 32}
    tiny_model("WoBertForMaskedLM", initializer_range=0.5, **sizes).save_pretrained(tmp_path / "mlm")
    word_tokenizer().save_pretrained(tmp_path / "mlm")
    code = CODE.replace("TEXTS", repr(WORD_TEXTS)).replace("OPTIONS", repr(OPTIONS))
    run_elsewhere(code, tmp_path, tmp_path / "mlm", tmp_path / "again", tmp_path / "written.json")
    *found, piped = json.loads((tmp_path / "written.json").read_text())

    for folder in ("mlm", "again"):
        model = WoBertForCausalLM.from_pretrained(tmp_path / folder)
        tokenizer = WoBertTokenizer.from_pretrained(tmp_path / folder)
        encoded = tokenizer(WORD_TEXTS, padding=True, return_tensors="pt")
        for options, ids in zip(OPTIONS, found, strict=True):
            assert model.generate(**encoded, **options).tolist() == ids, (folder, options)
        alone = tokenizer(WORD_TEXTS[0], return_tensors="pt")
        ids = model.generate(**alone, max_new_tokens=5)[0, alone["input_ids"].shape[1] :]
        assert tokenizer.decode(ids, skip_special_tokens=True) == piped
    assert (tmp_path / "again" / "unilm_wobert.py").exists()
