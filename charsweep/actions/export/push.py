"""Uploading an exported folder to the Hugging Face hub; only when asked, never by default."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from charsweep.core.errors import ConfigError, ModelsError

if TYPE_CHECKING:
    from huggingface_hub import HfApi


def open_hub(repository: str) -> HfApi:
    """The hub with the person's token; `ConfigError` if there is none. No network yet."""
    from huggingface_hub import HfApi, get_token

    token = get_token()
    if not token:
        raise ConfigError(
            f"export.push={repository}: there is no token to push with; set HF_TOKEN to one that "
            "may write (huggingface.co/settings/tokens), or leave export.push out"
        )
    return HfApi(token=token)


def push(folder: Path, repository: str, private: bool, message: str, hub: HfApi) -> str:
    """Upload the folder whole in one commit; returns the address. Raises `ModelsError`."""
    from huggingface_hub import errors

    # The root of its HTTP client's kinds, among them that of a missing network.
    client_error: type[Exception] = errors.HTTPError  # type: ignore[attr-defined]  # not exported

    try:
        hub.create_repo(repository, private=private, exist_ok=True)
        hub.upload_folder(repo_id=repository, folder_path=folder, commit_message=message)
    except errors.OfflineModeIsEnabled as error:
        raise ModelsError(
            f"export.push={repository}: HF_HUB_OFFLINE is set; unset it and run the same command "
            f"again. The files are in {folder}"
        ) from error
    except (client_error, errors.HFValidationError, OSError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ModelsError(
            f"export.push={repository}: the hub did not take it ({reason}); see that the name is "
            "yours and that HF_TOKEN may write, and run the same command again. The files are in "
            f"{folder}"
        ) from error
    return f"https://huggingface.co/{repository}"
