"""Single objects and folders of them, for what AWS's services read and write: inputs of jobs, weights, results.

Addresses are texts, `s3://bucket/key`, as requests to these services hold them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from synth_dspy.core.errors import SetupError
from synth_dspy.core.io.files import replacing
from synth_dspy.core.s3.address import Address, require_address
from synth_dspy.core.s3.client import explained, open_store
from synth_dspy.core.s3.transfer import list_objects, upload


def upload_file(path: Path, target: str) -> None:
    """Copy a file to an address, in parts if it is large.

    Raises:
        SetupError: it cannot be read, or not be written there.
    """
    address = require_address(target)
    try:
        with explained(address, "write"):
            upload(open_store(), address, path)
    except OSError as error:
        raise SetupError(f"Could not copy {path} to {address}: {error.strerror or error}.") from error


def download_file(source: str, path: Path) -> None:
    """Copy an object to a file, whose folder is made; a file that is there is replaced at the end.

    Raises:
        SetupError: it cannot be read, or not be written here.
    """
    address, store = require_address(source), open_store()
    try:
        with explained(address, "read"), replacing(path) as part, part.open("wb") as file:
            extra = {"ExtraArgs": store.payer} if store.payer else {}
            store.client.download_fileobj(address.bucket, address.key, file, **extra)
    except OSError as error:
        raise SetupError(f"Could not copy {address} to {path}: {error.strerror or error}.") from error


def write_text(target: str, text: str) -> None:
    """Write UTF-8 text to an address.

    Raises:
        SetupError: it cannot be written there.
    """
    address, store = require_address(target), open_store()
    with explained(address, "write"):
        store.client.put_object(
            Bucket=address.bucket, Key=address.key, Body=text.encode(), **store.payer, **store.encryption
        )


def read_lines(source: str) -> Iterator[str]:
    """Lines of a text, one after the other.

    Raises:
        SetupError: it cannot be read.
    """
    address, store = require_address(source), open_store()
    with explained(address, "read"):
        reply = store.client.get_object(Bucket=address.bucket, Key=address.key, **store.payer)
        for line in reply["Body"].iter_lines(2**20):
            yield line.decode("utf-8", "replace")


def addresses_in(folder: str) -> list[str]:
    """Addresses of all objects in a folder.

    Raises:
        SetupError: it cannot be listed.
    """
    address = require_address(folder)
    with explained(address, "read"):
        return [f"s3://{address.bucket}/{each.key}" for each in list_objects(open_store(), address)]


def remove_folder(folder: str) -> int:
    """Remove all objects in a folder; their number.

    Raises:
        SetupError: one cannot be removed.
    """
    address, store = require_address(folder), open_store()
    with explained(address, "remove"):
        objects = [Address(address.bucket, each.key) for each in list_objects(store, address)]
        for each in objects:
            store.client.delete_object(Bucket=each.bucket, Key=each.key, **store.payer)
    return len(objects)
