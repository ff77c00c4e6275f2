"""Files behind ``http(s)://`` addresses: one folder of finished downloads, safe for several processes.

The folder is ``$XDG_CACHE_HOME/pockettts-fast`` (``~/.cache`` without it). A file is called
``<sha256 of the address><suffix>``; while it grows it has ``.part`` behind that and is locked, and
``.part.validator`` keeps the ETag or date for If-Range, so that the next try goes on where this one stopped.
"""

import contextlib
import hashlib
import logging
import os
import re
import secrets
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, BinaryIO
from urllib.parse import quote, urlsplit, urlunsplit

from pockettts_fast.errors import DownloadError

if TYPE_CHECKING:
    from http.client import HTTPMessage, HTTPResponse
    from urllib.request import OpenerDirector

logger = logging.getLogger(__name__)

_TIMEOUT_S = 30.0
_STALL_S = 60.0
"""A download of another process that grew by nothing for this long is not waited for."""
_ATTEMPTS = 5
_RETRY_DELAY_S = 0.5
_MAX_REDIRECTIONS = 5
_BLOCK_BYTES = 1 << 16
_PROGRESS_FROM_BYTES = 1 << 20


class AccessDeniedError(DownloadError):
    """A file that exists perhaps, but may not be read with the present credentials (401, 403, gated)."""


def is_offline() -> bool:
    """Whether the environment forbids network calls (``HF_HUB_OFFLINE`` or ``TRANSFORMERS_OFFLINE``)."""
    value = os.environ.get("HF_HUB_OFFLINE") or os.environ.get("TRANSFORMERS_OFFLINE") or ""
    return value.upper() in ("1", "ON", "YES", "TRUE")


class _InterruptedDownloadError(Exception):
    """The body ended early; what has arrived is kept."""


def _http_cache_folder() -> Path:
    base = os.environ.get("XDG_CACHE_HOME")
    return Path(base or os.path.expanduser("~/.cache")) / "pockettts-fast"


def _http_cache_name(url: str) -> str:
    suffix = PurePosixPath(urlsplit(url).path).suffix
    plain = re.fullmatch(r"\.[A-Za-z0-9]{1,15}", suffix)
    return hashlib.sha256(url.encode("utf-8", "surrogatepass")).hexdigest() + (suffix if plain else "")


def _ascii_url(url: str) -> str:
    """``url`` in the form HTTP wants; raises ValueError when it has none."""
    parts = urlsplit(url)
    host = (parts.hostname or "").encode("idna").decode("ascii")
    if not host:
        raise ValueError("no host name")
    netloc = (f"[{host}]" if ":" in host else host) + (f":{parts.port}" if parts.port is not None else "")
    kept = "/%:=&?~+!$,;'@()*[]"
    return urlunsplit((parts.scheme.lower(), netloc, quote(parts.path, kept), quote(parts.query, kept), ""))


def _shown(url: str) -> str:
    """``url`` without what may be secret: user, password, query."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def fetch(url: str, what: str) -> Path:
    """Local path of the content of ``url`` (http or https), downloaded unless it is in the cache.

    Raises:
        AccessDeniedError: the server answered 401 or 403.
        DownloadError: every other failure; nothing is left under the final name.
    """
    try:
        target = f"The {what} {_shown(url)}"
        request_url = _ascii_url(url)
    except ValueError as err:  # UnicodeError is one
        raise DownloadError(f"The {what} address is no valid URL ({err}): check it.") from err
    folder = _http_cache_folder()
    final = folder / _http_cache_name(url)
    if final.is_file():
        return final
    if is_offline():
        raise DownloadError(
            f"{target} is not in the cache and HF_HUB_OFFLINE is set: unset it once to download the file."
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _part_file(final) as part:
            if final.is_file():  # finished by another process while this one waited
                os.unlink(part.name)
                return final
            logger.info("Downloading %s", _shown(url))
            _download(request_url, part, target)
            part.flush()
            os.fsync(part.fileno())
            os.replace(part.name, final)
            _validator_file(part).unlink(missing_ok=True)
    except DownloadError:
        raise
    except OSError as err:
        raise DownloadError(
            f"{target} cannot be stored in {folder} ({err.strerror or err}): free some space or set "
            "XDG_CACHE_HOME to a folder that can be written."
        ) from err
    return final


@contextlib.contextmanager
def _part_file(final: Path) -> Iterator[BinaryIO]:
    """The growing file for ``final``, opened for appending and held by this caller alone.

    It is the common one, which can be resumed, or a private one when the common one is held by somebody who
    makes no progress or when this file system has no locks.
    """
    shared = _lock_when_free(final.with_name(final.name + ".part"))
    if shared is not None:
        with shared:
            yield shared
        return
    with open(final.with_name(f"{final.name}.{secrets.token_hex(8)}.part"), "x+b") as own:
        try:
            yield own
        finally:
            Path(own.name).unlink(missing_ok=True)
            _validator_file(own).unlink(missing_ok=True)


def _lock_when_free(common: Path) -> BinaryIO | None:
    """``common``, opened and locked once nobody else holds it; None when waiting for that is vain."""
    try:
        import fcntl
    except ImportError:
        return None
    size, grown_at = -1, time.monotonic()
    while True:
        file = open(common, "a+b")  # noqa: SIM115 (returned open)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # The holder before may have renamed the file between the two lines above.
            if common.exists() and os.path.samestat(os.fstat(file.fileno()), common.stat()):
                return file
            file.close()
            continue
        except BlockingIOError:
            file.close()
        except OSError:
            file.close()
            return None
        now, before = time.monotonic(), size
        with contextlib.suppress(OSError):
            size = common.stat().st_size
        if size != before:
            grown_at = now
        elif now - grown_at > _STALL_S:
            return None
        time.sleep(0.05)


def _download(url: str, part: BinaryIO, target: str) -> None:
    """Appends the rest of ``url`` to ``part``; returns only when it is complete."""
    opener = _opener()
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            _transfer(opener, url, part, target)
            return
        except _InterruptedDownloadError as err:
            if attempt == _ATTEMPTS:
                raise DownloadError(f"{target} arrived incomplete {_ATTEMPTS} times ({err}): try again later.") from err
            logger.info("%s: %s, trying again", target, err)
            time.sleep(_RETRY_DELAY_S * attempt)


def _transfer(opener: "OpenerDirector", url: str, part: BinaryIO, target: str) -> None:
    """One request. Raises _InterruptedDownloadError when another one may do better."""
    from http.client import HTTPException
    from urllib.error import HTTPError, URLError
    from urllib.request import Request

    offset = part.seek(0, os.SEEK_END)
    validator = _read_validator(part) if offset else None
    headers = {"User-Agent": "pockettts-fast", "Accept-Encoding": "identity"}
    if validator:
        headers |= {"Range": f"bytes={offset}-", "If-Range": validator}
    try:
        response = opener.open(Request(url, headers=headers), timeout=_TIMEOUT_S)
    except HTTPError as err:
        err.close()
        if err.code == 416 and validator:
            part.truncate(0)
            raise _InterruptedDownloadError("the server cannot resume it") from err
        raise _status_error(err.code, target) from err
    except DownloadError:
        raise
    except (OSError, HTTPException, ValueError) as err:
        reason = err.reason if isinstance(err, URLError) else err
        raise DownloadError(
            f"{target} cannot be reached ({reason}): check the address and the network connection."
        ) from err
    with response:
        expected = _expected_size(response, part, offset, validator, target)
        offset = part.seek(0, os.SEEK_END)
        _write_validator(part, response)
        with _progress(offset, expected) as advance:
            while True:
                try:
                    block = response.read(_BLOCK_BYTES)
                except (OSError, HTTPException) as err:
                    raise _InterruptedDownloadError(str(err) or type(err).__name__) from err
                if not block:
                    break
                part.write(block)
                offset += len(block)
                advance(len(block))
    if expected is not None and offset != expected:
        raise _InterruptedDownloadError(f"{offset} of {expected} bytes")


def _expected_size(
    response: "HTTPResponse", part: BinaryIO, offset: int, validator: str | None, target: str
) -> int | None:
    """Bytes of the whole file, None when the server does not say; empties ``part`` unless it is resumed."""
    headers = response.headers
    if headers.get("Content-Encoding", "identity").lower() != "identity":
        raise DownloadError(f"{target} comes in an encoding that was not asked for: use another server.")
    length = headers.get("Content-Length", "")
    span = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", headers.get("Content-Range", "").strip())
    if response.status == 206 and validator:
        if span and int(span[1]) == offset and _validator_of(response) in (None, validator):
            return int(span[2]) if span[2].isdigit() else offset + int(length) if length.isdigit() else None
        part.truncate(0)
        raise _InterruptedDownloadError("the file has changed on the server")
    if response.status != 200:
        raise _status_error(response.status, target)
    part.truncate(0)
    return int(length) if length.isdigit() else None


def _status_error(status: int, target: str) -> DownloadError:
    if status in (401, 403):
        return AccessDeniedError(
            f"{target} may not be read (HTTP {status}): use an address that needs no login, or a local copy."
        )
    if status in (404, 410):
        return DownloadError(f"{target} does not exist on the server (HTTP {status}): check the address.")
    if 300 <= status < 400:
        return DownloadError(f"{target} redirects too often or nowhere (HTTP {status}): use its final address.")
    return DownloadError(f"{target} cannot be downloaded (HTTP {status}): try again later.")


def _opener() -> "OpenerDirector":
    from urllib.request import HTTPRedirectHandler, Request, build_opener

    class Redirects(HTTPRedirectHandler):
        max_redirections = _MAX_REDIRECTIONS

        def redirect_request(
            self, req: Request, fp: IO[bytes], code: int, msg: str, headers: "HTTPMessage", newurl: str
        ) -> Request | None:
            scheme = urlsplit(newurl).scheme.lower()
            if scheme != "https" and (scheme != "http" or req.type == "https"):
                fp.close()
                raise DownloadError(
                    f"{_shown(req.full_url)} redirects to {_shown(newurl)}, which is not https: use another address."
                )
            return super().redirect_request(req, fp, code, msg, headers, newurl)

    return build_opener(Redirects)


def _validator_file(part: BinaryIO) -> Path:
    return Path(part.name + ".validator")


def _validator_of(response: "HTTPResponse") -> str | None:
    etag = response.headers.get("ETag")
    if etag and not etag.startswith("W/"):  # a weak one may not be used for ranges (RFC 9110, 13.1.5)
        return etag
    return response.headers.get("Last-Modified")


def _read_validator(part: BinaryIO) -> str | None:
    try:
        return _validator_file(part).read_text(encoding="latin-1") or None
    except OSError:
        return None


def _write_validator(part: BinaryIO, response: "HTTPResponse") -> None:
    _validator_file(part).write_text(_validator_of(response) or "", encoding="latin-1")


@contextlib.contextmanager
def _progress(done: int, total: int | None) -> Iterator[Callable[[int], None]]:
    """A function to be told the size of each block; it draws on a terminal only."""
    if not sys.stderr.isatty() or (total is not None and total < _PROGRESS_FROM_BYTES):
        yield lambda size: None
        return
    drawn_at = 0.0

    def advance(size: int) -> None:
        nonlocal done, drawn_at
        done += size
        if time.monotonic() - drawn_at > 0.2:
            drawn_at = time.monotonic()
            of = f" of {total / 1e6:.1f}" if total else ""
            sys.stderr.write(f"\r{done / 1e6:.1f}{of} MB ")
            sys.stderr.flush()

    try:
        yield advance
    finally:
        sys.stderr.write("\r" + " " * 32 + "\r")
        sys.stderr.flush()
