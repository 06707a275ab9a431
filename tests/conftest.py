import os

# Before anything imports huggingface_hub: a test that reaches for the network fails instead of hanging.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# Several test processes share the cores: threads on top of them only wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")
