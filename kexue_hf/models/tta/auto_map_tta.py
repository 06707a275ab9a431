"""Which Auto class loads which class of T-TA, as data; see `auto_map_wobert` for its readers."""

AUTO_MAP: dict[str, str] = {
    "AutoConfig": "configuration_tta.TtaConfig",
    "AutoModel": "modeling_tta.TtaModel",
    "AutoModelForMaskedLM": "modeling_tta.TtaForMaskedLM",
    "AutoModelForSequenceClassification": "modeling_tta.TtaForSequenceClassification",
    "AutoModelForTokenClassification": "modeling_tta.TtaForTokenClassification",
}

TOKENIZER_AUTO_MAP: dict[str, list[str | None]] = {"AutoTokenizer": ["tokenization_tta.TtaTokenizer", None]}
