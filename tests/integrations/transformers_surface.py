"""Everything of transformers that this package overrides or calls by a signature that transformers may change.

What a newer release breaks is found here first: `test_transformers_surface.py` holds the table against the installed
version, and the table against the package.
"""

from kexue_hf.integrations.hook_table import HOOKS

# Methods that our classes override: module, class, method -> the parameters that our override passes on or reads.
OVERRIDDEN: dict[str, str] = {
    "configuration_utils.PreTrainedConfig.__init__": "",
    "configuration_utils.PreTrainedConfig.from_dict": "config_dict",
    "configuration_utils.PreTrainedConfig.get_config_dict": "pretrained_model_name_or_path",
    "configuration_utils.PreTrainedConfig.get_text_config": "decoder encoder",
    "configuration_utils.PreTrainedConfig.validate": "",
    "generation.continuous_batching.continuous_api.ContinuousMixin.generate_batch": "",
    "generation.continuous_batching.continuous_api.ContinuousMixin.init_continuous_batching": "",
    "generation.logits_process.LogitsProcessor.__call__": "input_ids scores",
    "generation.utils.GenerationMixin._prepare_generated_length": "generation_config",
    "generation.utils.GenerationMixin._supports_default_dynamic_cache": "",
    "generation.utils.GenerationMixin._update_model_kwargs_for_generation": "outputs model_kwargs",
    "generation.utils.GenerationMixin.adjust_generation_fn": "pretrained_model_name_or_path",
    "generation.utils.GenerationMixin.generate": "inputs generation_config",
    "generation.utils.GenerationMixin.prepare_inputs_for_generation": "input_ids attention_mask is_first_iteration",
    "hf_argparser.HfArgumentParser.__init__": "",
    "modeling_utils.EmbeddingAccessMixin.get_input_embeddings": "",
    "modeling_utils.EmbeddingAccessMixin.get_output_embeddings": "",
    "modeling_utils.EmbeddingAccessMixin.set_input_embeddings": "value",
    "modeling_utils.EmbeddingAccessMixin.set_output_embeddings": "new_embeddings",
    "modeling_utils.PreTrainedModel.__init__": "config",
    "modeling_utils.PreTrainedModel._finalize_model_loading": "model load_config loading_info",
    "modeling_utils.PreTrainedModel._flash_attn_can_dispatch": "",
    "modeling_utils.PreTrainedModel._init_weights": "module",
    "modeling_utils.PreTrainedModel.from_pretrained": "pretrained_model_name_or_path config",
    "modeling_utils.PreTrainedModel.post_init": "",
    "modeling_utils.PreTrainedModel.resize_token_embeddings": "",
    "modeling_utils.PreTrainedModel.save_pretrained": "save_directory",
    "models.bert.configuration_bert.BertConfig.__init__": "",
    "models.bert.configuration_bert.BertConfig.validate": "",
    "models.bert.modeling_bert.BertForMultipleChoice.__init__": "config",
    "models.bert.modeling_bert.BertForPreTraining.forward": "input_ids attention_mask token_type_ids position_ids",
    "models.bert.modeling_bert.BertForQuestionAnswering.forward": "input_ids attention_mask token_type_ids",
    "models.bert.modeling_bert.BertForSequenceClassification.__init__": "config",
    "models.bert.modeling_bert.BertModel.__init__": "config add_pooling_layer",
    "models.bert.modeling_bert.BertModel.forward": "input_ids attention_mask token_type_ids position_ids",
    "pipelines.base.Pipeline.__call__": "inputs",
    "pipelines.base.Pipeline._forward": "",
    "pipelines.base.Pipeline._sanitize_parameters": "",
    "pipelines.base.Pipeline.postprocess": "",
    "pipelines.base.Pipeline.preprocess": "",
    "tokenization_python.PythonBackend.__init__": "",
    "tokenization_python.PythonBackend._add_tokens": "new_tokens special_tokens",
    "tokenization_python.PythonBackend._convert_id_to_token": "index",
    "tokenization_python.PythonBackend._convert_token_to_id": "token",
    "tokenization_python.PythonBackend._encode_plus": "text text_pair",
    "tokenization_python.PythonBackend._tokenize": "text",
    "tokenization_python.PythonBackend._update_total_vocab_size": "",
    "tokenization_python.PythonBackend._update_trie": "",
    "tokenization_python.PythonBackend.convert_tokens_to_string": "tokens",
    "tokenization_python.PythonBackend.is_fast": "",
    "tokenization_python.PythonBackend.save_vocabulary": "save_directory filename_prefix",
    "tokenization_python.PythonBackend.tokenize": "text",
    "tokenization_python.PythonBackend.truncate_sequences": "ids pair_ids num_tokens_to_remove",
    "tokenization_utils_base.PreTrainedTokenizerBase._from_pretrained": "",
    "tokenization_utils_base.PreTrainedTokenizerBase.add_tokens": "new_tokens special_tokens",
    "tokenization_utils_base.PreTrainedTokenizerBase.get_vocab": "",
    "tokenization_utils_base.PreTrainedTokenizerBase.vocab_size": "",
    "tokenization_utils_tokenizers.TokenizersBackend.__init__": "",
    "tokenization_utils_tokenizers.TokenizersBackend.convert_to_native_format": "",
    "tokenization_utils_tokenizers.TokenizersBackend.update_post_processor": "",
    "trainer.Trainer.__init__": "model args",
    "trainer.Trainer._prepare_for_training": "",
    "trainer.Trainer._run_epoch": "",
    "trainer.Trainer._save": "output_dir state_dict",
    "trainer.Trainer._save_checkpoint": "",
    "trainer.Trainer.save_model": "output_dir _internal_call",
    "trainer.Trainer.compute_loss": "model inputs return_outputs num_items_in_batch",
    "trainer.Trainer.create_accelerator_and_postprocess": "",
    "trainer.Trainer.create_model_card": "",
    "trainer.Trainer.create_optimizer": "",
    "trainer.Trainer.get_batch_samples": "epoch_iterator num_batches device",
    "trainer.Trainer.get_train_dataloader": "",
    "trainer.Trainer.log": "logs",
    "trainer.Trainer.training_step": "model inputs num_items_in_batch",
    "trainer_callback.TrainerCallback.on_log": "args state control",
    "trainer_callback.TrainerCallback.on_optimizer_step": "args state control",
    "trainer_callback.TrainerCallback.on_pre_optimizer_step": "args state control",
    "trainer_callback.TrainerCallback.on_step_end": "args state control",
    "trainer_callback.TrainerCallback.on_train_begin": "args state control",
    "trainer_callback.TrainerCallback.on_train_end": "args state control",
}

# What our hooks bind, in the modules of transformers.
BOUND: dict[str, str] = {
    name.removeprefix("transformers.").replace(":", "."): parameters
    for hook in HOOKS
    for name, parameters in hook.binds.items()
    if name.startswith("transformers.")
}

# What we call or replace by name: name -> the parameters by which we call it (none where we only wrap it).
USED: dict[str, str] = {
    **BOUND,
    "configuration_utils.PreTrainedConfig._attn_implementation": "",
    "initialization.copy_": "tensor other",
    "masking_utils.create_bidirectional_mask": "config inputs_embeds attention_mask and_mask_function",
    "masking_utils.create_causal_mask": "config inputs_embeds attention_mask block_sequence_ids allow_is_causal_skip",
    "modeling_utils.ALL_ATTENTION_FUNCTIONS.get_interface": "",
    "modeling_utils.PreTrainedModel.get_correct_attn_implementation": "is_init_check",
    "pytorch_utils.apply_chunking_to_forward": "forward_fn chunk_size chunk_dim",
    "trainer.Trainer.compute_loss_context_manager": "",
    "trainer.Trainer.evaluation_loop": "",
    "trainer.Trainer._load_from_checkpoint": "",
    "trainer_utils.rotate_checkpoints": "output_dir save_total_limit best_model_checkpoint use_mtime",
    "utils.cached_file": "path_or_repo_id filename",
    "utils.generic.merge_with_config_defaults": "",
    "utils.output_capturing.capture_outputs": "",
}
