"""Registration with transformers' Auto classes, without importing them.

transformers has no entry point for plugins: somebody must call `AutoModel.register(...)`, and the module that holds
`AutoModel` loads torch. So importing this package only puts a finder in front of `sys.meta_path`, which lets the Auto
modules load as they would and registers our classes right afterwards. Where they are loaded already, it happens at
once. Each model's `auto_map_*.py` says what is registered where.

Registration of our pipelines with transformers, when its `transformers.pipelines` is imported.
"""

import importlib
import importlib.abc
import importlib.machinery
import sys
import threading
from collections.abc import Callable, Sequence
from types import ModuleType

from kexue_hf.integrations.pairing import guard_pipelines, guard_trainer
from kexue_hf.integrations.peft import register_target_modules

# task -> module in kexue_hf.pipelines, class, the Auto class that loads its model
_TASKS: dict[str, tuple[str, str, str]] = {
    "sentence-vectors": ("sentence_vectors_pipeline", "SentenceVectorsPipeline", "AutoModel"),
    "text-scoring": ("text_scoring_pipeline", "TextScoringPipeline", "AutoModelForMaskedLM"),
    "text-correction": ("text_correction_pipeline", "TextCorrectionPipeline", "AutoModelForMaskedLM"),
    "text-matching": ("text_matching_pipeline", "TextMatchingPipeline", "AutoModelForSequenceClassification"),
}


def register_pipelines(module: ModuleType) -> None:
    """Make our tasks known to `transformers.pipelines`."""
    transformers = importlib.import_module("transformers")
    for task, (file, class_name, auto_class) in _TASKS.items():
        pipeline_class = getattr(importlib.import_module(f"kexue_hf.pipelines.{file}"), class_name)
        # Registering again would warn of overwriting what is ours.
        if module.PIPELINE_REGISTRY.supported_tasks.get(task, {}).get("impl") is not pipeline_class:
            module.PIPELINE_REGISTRY.register_pipeline(
                task, pipeline_class=pipeline_class, pt_model=getattr(transformers, auto_class), type="text"
            )


# Each has models/<model_type>/auto_map_<model_type>.py.
MODEL_TYPES = ("wobert", "nezha", "tta", "performer_bert", "cln_matcher")


def install() -> None:
    """Arrange that our classes are registered when transformers' Auto modules are imported; now, where they are."""
    # By name: a package that was imported anew has a new class of the same name, and replaces the old one's finder.
    sys.meta_path[:] = [finder for finder in sys.meta_path if type(finder).__name__ != _PostImportFinder.__name__]
    sys.meta_path.insert(0, _PostImportFinder())
    for name in _ACTIONS:
        if name in sys.modules:
            # import_module and not sys.modules: it waits for another thread that is in the middle of this import.
            importlib.import_module(name)
            _state.loaded.append(name)
    _register_loaded()


class _State:
    """How many modules are in the middle of their import, and which of `_ACTIONS` have yet to be served.

    transformers' modules import each other in circles (decorating a BERT class imports the Auto modules), and our
    classes derive from theirs: nothing can be registered before the outermost of all these imports is done. Those of
    all threads: to import BERT while another thread is amid the same circle makes both of them fail. A thread whose
    imports are done before the others' has Auto classes that do not know ours yet.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.depth = 0
        self.registering = False
        self.loaded: list[str] = []


_state = _State()


def _register_loaded() -> None:
    """Serve the queue, unless an import is under way or another call is at it already: whoever is last does it."""
    # Registering imports BERT, which may load further modules that are waited for: they join the queue.
    while True:
        with _state.lock:
            if _state.depth or _state.registering or not _state.loaded:
                return
            _state.registering = True
            name = _state.loaded.pop(0)
        try:
            _ACTIONS[name](sys.modules[name])
        finally:
            with _state.lock:
                _state.registering = False


class _PostImportFinder(importlib.abc.MetaPathFinder):
    """Finds transformers' modules and ours as everybody else would, and watches their execution."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        watched = fullname.startswith(("transformers.", "kexue_hf.models.", "kexue_hf.pipelines."))
        if not watched and fullname not in _ACTIONS:
            return None
        for finder in sys.meta_path[sys.meta_path.index(self) + 1 :]:
            if not hasattr(finder, "find_spec"):
                continue
            spec = finder.find_spec(fullname, path, target)
            if spec is not None:
                if spec.loader is not None and hasattr(spec.loader, "exec_module"):
                    _watch(spec.loader, fullname)
                return spec
        return None


def _watch(loader: importlib.abc.Loader, name: str) -> None:
    # Patched on the instance, not wrapped: `inspect`, `pkgutil` and `__loader__` keep seeing the ordinary loader.
    execute = loader.exec_module

    def exec_module(module: ModuleType) -> None:
        with _state.lock:
            _state.depth += 1
        try:
            execute(module)
            if name in _ACTIONS:
                _state.loaded.append(name)
        finally:
            with _state.lock:
                _state.depth -= 1
            # Also where this import failed: those that it began and that went well are there to stay.
            _register_loaded()

    loader.exec_module = exec_module  # type: ignore[method-assign]  # on purpose, see above


def _auto_map(model_type: str) -> dict[str, str]:
    module = importlib.import_module(f"kexue_hf.models.{model_type}.auto_map_{model_type}")
    mapping: dict[str, str] = module.AUTO_MAP
    return mapping


def _load(model_type: str, reference: str) -> type:
    module_name, class_name = reference.split(".")
    found: type = getattr(importlib.import_module(f"kexue_hf.models.{model_type}.{module_name}"), class_name)
    return found


def _register_configs(auto: ModuleType) -> None:
    for model_type in MODEL_TYPES:
        auto.AutoConfig.register(model_type, _load(model_type, _auto_map(model_type)["AutoConfig"]), exist_ok=True)


def _register_tokenizers(auto: ModuleType) -> None:
    for model_type in MODEL_TYPES:
        module = importlib.import_module(f"kexue_hf.models.{model_type}.auto_map_{model_type}")
        if hasattr(module, "TOKENIZER_AUTO_MAP"):
            tokenizer_class = _load(model_type, module.TOKENIZER_AUTO_MAP["AutoTokenizer"][0])
        else:
            tokenizer_class = getattr(importlib.import_module("transformers"), module.NATIVE_TOKENIZER)
        config_class = _load(model_type, _auto_map(model_type)["AutoConfig"])
        auto.AutoTokenizer.register(config_class, tokenizer_class=tokenizer_class, exist_ok=True)


def _register_models(auto: ModuleType) -> None:
    for model_type in MODEL_TYPES:
        mapping = _auto_map(model_type)
        config_class = _load(model_type, mapping["AutoConfig"])
        for auto_class, reference in mapping.items():
            if auto_class != "AutoConfig":
                getattr(auto, auto_class).register(config_class, _load(model_type, reference), exist_ok=True)


def _register_attention(modeling: ModuleType) -> None:
    importlib.import_module("kexue_hf.models.performer_bert.favor_performer_bert").register()
    restoring = importlib.import_module("kexue_hf.integrations.performer_models")
    restoring.restore_after_construction(modeling.PreTrainedModel)


def _register_target_modules(constants: ModuleType) -> None:
    register_target_modules(constants, MODEL_TYPES)


_ACTIONS: dict[str, Callable[[ModuleType], None]] = {
    "transformers.modeling_utils": _register_attention,
    "transformers.models.auto.configuration_auto": _register_configs,
    "transformers.models.auto.tokenization_auto": _register_tokenizers,
    "transformers.models.auto.modeling_auto": _register_models,
    "transformers.pipelines.base": guard_pipelines,
    "transformers.pipelines": register_pipelines,
    "transformers.trainer": guard_trainer,
    "peft.utils.constants": _register_target_modules,
}
