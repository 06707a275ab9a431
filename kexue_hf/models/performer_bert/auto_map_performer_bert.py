"""Table of the Auto classes and the Performer BERT classes that they load; `auto_map_wobert` lists its readers."""

AUTO_MAP: dict[str, str] = {
    "AutoConfig": "configuration_performer_bert.PerformerBertConfig",
    "AutoModel": "modeling_performer_bert.PerformerBertModel",
    "AutoModelForMaskedLM": "modeling_performer_bert.PerformerBertForMaskedLM",
    "AutoModelForCausalLM": "modeling_performer_bert.PerformerBertForCausalLM",
    "AutoModelForSequenceClassification": "modeling_performer_bert.PerformerBertForSequenceClassification",
    "AutoModelForTokenClassification": "modeling_performer_bert.PerformerBertForTokenClassification",
    "AutoModelForQuestionAnswering": "modeling_performer_bert.PerformerBertForQuestionAnswering",
}

# The class AutoTokenizer uses if the folder names none. The folder of a model that started from a WoBERT names
# WoBertTokenizer.
NATIVE_TOKENIZER = "BertTokenizer"
