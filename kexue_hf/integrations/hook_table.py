"""Every hook of this package into another library, with the names that it binds."""

import importlib
from functools import partial

from kexue_hf.integrations import auto_classes, decision_rule, import_finder, peft, tokenizer_check_hooks
from kexue_hf.integrations.hooks import Hook, Losses


def _register_favor(losses: Losses) -> None:
    importlib.import_module("kexue_hf.models.performer_bert.favor_performer_bert").register()


def _keep_feature_maps(losses: Losses) -> None:
    importlib.import_module("kexue_hf.integrations.performer_models").keep_feature_maps()


_AUTO = "transformers.models.auto"
_FAVOR = {
    "transformers.modeling_utils:AttentionInterface.register": "key value",
    "transformers.masking_utils:AttentionMaskInterface.register": "key value",
}

HOOKS = (
    Hook("transformers.modeling_utils", "attn_implementation='favor'", _FAVOR, _register_favor),
    Hook(
        "transformers.modeling_utils",
        "saving and loading the feature maps of kexue_hf.use_performer",
        {
            **_FAVOR,
            "transformers.modeling_utils:PreTrainedModel.post_init": "",
            "transformers.modeling_utils:PreTrainedModel.initialize_weights": "",
            "transformers.modeling_utils:PreTrainedModel.save_pretrained": "",
        },
        _keep_feature_maps,
    ),
    Hook(
        f"{_AUTO}.configuration_auto",
        "AutoConfig for the models of kexue_hf",
        {f"{_AUTO}.configuration_auto:AutoConfig.register": "model_type config exist_ok"},
        auto_classes.register_configs,
    ),
    Hook(
        f"{_AUTO}.tokenization_auto",
        "AutoTokenizer for the models of kexue_hf",
        {f"{_AUTO}.tokenization_auto:AutoTokenizer.register": "config_class tokenizer_class exist_ok"},
        auto_classes.register_tokenizers,
    ),
    *(
        Hook(
            f"{_AUTO}.modeling_auto",
            f"{name} for the models of kexue_hf",
            {f"{_AUTO}.modeling_auto:{name}.register": "config_class model_class exist_ok"},
            partial(auto_classes.register_models, name),
        )
        for name in auto_classes.AUTO_CLASSES
    ),
    *(
        Hook(
            "transformers.pipelines",
            f"pipeline({task!r})",
            {
                "transformers.pipelines:PIPELINE_REGISTRY.supported_tasks": "",
                "transformers.pipelines:PIPELINE_REGISTRY.register_pipeline": "task pipeline_class pt_model type",
                f"transformers:{auto_class}": "",
            },
            partial(auto_classes.register_pipeline, task),
        )
        for task, (_, _, auto_class) in auto_classes.TASKS.items()
    ),
    Hook(
        "transformers.pipelines.text_classification",
        "decision rules in pipeline('text-classification')",
        {"transformers.pipelines.text_classification:TextClassificationPipeline.postprocess": "model_outputs"},
        decision_rule.apply_decision_rules,
    ),
    Hook(
        "transformers.pipelines.base",
        f"in pipelines, {tokenizer_check_hooks.CHECK}",
        {"transformers.pipelines.base:Pipeline": ""},
        tokenizer_check_hooks.guard_pipelines,
    ),
    Hook(
        "transformers.trainer",
        f"in Trainer, {tokenizer_check_hooks.CHECK}",
        {"transformers.trainer:Trainer": ""},
        tokenizer_check_hooks.guard_trainer,
    ),
    Hook(
        "peft",
        "adapters of kexue_hf's models without target_modules (pass target_modules=['query', 'value'])",
        {"peft.utils.constants:TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING": ""},
        peft.register_target_modules,
    ),
)


def install() -> None:
    """Have every hook run when its module is imported, or now if it is loaded."""
    import_finder.install(HOOKS)


__all__ = ["HOOKS", "install"]
