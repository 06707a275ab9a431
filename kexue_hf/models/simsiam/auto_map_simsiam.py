"""Table of the Auto classes and the SimSiam classes that they load; `auto_map_wobert` lists its readers."""

AUTO_MAP: dict[str, str] = {
    "AutoConfig": "configuration_simsiam.SimSiamConfig",
    "AutoModel": "modeling_simsiam.SimSiamModel",
}

# The class AutoTokenizer uses if the folder names none. The folder of a model that started from a WoBERT names
# WoBertTokenizer.
NATIVE_TOKENIZER = "BertTokenizer"
