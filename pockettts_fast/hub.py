"""From the address of a file to a local path: ``hf://``, ``https://``, ``package://`` or a path.

The cache comes first: a file that is there, and whose address names a fixed content, costs no network
call and no import. ``HF_HUB_OFFLINE``, ``HF_HOME``, ``HF_HUB_CACHE`` and ``HF_TOKEN`` are honoured.
Addresses are those of ``pocket_tts.utils.utils.download_if_necessary``, and ``package://`` for files that
are shipped inside this package.
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from pockettts_fast.errors import DownloadError, MissingFileError
from pockettts_fast.http_cache import AccessDeniedError as AccessDeniedError
from pockettts_fast.http_cache import fetch, is_offline

_PACKAGE_FOLDER = Path(__file__).parent
_COMMIT = re.compile(r"[0-9a-f]{40}")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class HubAddress:
    """A file on the Hugging Face hub: ``hf://owner/name/filename[@revision]``."""

    repository: str
    filename: str
    revision: str | None

    @classmethod
    def parse(cls, address: str) -> "HubAddress":
        """Raises DownloadError for an address that cannot be one."""
        owner, _, rest = address.partition("://")[2].partition("/")
        name, _, filename = rest.partition("/")
        filename, at, revision = filename.rpartition("@") if "@" in filename else (filename, "", "")
        parts = filename.split("/")
        well_formed = (
            _NAME.fullmatch(owner)
            and _NAME.fullmatch(name)
            and not any(part in ("", ".", "..") or "\0" in part for part in parts)
            and (not at or (revision and ".." not in revision))
        )
        if not well_formed:
            raise DownloadError(f"The address {address!r} is malformed: write hf://owner/name/path/to/file[@revision].")
        return cls(f"{owner}/{name}", filename, revision or None)


def scheme_of(address: str | Path) -> str:
    """``"hf"``, ``"http"``, ``"https"``, ``"package"``, or ``""`` for a local path."""
    if isinstance(address, Path):
        return ""
    scheme, separator, _ = str(address).partition("://")
    scheme = scheme.lower()
    return scheme if separator and scheme in ("hf", "http", "https", "package") else ""


def path_part(address: str | Path) -> str:
    """``address`` without query, fragment or ``@revision``: what a file's suffix has to be read from."""
    scheme = scheme_of(address)
    text = str(address)
    if scheme in ("http", "https"):
        return urlsplit(text).path
    if scheme == "hf":
        return text.rsplit("@", 1)[0]
    return text


def resolve(address: str | Path, *, what: str = "file") -> Path:
    """Local path of the regular file at ``address``, downloaded when it is not cached.

    A ``pathlib.Path`` is always local. ``~`` is not expanded.

    Args:
        address: ``hf://owner/name/path[@revision]``, ``https://...``, ``http://...``, ``package://path``
            (a file inside the installed package) or a local path.
        what: what the file is for, to be named in errors ("weights", "tokenizer", ...).

    Raises:
        MissingFileError: no such local or packaged file, or it is a folder or a device.
        AccessDeniedError: the file needs credentials or accepted terms.
        DownloadError: not cached, and it cannot be downloaded now; the message says why.
    """
    scheme = scheme_of(address)
    if scheme == "hf":
        return _from_hub(str(address), what)
    if scheme in ("http", "https"):
        return fetch(str(address), what)
    if scheme == "package":
        return _from_package(str(address), what)
    return _local(address, what)


def _local(address: str | Path, what: str) -> Path:
    if str(address) == "":
        raise MissingFileError(f"The path of the {what} is empty: give the path of a file.")
    path = Path(address)
    try:
        path.stat()
        if path.is_file():
            return path
        kind = "a folder" if path.is_dir() else "not a regular file"
    except FileNotFoundError:
        hint = "check the path"
        if "://" in str(address):
            hint = "the addresses understood are hf://, https://, http://, package:// and local paths"
        raise MissingFileError(f"The {what} {str(address)!r} does not exist: {hint}.") from None
    except (OSError, ValueError) as err:
        # ValueError: a NUL in the path.
        reason = err.strerror if isinstance(err, OSError) and err.strerror else str(err)
        raise MissingFileError(f"The {what} {str(address)!r} cannot be opened ({reason}): check the path.") from err
    raise MissingFileError(f"The {what} {str(address)!r} is {kind}: give the path of a file.")


def _from_package(address: str, what: str) -> Path:
    inner = PurePosixPath(address.partition("://")[2])
    path = _PACKAGE_FOLDER / inner
    if inner.is_absolute() or ".." in inner.parts or "\0" in str(inner) or not path.is_file():
        raise MissingFileError(f"The {what} {address!r} is not part of this installation: install the package again.")
    return path


def _hub_cache_folder() -> Path:
    """The cache of huggingface_hub, from the variables it documents, read at every call."""
    environ = os.environ
    folder = environ.get("HF_HUB_CACHE") or environ.get("HUGGINGFACE_HUB_CACHE")
    if not folder:
        home = environ.get("HF_HOME")
        if not home:
            home = os.path.join(environ.get("XDG_CACHE_HOME") or "~/.cache", "huggingface")
        folder = os.path.join(home, "hub")
    return Path(os.path.expandvars(os.path.expanduser(folder)))


def _from_hub(address: str, what: str) -> Path:
    parsed = HubAddress.parse(address)
    cache = _hub_cache_folder()
    if parsed.revision is not None and _COMMIT.fullmatch(parsed.revision):
        # A commit never changes, so a cached file needs no question to the hub; looking it up by the
        # documented cache layout saves importing huggingface_hub (0.15 s of a start of 0.6 s).
        snapshot = cache / f"models--{parsed.repository.replace('/', '--')}" / "snapshots" / parsed.revision
        if (snapshot / parsed.filename).is_file():
            return snapshot / parsed.filename
    offline = is_offline()
    # huggingface_hub shows its progress bar on a terminal only.
    from huggingface_hub import hf_hub_download

    try:
        return Path(
            hf_hub_download(
                repo_id=parsed.repository,
                filename=parsed.filename,
                revision=parsed.revision,
                cache_dir=cache,
                local_files_only=offline,
            )
        )
    except Exception as err:
        # The library raises its own errors, its HTTP client's, OSError and ValueError; all mean "no file".
        raise _hub_error(err, address, parsed, what, offline) from err


def _hub_error(err: Exception, address: str, parsed: HubAddress, what: str, offline: bool) -> DownloadError:
    from huggingface_hub import errors

    chain: list[BaseException] = [err]
    while chain[-1].__cause__ is not None and len(chain) < 8:
        chain.append(chain[-1].__cause__)
    statuses = {getattr(getattr(link, "response", None), "status_code", None) for link in chain}
    file = f"The {what} {address}"

    def caused_by(*classes: type[BaseException]) -> bool:
        return any(isinstance(link, classes) for link in chain)

    if caused_by(errors.GatedRepoError):
        return AccessDeniedError(
            f"{file} is gated: accept the terms at https://huggingface.co/{parsed.repository} and log in "
            "with `hf auth login` or set HF_TOKEN."
        )
    if caused_by(errors.RevisionNotFoundError):
        return DownloadError(f"{file} has no such revision: check what follows the '@'.")
    if caused_by(errors.RepositoryNotFoundError) or statuses & {401, 403}:
        return AccessDeniedError(
            f"{file} is in a repository that does not exist or needs a login: check the name, or log in "
            "with `hf auth login` or set HF_TOKEN."
        )
    if offline:
        return DownloadError(
            f"{file} is not in the cache and HF_HUB_OFFLINE is set: unset it once to download the file."
        )
    if caused_by(errors.LocalEntryNotFoundError):
        return DownloadError(
            f"{file} is not in the cache and the hub cannot be reached: check the network and try again."
        )
    if caused_by(errors.EntryNotFoundError):
        return DownloadError(f"{file} does not exist in its repository: check the path.")
    if isinstance(err, OSError) and err.strerror and err.filename:
        return DownloadError(
            f"{file} cannot be stored at {err.filename} ({err.strerror}): free some space or set HF_HOME to "
            "a folder that can be written."
        )
    reason = (str(err).strip() or type(err).__name__).splitlines()[0]
    return DownloadError(f"{file} cannot be downloaded ({reason}): try again.")
