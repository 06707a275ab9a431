"""Upload a folder by huggingface_hub, in one commit: afterwards the repository has all files, or none of this upload.

`HfApi.upload_folder` may make several commits of a large folder, so the commit is made by `HfApi.create_commit`. The
token is found and used by huggingface_hub alone.
"""

import contextlib
import logging
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from kexue_hf.errors import InputError, OutputError, printable
from kexue_hf.hub.folder_files import FolderFile

_ADVICE = {
    401: "the token is missing or no longer valid: run `hf auth login`, or set HF_TOKEN",
    403: "the token may not write there: create one with write access, or use a name of yours",
    404: "there is no such repository or revision, or the token may not see it",
    409: "another change of the repository was in progress: try again",
    412: "the repository changed meanwhile: try again",
    413: "the files are too large for the Hub",
    429: "too many requests: wait some minutes and try again",
}
_NO_COMMIT = "no commit was made"


def check_repository_name(name: str) -> None:
    """Raise InputError if the Hub cannot have a repository of this name."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(name)
    except HFValidationError as error:
        raise InputError(f"{printable(name)} cannot be a repository's name: {printable(str(error), 300)}") from None


def upload_folder(
    folder: Path,
    files: Sequence[FolderFile],
    repository: str,
    *,
    private: bool | None = None,
    revision: str | None = None,
    message: str = "Upload model",
) -> str:
    """Upload the files in one commit; create the repository and the branch if there are none.

    Args:
        files: paths relative to `folder`.
        repository: OWNER/NAME, or a NAME of the token's owner.
        private: whether a new repository is private; None for the owner's default. An existing one stays as it is.
        revision: the branch; None for main.

    Returns:
        The address of the commit.

    Raises:
        InputError: the name is not valid.
        OutputError: there is no token, or the Hub cannot be reached or refuses. No commit was made then.
    """
    check_repository_name(repository)
    if not files:
        raise InputError(f"{folder} has no files to upload")
    with _one_line_errors(repository), _quiet():
        from huggingface_hub import CommitOperationAdd, HfApi

        api = HfApi()
        api.whoami()  # a wrong token fails before anything is created
        name = api.create_repo(repository, private=private, exist_ok=True).repo_id
        if revision not in (None, "main"):
            api.create_branch(name, branch=str(revision), exist_ok=True)
        additions = [CommitOperationAdd(file.path, str(folder / file.path)) for file in files]
        commit = api.create_commit(name, additions, commit_message=message, revision=revision)
        return str(commit.commit_url)


@contextlib.contextmanager
def _one_line_errors(repository: str) -> Iterator[None]:
    """Convert the errors of huggingface_hub, and of the HTTP library that it uses, to OutputError."""
    try:
        yield
    except (KeyboardInterrupt, MemoryError, InputError):
        raise
    except Exception as error:
        raise OutputError(f"{repository}: {_reason(error)}; {_NO_COMMIT}") from None


def _reason(error: Exception) -> str:
    from huggingface_hub import constants
    from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError, OfflineModeIsEnabled

    # An error in the upload of a file is wrapped.
    while type(error) is RuntimeError and isinstance(error.__cause__, Exception):
        error = error.__cause__
    if isinstance(error, LocalTokenNotFoundError):
        return "no access token: run `hf auth login`, or set HF_TOKEN"
    if isinstance(error, OfflineModeIsEnabled):
        return "HF_HUB_OFFLINE is set, so nothing can be uploaded"
    text = printable(" ".join(str(error).split()), 300) or type(error).__name__
    if isinstance(error, HfHubHTTPError):
        response: Any = error.response
        status = getattr(response, "status_code", None)
        said = printable(" ".join((error.server_message or "").split()), 300)
        advice = _ADVICE.get(status or 0, "the Hub has a problem: try again later" if (status or 0) >= 500 else "")
        return f"the Hub answered {status}{f' ({said})' if said else ''}{f': {advice}' if advice else ''}"
    if isinstance(error, ValueError) and "README.md" in text:
        return f"the Hub refuses the card: {text}"
    if _is_network_error(error):
        return f"{constants.ENDPOINT} cannot be reached, or the connection broke: {text}"
    return text


def _is_network_error(error: Exception) -> bool:
    """Return whether an error is one of the HTTP library, whose name moved between versions of huggingface_hub."""
    return any(kind.__name__ in ("TransportError", "RequestException") for kind in type(error).__mro__) or isinstance(
        error, (ConnectionError, TimeoutError)
    )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence the log lines of each retry and the Hub's remarks on the card; show progress on a terminal only."""
    from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    logger = logging.getLogger("huggingface_hub")
    level, bars = logger.level, not are_progress_bars_disabled()
    logger.setLevel(logging.ERROR)
    hide = bars and not sys.stderr.isatty()
    try:
        if hide:
            disable_progress_bars()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
        if hide:
            enable_progress_bars()


__all__ = ["check_repository_name", "upload_folder"]
