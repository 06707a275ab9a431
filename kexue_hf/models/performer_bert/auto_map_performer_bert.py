"""Which Auto class loads which class of Performer BERT, as data; see `auto_map_wobert` for its readers."""

AUTO_MAP: dict[str, str] = {
    "AutoConfig": "configuration_performer_bert.PerformerBertConfig",
    "AutoModel": "modeling_performer_bert.PerformerBertModel",
    "AutoModelForMaskedLM": "modeling_performer_bert.PerformerBertForMaskedLM",
    "AutoModelForCausalLM": "modeling_performer_bert.PerformerBertForCausalLM",
    "AutoModelForSequenceClassification": "modeling_performer_bert.PerformerBertForSequenceClassification",
    "AutoModelForTokenClassification": "modeling_performer_bert.PerformerBertForTokenClassification",
    "AutoModelForQuestionAnswering": "modeling_performer_bert.PerformerBertForQuestionAnswering",
}

# What AutoTokenizer loads where the folder names no class. The folder of a model that began as a WoBERT names
# WoBertTokenizer.
NATIVE_TOKENIZER = "BertTokenizer"
