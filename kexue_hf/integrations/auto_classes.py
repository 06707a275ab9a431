"""Registration of our models and pipelines with transformers' Auto classes and its `pipeline`.

Each model's `auto_map_*.py` says which class is registered where.
"""

import importlib
from typing import Any

from kexue_hf.integrations.hooks import Losses

# Each has models/<model_type>/auto_map_<model_type>.py.
MODEL_TYPES = ("wobert", "nezha", "tta", "performer_bert", "cln_matcher", "simsiam", "xiangqi_gpt")

# All that the auto maps name, but for AutoConfig and AutoTokenizer.
AUTO_CLASSES = (
    "AutoModel",
    "AutoModelForPreTraining",
    "AutoModelForMaskedLM",
    "AutoModelForCausalLM",
    "AutoModelForSequenceClassification",
    "AutoModelForTokenClassification",
    "AutoModelForQuestionAnswering",
    "AutoModelForMultipleChoice",
    "AutoModelForNextSentencePrediction",
)

# task -> module in kexue_hf.pipelines, class, the Auto class that loads its model
TASKS: dict[str, tuple[str, str, str]] = {
    "sentence-vectors": ("sentence_vectors_pipeline", "SentenceVectorsPipeline", "AutoModel"),
    "text-scoring": ("text_scoring_pipeline", "TextScoringPipeline", "AutoModelForMaskedLM"),
    "text-correction": ("text_correction_pipeline", "TextCorrectionPipeline", "AutoModelForMaskedLM"),
    "text-matching": ("text_matching_pipeline", "TextMatchingPipeline", "AutoModelForSequenceClassification"),
}


def register_configs(losses: Losses) -> None:
    """Register the configuration of each model type with AutoConfig."""
    auto = importlib.import_module("transformers.models.auto.configuration_auto")
    for model_type in MODEL_TYPES:
        with losses.guard(f"model type {model_type}"):
            config_class = _load(model_type, _auto_map(model_type).AUTO_MAP["AutoConfig"])
            auto.AutoConfig.register(model_type, config_class, exist_ok=True)


def register_tokenizers(losses: Losses) -> None:
    """Register the tokenizer of each model type with AutoTokenizer."""
    auto = importlib.import_module("transformers.models.auto.tokenization_auto")
    for model_type in MODEL_TYPES:
        with losses.guard(f"model type {model_type}"):
            module = _auto_map(model_type)
            if hasattr(module, "TOKENIZER_AUTO_MAP"):
                tokenizer_class = _load(model_type, module.TOKENIZER_AUTO_MAP["AutoTokenizer"][0])
            else:
                tokenizer_class = getattr(importlib.import_module("transformers"), module.NATIVE_TOKENIZER)
            config_class = _load(model_type, module.AUTO_MAP["AutoConfig"])
            auto.AutoTokenizer.register(config_class, tokenizer_class=tokenizer_class, exist_ok=True)


def register_models(auto_class: str, losses: Losses) -> None:
    """Register the classes that `auto_class` is to load, one for each model type that has such a class."""
    auto = importlib.import_module("transformers.models.auto.modeling_auto")
    for model_type in MODEL_TYPES:
        with losses.guard(f"model type {model_type}"):
            mapping = _auto_map(model_type).AUTO_MAP
            if auto_class in mapping:
                config_class, model_class = (_load(model_type, mapping[name]) for name in ("AutoConfig", auto_class))
                getattr(auto, auto_class).register(config_class, model_class, exist_ok=True)


def register_pipeline(task: str, losses: Losses) -> None:
    """Make a task of ours known to `transformers.pipeline`."""
    registry = importlib.import_module("transformers.pipelines").PIPELINE_REGISTRY
    file, class_name, auto_class = TASKS[task]
    pipeline_class = getattr(importlib.import_module(f"kexue_hf.pipelines.{file}"), class_name)
    # Registering the class a second time would warn that it is overwritten.
    if registry.supported_tasks.get(task, {}).get("impl") is not pipeline_class:
        model_class = getattr(importlib.import_module("transformers"), auto_class)
        registry.register_pipeline(task, pipeline_class=pipeline_class, pt_model=model_class, type="text")


def _auto_map(model_type: str) -> Any:
    return importlib.import_module(f"kexue_hf.models.{model_type}.auto_map_{model_type}")


def _load(model_type: str, reference: str) -> type:
    module_name, class_name = reference.split(".")
    found: type = getattr(importlib.import_module(f"kexue_hf.models.{model_type}.{module_name}"), class_name)
    return found


__all__ = [
    "AUTO_CLASSES",
    "MODEL_TYPES",
    "TASKS",
    "register_configs",
    "register_models",
    "register_pipeline",
    "register_tokenizers",
]
