"""Table of the Auto classes and the matcher classes that they load; `auto_map_wobert` lists its readers."""

AUTO_MAP: dict[str, str] = {
    "AutoConfig": "configuration_cln_matcher.ClnMatcherConfig",
    "AutoModel": "modeling_cln_matcher.ClnMatcherModel",
    "AutoModelForSequenceClassification": "modeling_cln_matcher.ClnMatcherForSequenceClassification",
}

# The class AutoTokenizer uses if the folder names none. The folder of a word-based matcher names WoBertTokenizer.
NATIVE_TOKENIZER = "BertTokenizer"
