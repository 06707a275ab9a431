"""Which Auto class loads which class of NEZHA, as data; see `auto_map_wobert` for its readers."""

AUTO_MAP: dict[str, str] = {
    "AutoConfig": "configuration_nezha.NezhaConfig",
    "AutoModel": "modeling_nezha.NezhaModel",
    "AutoModelForPreTraining": "modeling_nezha.NezhaForPreTraining",
    "AutoModelForMaskedLM": "modeling_nezha.NezhaForMaskedLM",
    "AutoModelForSequenceClassification": "modeling_nezha.NezhaForSequenceClassification",
    "AutoModelForTokenClassification": "modeling_nezha.NezhaForTokenClassification",
    "AutoModelForQuestionAnswering": "modeling_nezha.NezhaForQuestionAnswering",
    "AutoModelForMultipleChoice": "modeling_nezha.NezhaForMultipleChoice",
    "AutoModelForNextSentencePrediction": "modeling_nezha.NezhaForNextSentencePrediction",
}

# What AutoTokenizer loads where the folder names no class: the repositories on the Hub are of characters. A WoNEZHA's
# tokenizer_config.json names WoBertTokenizer.
NATIVE_TOKENIZER = "BertTokenizer"
