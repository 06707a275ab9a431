"""Which Auto class loads which class of the matcher, as data; see `auto_map_wobert` for its readers."""

AUTO_MAP: dict[str, str] = {
    "AutoConfig": "configuration_cln_matcher.ClnMatcherConfig",
    "AutoModel": "modeling_cln_matcher.ClnMatcherModel",
    "AutoModelForSequenceClassification": "modeling_cln_matcher.ClnMatcherForSequenceClassification",
}

# What AutoTokenizer loads where the folder names no class. The folder of a matcher of words names WoBertTokenizer.
NATIVE_TOKENIZER = "BertTokenizer"
