"""Another library renames what we bind: imports go on working, one warning says what is missing, the rest works.

A name is hidden while our hooks run and put back afterwards, as if the library used a new name itself. Run this file
alone: pytest tests/integrations/test_renames.py
"""

import ast
import importlib
import importlib.util
import json
import re
import sys
import types
from pathlib import Path

import pytest

import kexue_hf
from kexue_hf.integrations import import_finder, tokenizer_check_hooks
from kexue_hf.integrations.auto_classes import AUTO_CLASSES, MODEL_TYPES
from kexue_hf.integrations.hook_table import HOOKS
from kexue_hf.integrations.hooks import TRIED, Hook, IntegrationWarning, Losses, run_hooks
from tests.fresh_process import ROOT, TORCH, TRANSFORMERS, run_forked

# Hooks run at once when their modules are loaded; and what transformers imports of itself is not hidden from it.
PRELOADED = TRANSFORMERS + "from transformers import BertTokenizer, RoFormerModel, Trainer\n"

HIDING = """
import importlib, json, sys, types, warnings

class Hidden:
    def __get__(self, *_): raise AttributeError("hidden")
    def __set__(self, *_): raise AttributeError("hidden")

def hide(name):
    # Returns a function that puts the name back.
    module, _, path = name.partition(":")
    *parents, last = path.split(".")
    owner = importlib.import_module(module)
    for part in parents:
        owner = getattr(owner, part)
    if isinstance(owner, types.ModuleType):
        kind = type(owner)
        def without(get):
            def found(self, wanted):
                if wanted == last: raise AttributeError("hidden")
                return get(self, wanted)
            return found
        names = [name for name in ("__getattribute__", "__getattr__") if hasattr(kind, name)]
        owner.__class__ = type("Hiding", (kind,), {name: without(getattr(kind, name)) for name in names})
        return lambda: setattr(owner, "__class__", kind)
    owner = owner if isinstance(owner, type) else type(owner)
    before = vars(owner).get(last)
    setattr(owner, last, Hidden())
    return lambda: delattr(owner, last) if before is None else setattr(owner, last, before)

def fake_peft():
    # The import of the real one takes seconds.
    for name in ("peft", "peft.utils", "peft.utils.constants"):
        sys.modules[name] = types.ModuleType(name)
        sys.modules[name].__path__ = []
    sys.modules["peft.utils"].constants = sys.modules["peft.utils.constants"]
    sys.modules["peft"].utils = sys.modules["peft.utils"]
    tables = sys.modules["peft.utils.constants"]
    tables.TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING = {"bert": ["query", "value"]}
    sys.modules["peft"].__path__ = ["/nowhere"]

def everything_of_theirs_works():
    from transformers import AutoModel, AutoTokenizer, BertConfig, BertModel, Trainer, pipeline
    import torch
    sizes = dict(hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8, vocab_size=9)
    assert BertModel(BertConfig(**sizes))(torch.tensor([[1, 2]])).last_hidden_state.isfinite().all()
    assert type(AutoModel.from_config(BertConfig(**sizes))) is BertModel
"""

# After the import of kexue_hf: which hooks did their work, and which classes of ours the Auto classes know.
SIMULATION = (
    HIDING
    + """
fake_peft()
put_back = [hide(name) for name in json.loads(sys.argv[1])]
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    import kexue_hf
for restore in reversed(put_back):
    restore()
everything_of_theirs_works()

from transformers import PreTrainedModel, Trainer
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.auto import modeling_auto
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.tokenization_auto import TOKENIZER_MAPPING
from transformers.pipelines import PIPELINE_REGISTRY
from transformers.pipelines.base import Pipeline
from transformers.pipelines.text_classification import TextClassificationPipeline
from kexue_hf.integrations.auto_classes import AUTO_CLASSES, MODEL_TYPES, TASKS
from kexue_hf.integrations.hook_table import HOOKS

def auto_map(model_type):
    return importlib.import_module(f"kexue_hf.models.{model_type}.auto_map_{model_type}").AUTO_MAP

def config_class(model_type):
    try:
        return CONFIG_MAPPING[model_type]
    except KeyError:
        file, name = auto_map(model_type)["AutoConfig"].split(".")
        try:
            return getattr(importlib.import_module(f"kexue_hf.models.{model_type}.{file}"), name)
        except ImportError:
            return None

def known(auto_class, model_type):
    return config_class(model_type) in getattr(modeling_auto, auto_class)._model_mapping

types_of = {name: [t for t in MODEL_TYPES if name in auto_map(t)] for name in AUTO_CLASSES}
favor = "favor" in ALL_ATTENTION_FUNCTIONS and "favor" in ALL_MASK_ATTENTION_FUNCTIONS
works = {
    "attn_implementation='favor'": favor,
    "saving and loading the feature maps of kexue_hf.use_performer":
        hasattr(PreTrainedModel.post_init, "creates_feature_maps"),
    "AutoConfig for the models of kexue_hf": all(t in CONFIG_MAPPING for t in MODEL_TYPES),
    "AutoTokenizer for the models of kexue_hf": all(config_class(t) in TOKENIZER_MAPPING for t in MODEL_TYPES),
    **{f"{name} for the models of kexue_hf": all(known(name, t) for t in types_of[name]) for name in AUTO_CLASSES},
    **{f"pipeline({task!r})": task in PIPELINE_REGISTRY.get_supported_tasks() for task in TASKS},
    "decision rules in pipeline('text-classification')":
        hasattr(getattr(TextClassificationPipeline, "postprocess", None), "applies_decision_rule"),
    "in pipelines, the check that model and tokenizer belong together": hasattr(Pipeline.__init__, "is_guarded"),
    "in Trainer, the check that model and tokenizer belong together": hasattr(Trainer.__init__, "is_guarded"),
    next(hook.what for hook in HOOKS if hook.module == "peft"): "wobert" in
        sys.modules["peft.utils.constants"].TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING,
}
complete = [t for t in MODEL_TYPES if t in CONFIG_MAPPING and config_class(t) in TOKENIZER_MAPPING
            and all(known(name, t) for name in AUTO_CLASSES if name in auto_map(t))]
own = [str(w.message) for w in caught if type(w.message).__name__ == "IntegrationWarning"]
print(json.dumps([own, {hook.what: bool(works[hook.what]) for hook in HOOKS}, complete]))
"""
)


def simulate(*names: str) -> tuple[list[str], dict[str, bool], list[str]]:
    """Warnings, whether each hook did its work, and the model types that are registered completely."""
    warned, works, complete = json.loads(run_forked(PRELOADED, SIMULATION, json.dumps(names)).splitlines()[-1])
    return warned, works, complete


def bound_names() -> list[list[str]]:
    """All names that hooks bind, those that can be hidden together in one list: of one module and different hooks."""
    groups: list[list[str]] = []
    for name in sorted({name for hook in HOOKS for name in hook.binds}):
        users = [hook for hook in HOOKS if name in hook.binds]
        for group in groups[::-1]:
            together = any(other in hook.binds for hook in users for other in group)
            # Some at a time, so that the other hooks of a module are seen to work.
            if group[0].split(":")[0] == name.split(":")[0] and not together and len(group) < 5:
                group.append(name)
                break
        else:
            groups.append([name])
    return groups


def test_nothing_is_missing() -> None:
    warned, works, complete = simulate()
    assert warned == [] and all(works.values()) and complete == list(MODEL_TYPES)


@pytest.mark.parametrize("names", bound_names(), ids=lambda names: names[0])
def test_names_that_hooks_bind(names: list[str]) -> None:
    warned, works, _ = simulate(*names)
    assert len(warned) == len(names)
    for name in names:
        (text,) = (text for text in warned if f"has no {name.replace(':', '.')} " in text)
        assert TRIED[name.replace(":", ".").split(".")[0]] in text
        assert all(hook.what in text for hook in HOOKS if name in hook.binds)
    without = [hook.what for hook in HOOKS if not hook.binds.keys().isdisjoint(names)]
    # All or nothing, and everything else works.
    assert [what for what in works if not works[what]] == without


def imported_names() -> dict[str, dict[str, list[Path]]]:
    """What our files import from transformers: module -> name -> files."""
    found: dict[str, dict[str, list[Path]]] = {}
    root = Path(kexue_hf.__file__).parent
    for path in sorted(root.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "transformers":
                for alias in node.names:
                    found.setdefault(str(node.module), {}).setdefault(alias.name, []).append(path.relative_to(root))
    return found


IMPORTED = imported_names()


MODULES = sorted(IMPORTED.keys() - {"transformers"})


@pytest.mark.parametrize("modules", [MODULES[start : start + 2] for start in range(0, len(MODULES), 2)], ids=", ".join)
def test_names_that_our_files_import(modules: list[str]) -> None:
    """All that come from one or two modules at once."""
    files = {f"{module}:{name}": files for module in modules for name, files in IMPORTED[module].items()}
    warned, _, complete = simulate(*files)
    broken = {file.parts[1] for found in files.values() for file in found if file.parts[0] == "models"}
    assert [kind for kind in MODEL_TYPES if kind not in broken] == [kind for kind in complete if kind not in broken]
    assert bool(broken) <= bool(warned) and len(warned) == len(set(warned))
    for text in warned:
        assert TRIED["transformers"] in text
        assert any(f"has no {name.replace(':', '.')} " in text for name in files), text


def test_a_top_level_name_that_our_files_import() -> None:
    warned, works, complete = simulate("transformers:RoFormerModel")
    assert (
        len(warned) == 1
        and "has no transformers.RoFormerModel " in warned[0]
        and "model type cln_matcher" in warned[0]
    )
    assert complete == [kind for kind in MODEL_TYPES if kind != "cln_matcher"]
    assert works["attn_implementation='favor'"] and works["pipeline('text-matching')"]


def test_kexue_hf_is_imported_first() -> None:
    """Hooks run in the middle of the imports of transformers; here they find a class without one of its methods."""
    run_forked(
        TORCH,
        HIDING
        + """
import kexue_hf
from importlib.abc import MetaPathFinder

class Renaming(MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name != "transformers.modeling_utils":
            return None
        spec = next(filter(None, (finder.find_spec(name, path, target) for finder in sys.meta_path[1:])))
        execute = spec.loader.exec_module
        def run(module):
            execute(module)
            put_back.append(hide("transformers.modeling_utils:PreTrainedModel.post_init"))
        spec.loader.exec_module = run
        return spec

put_back = []
sys.meta_path.insert(0, Renaming())
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    from transformers import AutoModel, BertConfig, BertModel
own = [str(w.message) for w in caught if type(w.message).__name__ == "IntegrationWarning"]
assert len(own) == 1 and "has no transformers.modeling_utils.PreTrainedModel.post_init " in own[0], own
put_back[0]()
from transformers import AutoConfig
BertModel(BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8, vocab_size=9))
assert AutoConfig.for_model("nezha").model_type == "nezha"
""",
    )


def test_the_tried_versions_are_the_supported_ones() -> None:
    text = (ROOT / "pyproject.toml").read_text("utf-8")
    bounds = re.search(r'"transformers>=5\.(\d+),<5\.(\d+)"', text)
    assert bounds is not None
    assert TRIED["transformers"] == f"5.{bounds[1]} to 5.{int(bounds[2]) - 1}"


def test_auto_classes_are_those_of_the_auto_maps() -> None:
    maps = [importlib.import_module(f"kexue_hf.models.{kind}.auto_map_{kind}").AUTO_MAP for kind in MODEL_TYPES]
    assert set(AUTO_CLASSES) == {name for mapping in maps for name in mapping} - {"AutoConfig"}


def test_a_parameter_that_is_gone() -> None:
    applied: list[Losses] = []
    hooks = [
        Hook("json", "first", {"json:dumps": "obj indent"}, applied.append),
        Hook("json", "second", {"json:JSONDecoder.decode": "s whence"}, applied.append),
    ]
    with pytest.warns(IntegrationWarning, match=r"has no json\.JSONDecoder\.decode\(whence=\.\.\.\) .*: second$"):
        run_hooks(hooks)
    assert len(applied) == 1


def test_a_warning_is_issued_once_a_process(recwarn: pytest.WarningsRecorder) -> None:
    for _ in range(2):
        run_hooks([Hook("json", "once", {"json:no_such_name": ""}, lambda losses: None)])
    assert len(recwarn) == 1


def package(library: str) -> types.ModuleType:
    """A module that lies where the library does; importing it would take seconds."""
    spec = importlib.util.find_spec(library)
    assert spec is not None
    found = types.ModuleType(library)
    found.__path__ = list(spec.submodule_search_locations or ())
    return found


def test_a_module_that_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    modules = ("transformers.trainer", "transformers.moved", "transformers.pipelines")
    hooks = {name: [hook] for name, hook in zip(modules, HOOKS, strict=False)}
    monkeypatch.setattr(import_finder, "_hooks", hooks)
    losses = Losses()
    monkeypatch.setitem(sys.modules, "transformers", package("transformers"))
    import_finder._find_absent_modules("transformers", losses)
    with pytest.warns(IntegrationWarning, match="has no transformers.moved ") as caught:
        losses.warn()
    assert len(caught) == 1 and HOOKS[1].what in str(caught[0].message)


def test_every_module_of_a_hook_exists(monkeypatch: pytest.MonkeyPatch) -> None:
    losses = Losses()
    for library in TRIED:
        monkeypatch.setitem(sys.modules, library, package(library))
        import_finder._find_absent_modules(library, losses)
    assert losses._found == {}


def test_a_defect_of_ours_is_told_with_its_traceback() -> None:
    def fail(losses: Losses) -> None:
        raise KeyError("a key of ours")

    applied: list[Losses] = []
    with pytest.warns(IntegrationWarning, match=r"(?s)set up: one\. Please report .*Traceback.*a key of ours"):
        run_hooks([Hook("json", "one", {}, fail), Hook("json", "other", {}, applied.append)])
    assert len(applied) == 1


@pytest.mark.filterwarnings("error")
def test_warnings_that_are_errors_stop_no_import(caplog: pytest.LogCaptureFixture) -> None:
    applied: list[Losses] = []
    run_hooks([
        Hook("json", "first", {}, lambda losses: 1 / 0),  # type: ignore[arg-type, return-value]
        Hook("json", "absent", {"json:no_such_name": ""}, applied.append),
        Hook("json", "other", {}, applied.append),
    ])  # fmt: skip
    assert len(applied) == 1 and "set up: first" in caplog.text and "json.no_such_name" in caplog.text


def test_attributes_of_instances() -> None:
    """A Trainer without `processing_class` is made all the same."""
    theirs = type("Trainer", (), {"__module__": "transformers.trainer", "__init__": lambda self: None})
    tokenizer_check_hooks.check_after_init(theirs, "processing_class", tokenizer_check_hooks.drop_optional_labels)
    with pytest.warns(
        IntegrationWarning, match=r"has no transformers\.trainer\.Trainer\.model .*belong together"
    ) as caught:
        theirs(), theirs()
    assert len(caught) == 1
    trainer = theirs.__new__(theirs)
    trainer.model = types.SimpleNamespace(optional_label_names=["labels"])
    with pytest.warns(IntegrationWarning, match=r"has no transformers\.trainer\.Trainer\.args .*optional labels"):
        tokenizer_check_hooks.drop_optional_labels(trainer)
