"""What unreadable bytes most likely are, so that a refusal can say it in words."""

from typing import Final

_SIGNATURES: Final[tuple[tuple[int, bytes, str], ...]] = (
    (0, b"\x89PNG\r\n\x1a\n", "a PNG picture"),
    (0, b"\xff\xd8\xff", "a JPEG picture"),
    (0, b"GIF87a", "a GIF picture"),
    (0, b"GIF89a", "a GIF picture"),
    (0, b"II*\x00", "a TIFF picture"),
    (0, b"MM\x00*", "a TIFF picture"),
    (8, b"WEBP", "a WebP picture"),
    (4, b"ftypavif", "an AVIF picture"),
    (4, b"ftyphei", "a HEIC picture"),
    (4, b"ftypmif1", "a HEIC picture"),
    (4, b"ftyp", "a video"),
    (0, b"\x1aE\xdf\xa3", "a video"),
    (0, b"%PDF-", "a PDF document"),
    (0, b"%!PS", "a PostScript document"),
    (0, b"\xd0\xcf\x11\xe0", "an old Office document"),
    (0, b"PK\x03\x04", "a ZIP archive or an Office document"),
    (0, b"PAR1", "a Parquet file"),
    (0, b"\x1f\x8b", "a gzip archive"),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (0, b"\x7fELF", "a program"),
    (0, b"\xff\xfe", "text in UTF-16"),
    (0, b"\xfe\xff", "text in UTF-16"),
)


def describe_content(data: bytes) -> str:
    """Name what bytes hold, judged by their first bytes.

    Returns:
        A noun phrase such as `a PNG picture`, or an empty string when nothing is recognised.
    """
    for offset, signature, description in _SIGNATURES:
        if data[offset : offset + len(signature)] == signature:
            return description
    head = data[:4096]
    if b"<svg" in head:
        return "an SVG drawing"
    # Little-endian UTF-16 without a mark: Western text has a NUL in every second byte.
    if len(head) >= 4 and head.count(0) >= len(head) // 3:
        return "text in UTF-16 or binary data"
    return "plain text" if head and _is_utf8(head) else ""


def _is_utf8(head: bytes) -> bool:
    """Whether bytes are UTF-8 without NUL; a character cut off at the end does not count against it."""
    if 0 in head:
        return False
    try:
        head.decode("utf-8")
    except UnicodeDecodeError as error:
        return error.reason == "unexpected end of data"
    return True
