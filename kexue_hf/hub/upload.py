"""Upload a folder by huggingface_hub, in one commit: afterwards the repository has all files, or none of this upload.

`HfApi.upload_folder` may make several commits of a large folder, so the commit is made by `HfApi.create_commit`. If
its answer is lost, the branch shows whether the commit was made. Only huggingface_hub reads the token.
"""

import contextlib
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from kexue_hf.errors import InputError, KexueError, OutputError, printable
from kexue_hf.files.quiet_loading import quiet_hub
from kexue_hf.hub.card_fields import CARD, parse_card, read_card
from kexue_hf.hub.card_names import published_card
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
# Not empty, because the Hub may take an empty text for a missing one and use the repository's own .gitignore.
_IGNORE_NOTHING = "# all files were chosen\n"


class Uploaded(NamedTuple):
    """Where the files are.

    Attributes:
        commit: the address of the commit.
        is_new: whether it was made by this upload. It was not if the branch had all files already.
        is_renamed: whether the code of the card there loads the repository, and that of the card here the folder.
    """

    commit: str
    is_new: bool
    is_renamed: bool


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
) -> Uploaded:
    """Upload the files in one commit; create the repository and the branch if they do not exist.

    Args:
        files: paths relative to `folder`.
        repository: OWNER/NAME, or a NAME of the token's owner.
        private: whether the repository is private; None for the owner's default, or for what an existing one is.
        revision: the branch; None for main.

    Raises:
        InputError: the name is not valid, or the repository exists with another visibility.
        OutputError: there is no token, or the Hub cannot be reached or refuses. The message says whether a commit was
            made, or that this is not known.
    """
    check_repository_name(repository)
    if not files:
        raise InputError(f"{folder} has no files to upload")
    with _one_line_errors(repository), quiet_hub(bars=sys.stderr.isatty()):
        from huggingface_hub import CommitOperationAdd, HfApi

        api = HfApi()
        api.whoami()  # a wrong token fails before anything is created
        name = api.create_repo(repository, private=private, exist_ok=True).repo_id
        before = api.repo_info(name)
        _check_visibility(name, private, before.private)
        if revision not in (None, "main"):
            api.create_branch(name, branch=str(revision), exist_ok=True)
            before = api.repo_info(name, revision=revision)
        text = read_card(folder) if any(file.path == CARD for file in files) else None
        card = None if text is None else published_card(text, name)
        _check_card(card)
        additions = [
            CommitOperationAdd(
                file.path, str(folder / file.path) if file.path != CARD or card in (None, text) else str(card).encode()
            )
            for file in files
        ]
        # `create_commit` would apply the .gitignore of the repository and leave files out without an error.
        api.preupload_lfs_files(
            name, additions, revision=revision, gitignore_content=_IGNORE_NOTHING, free_memory=False
        )
        branch = _Branch(api, name, revision)
        try:
            made = api.create_commit(name, additions, commit_message=message, revision=revision)
        except Exception as error:
            commit = branch.commit_despite(error, before.sha, additions)
            if commit is None:
                raise OutputError(f"{repository}: {_reason(error)}; {branch.outcome}") from None
            return Uploaded(commit, True, card != text)
        branch.check(made.oid, additions)
        return Uploaded(str(made.commit_url), made.oid != before.sha, card != text)


def _check_visibility(name: str, asked: bool | None, is_private: bool | None) -> None:
    """Raise InputError if a repository, which may be older than this upload, is not as asked for."""
    if asked is None or is_private is None or asked == is_private:
        return
    there, option = ("private", "--public") if is_private else ("public", "--private")
    raise InputError(
        f"{name} exists and is {there}: change that in its settings on the Hub, or leave out {option}; {_NO_COMMIT}"
    )


def _check_card(text: str | None) -> None:
    """Let the Hub check the card before large files are uploaded."""
    if text is None:
        return
    try:
        parse_card(text).validate(repo_type="model")
    except ValueError as error:
        if isinstance(error, KexueError):
            raise InputError(f"{error}; {_NO_COMMIT}") from None
        try:
            reasons = [item["message"] for item in json.loads(str(error))["errors"]]
        except (ValueError, LookupError, TypeError):
            reasons = [str(error)]
        raise OutputError(
            f"the Hub refuses {CARD}: {printable('; '.join(map(str, reasons)), 300)}; {_NO_COMMIT}"
        ) from None


class _Branch:
    """What a branch shows about a commit whose answer may be lost."""

    def __init__(self, api: Any, name: str, revision: str | None) -> None:
        self.api, self.name, self.revision = api, name, revision
        self.outcome = _NO_COMMIT

    def commit_despite(self, error: Exception, before: str | None, additions: Sequence[Any]) -> str | None:
        """Return the address of a commit that was made despite an error; if None, `outcome` says what is known."""
        if _is_refusal(error):
            return None
        place = f"{self.api.endpoint}/{self.name}"
        commits = f"{place}/commits/{self.revision or 'main'}"
        try:
            head = self.api.repo_info(self.name, revision=self.revision).sha
            if head == before:
                self.outcome = f"no commit is on the branch (the Hub may still be at work: see {commits})"
            elif not self._missing(head, additions):
                return f"{place}/commit/{head}"
            else:
                self.outcome = f"whether a commit was made is not known: see {commits}"
        except Exception:  # the reason is that of the first error
            self.outcome = f"whether a commit was made is not known: see {commits}"
        return None

    def check(self, commit: str, additions: Sequence[Any]) -> None:
        """Raise OutputError if the Hub left out a file of a commit."""
        place = f"{self.api.endpoint}/{self.name}/commit/{commit}"
        try:
            missing = self._missing(commit, additions)
        except Exception as error:
            raise OutputError(f"{place} was made, and cannot be checked: {_reason(error)}") from None
        if missing:
            shown = ", ".join(printable(path) for path in missing[:3])
            raise OutputError(f"{place} was made without {len(missing)} of {len(additions)} files: {shown}")

    def _missing(self, commit: str, additions: Sequence[Any]) -> list[str]:
        """Return the paths of the additions that the commit does not have with the same content."""
        from huggingface_hub.utils.sha import git_hash

        paths = [addition.path_in_repo for addition in additions]
        found = {file.path: file for file in self.api.get_paths_info(self.name, paths, revision=commit)}
        missing = []
        for addition in additions:
            file = found.get(addition.path_in_repo)
            lfs = getattr(file, "lfs", None)
            if lfs is not None:
                same = lfs.sha256 == addition.upload_info.sha256.hex()
            else:
                with addition.as_file() as content:
                    same = file is not None and getattr(file, "blob_id", None) == git_hash(content.read())
            if not same:
                missing.append(addition.path_in_repo)
        return missing


def _is_refusal(error: Exception) -> bool:
    """Return whether the Hub itself answered that it does not do what was asked."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    return isinstance(status, int) and 400 <= status < 500 and status != 408


@contextlib.contextmanager
def _one_line_errors(repository: str) -> Iterator[None]:
    """Convert the errors of huggingface_hub, and of the HTTP library that it uses, to OutputError."""
    try:
        yield
    except (MemoryError, KexueError):
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
    if _is_network_error(error):
        return f"{constants.ENDPOINT} cannot be reached, or the connection broke: {text}"
    return text


def _is_network_error(error: Exception) -> bool:
    """Return whether an error is one of the HTTP library, whose name moved between versions of huggingface_hub."""
    return any(kind.__name__ in ("TransportError", "RequestException") for kind in type(error).__mro__) or isinstance(
        error, (ConnectionError, TimeoutError)
    )


__all__ = ["Uploaded", "check_repository_name", "upload_folder"]
