"""As `test_hub_copy`, for the matcher: what is saved or converted loads in a fresh process, with this package and
without it.

A process that knows nothing of the package has two children, one a mode, which load every folder and run it under
each task. Oracle: the outputs in this process.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer, BertTokenizer

import kexue_hf
from kexue_hf.conversion.convert import convert
from kexue_hf.models.cln_matcher.auto_map_cln_matcher import AUTO_MAP
from tests.conversion.checkpoints import golden_copy
from tests.fresh_process import run_elsewhere
from tests.models.cln_matcher.matchers import NAMES, config_of, randomize

HEADS = {auto: reference.split(".")[1] for auto, reference in AUTO_MAP.items() if auto != "AutoConfig"}
TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "今", "天", "好"]
FIRST, SECOND = ["今天", "好"], ["好天", "天天今"]

LOADER = """
import os, sys, numpy, torch, transformers
# What both need, and what takes longest.
from transformers import AutoModel, AutoModelForSequenceClassification, AutoTokenizer, BertModel, RoFormerModel
target, again, folders = sys.argv[1], sys.argv[2], sys.argv[3:]
with_package = os.fork() == 0
if with_package:
    import kexue_hf
else:
    sys.modules["kexue_hf"] = None  # importing it raises ImportError
mode = "with" if with_package else "without"
target, again = f"{target}_{mode}.npz", f"{again}_{mode}"
flags = {} if with_package else {"trust_remote_code": True}
home = "kexue_hf" if with_package else "transformers_modules"
results = {}
for number, (auto, folder) in enumerate(pair.split("=", 1) for pair in folders):
    config = transformers.AutoConfig.from_pretrained(folder, **flags)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, **flags)
    model, info = getattr(transformers, auto).from_pretrained(folder, output_loading_info=True, **flags)
    for made in (config, model):
        assert type(made).__module__.startswith(home), type(made)
    assert config.model_type == "cln_matcher"
    assert not info["missing_keys"] and not info["unexpected_keys"], info
    encoded = tokenizer(FIRST, SECOND, padding=True, return_tensors="pt")
    with torch.no_grad():
        for task in [*config.task_names, [0, config.num_tasks - 1]]:
            results[f"{number}_{task}"] = model.eval()(**encoded, task_ids=task)[0].numpy()
model.save_pretrained(again)
model.fold_task(0).save_pretrained(again + "_folded")
numpy.savez(target, **results)
if with_package:
    sys.stdout.flush()
    os._exit(0)
assert os.wait()[1] == 0, "with the package"
""".replace("FIRST, SECOND", f"{FIRST!r}, {SECOND!r}")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory):
    """The folder of every Auto class with either kind of positions, a folded one, a converted one; and the outputs."""
    root = tmp_path_factory.mktemp("hub")
    (root / "vocab.txt").write_text("".join(f"{token}\n" for token in TOKENS), encoding="utf-8")
    tokenizer = BertTokenizer.from_pretrained(root)
    classifier = "AutoModelForSequenceClassification"
    made = []
    for auto, name in HEADS.items():
        positions = "absolute" if auto == "AutoModel" else "rotary"
        config = config_of(vocab_size=len(TOKENS), position_embedding_type=positions)
        model = randomize(getattr(kexue_hf, name)(config).eval())
        made.append((auto, root / name, model))
    made.append((classifier, root / "folded", model.fold_task(NAMES[1])))
    for _, folder, model in made:
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    convert(golden_copy("sohu_matcher_keras_h5", root / "checkpoint"), root / "converted")
    made.append(
        (classifier, root / "converted", getattr(kexue_hf, HEADS[classifier]).from_pretrained(root / "converted"))
    )
    expected = {}
    for number, (_, folder, model) in enumerate(made):
        encoded = AutoTokenizer.from_pretrained(folder)(FIRST, SECOND, padding=True, return_tensors="pt")
        with torch.no_grad():
            for task in [*model.config.task_names, [0, model.config.num_tasks - 1]]:
                expected[f"{number}_{task}"] = model(**encoded, task_ids=task)[0].numpy()
    return [f"{auto}={folder}" for auto, folder, _ in made], expected


@pytest.fixture(scope="module")
def elsewhere(folders, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the processes left their outputs, and the last models saved again."""
    root = tmp_path_factory.mktemp("elsewhere")
    run_elsewhere(LOADER, root, root / "outputs", root / "again", *folders[0])
    return root


@pytest.mark.parametrize("mode", ["with", "without"])
def test_every_auto_class_loads_what_was_saved_or_converted(mode: str, folders, elsewhere: Path) -> None:
    _, expected = folders
    arrays = np.load(elsewhere / f"outputs_{mode}.npz")
    assert set(arrays.files) == set(expected)
    for name, output in expected.items():
        np.testing.assert_allclose(arrays[name], output, rtol=0, atol=1e-5)
    # What that process saved is whole as well.
    for folder in (f"again_{mode}", f"again_{mode}_folded"):
        assert {path.name for path in (elsewhere / folder).glob("*.py")} >= {
            "configuration_cln_matcher.py",
            "layers_cln_matcher.py",
            "losses_cln_matcher.py",
            "modeling_cln_matcher.py",
            "norm_cln_matcher.py",
            "rotary_cln_matcher.py",
            "tasks_cln_matcher.py",
        }
