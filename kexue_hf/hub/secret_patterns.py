"""How names of secrets (in options and environment variables) and the secrets themselves look."""

import re

_WORDS = {"token", "tokens", "key", "keys", "secret", "secrets", "password", "passwd", "credential", "credentials"}
_ENDINGS = ("token", "secret", "password", "apikey")
# A long run of letters and digits tells a token from a name in code, like hf_hub_download.
_SECRETS = {
    "an access token of the Hub": r"hf_(?:[a-z]+_)?[A-Za-z0-9]{20,}",
    "an access token of GitHub": r"gh[opsur]_[A-Za-z0-9]{30,}|github_pat_\w{22,}",
    "an access key of AWS": r"A(?:KI|SI)A[A-Z0-9]{16}(?![A-Za-z0-9])",
    "an API key of Google": r"AIza[\w-]{35}",
    "an API key (sk-...)": r"sk-(?:[a-z0-9]+-)*[A-Za-z0-9_]{20,}",
    "a token of Slack": r"xox[abprs]-[A-Za-z0-9-]{10,}",
    "a private key": r"-----BEGIN [A-Z ]*PRIVATE KEY-----",
}
_ANY = re.compile("|".join(f"(?<![A-Za-z0-9])({pattern})" for pattern in _SECRETS.values()))


def is_secret_name(name: str) -> bool:
    """Return whether an option or a variable of this name may hold a secret: --hub_token, AWS_SECRET_ACCESS_KEY."""
    words = [word for word in re.split(r"[^a-z0-9]+", name.lower()) if word]
    return any(word in _WORDS or word.endswith(_ENDINGS) for word in words)


def secret_in(text: str, start: int = 0) -> str | None:
    """Return what kind of secret a text holds after `start`; None if no known one."""
    found = _ANY.search(text, start)
    return None if found is None else list(_SECRETS)[(found.lastindex or 1) - 1]


__all__ = ["is_secret_name", "secret_in"]
