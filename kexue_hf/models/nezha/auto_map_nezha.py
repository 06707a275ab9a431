"""Table of the Auto classes and the NEZHA classes that they load; `auto_map_wobert` lists its readers."""

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

# The class AutoTokenizer uses if the folder names none: the repositories on the Hub have character vocabularies. The
# tokenizer_config.json of a WoNEZHA names WoBertTokenizer.
NATIVE_TOKENIZER = "BertTokenizer"
