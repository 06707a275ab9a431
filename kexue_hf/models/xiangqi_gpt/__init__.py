"""A GPT that plays Chinese chess (https://kexue.fm/archives/7877)."""
