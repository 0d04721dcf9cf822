"""Text as a visitor gives it: bytes or a string in, a checked string or one clear sentence out."""

import codecs
from typing import Final

from uoe_model.errors import InputError
from uoe_model.processors.signatures import describe_content

MAX_TEXT_CHARS: Final = 200_000
"""Characters of one text that are run at once unless the caller says otherwise."""

MAX_TEXT_BYTES: Final = 4 * MAX_TEXT_CHARS
"""The same limit for a file: a character of UTF-8 has at most four bytes."""


def decode_text(data: bytes, *, max_bytes: int = MAX_TEXT_BYTES, name: str = "The text") -> str:
    """Decode the bytes of a text file, exactly: no newline or Unicode form is changed.

    A byte order mark at the start is dropped. The content decides, not the file's extension.

    Args:
        data: content of the file.
        max_bytes: longest file that is accepted.
        name: subject of the error sentence, for instance the file's name.

    Raises:
        InputError: the file is empty, too long, holds NUL bytes, or is not UTF-8.
    """
    subject = shorten_name(name)
    if not data:
        raise InputError(f"{subject} is empty: give at least one character.")
    if len(data) > max_bytes:
        raise InputError(
            f"{subject} has {len(data):,} bytes; at most {max_bytes:,} are run at once: "
            "shorten it or cut it into parts."
        )
    try:
        text = data.removeprefix(codecs.BOM_UTF8).decode("utf-8")
    except UnicodeDecodeError as error:
        position = error.start + (len(codecs.BOM_UTF8) if data.startswith(codecs.BOM_UTF8) else 0)
        raise InputError(
            f"{subject} is not UTF-8 text (byte 0x{data[position]:02X} at position {position:,})"
            f"{_guess(data)}: save it as UTF-8 and try again."
        ) from error
    if "\0" in text:
        raise InputError(
            f"{subject} holds a NUL byte at position {data.index(0):,}, which no plain text has{_guess(data)}: "
            "save it as UTF-8 text and try again."
        )
    return check_text(text, max_chars=max_bytes, name=name)


def check_text(text: str, *, max_chars: int = MAX_TEXT_CHARS, name: str = "The text") -> str:
    """Return a text unchanged if it can be run.

    Control characters other than NUL are text like any other.

    Raises:
        InputError: the text is empty, too long, holds a NUL character or half of a surrogate pair.
    """
    subject = shorten_name(name)
    if not text:
        raise InputError(f"{subject} is empty: give at least one character.")
    if len(text) > max_chars:
        raise InputError(
            f"{subject} has {len(text):,} characters; at most {max_chars:,} are run at once: "
            "shorten it or cut it into parts."
        )
    if "\0" in text:
        position = text.index("\0")
        raise InputError(f"{subject} holds a NUL character at position {position:,}: remove it and try again.")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InputError(
            f"{subject} holds half of a surrogate pair (U+{ord(text[error.start]):04X} at position {error.start:,}), "
            "which is no character: remove it and try again."
        ) from error
    return text


def shorten_name(name: str, *, max_chars: int = 80) -> str:
    """Make a file's name fit into a sentence: one line, printable, not too long."""
    shown = "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in name)
    return shown if len(shown) <= max_chars else f"{shown[: max_chars - 1]}…"


def _guess(data: bytes) -> str:
    """A clause that says what the bytes look like, empty when nothing is known."""
    description = describe_content(data)
    return f"; it looks like {description}" if description not in ("", "plain text") else ""
