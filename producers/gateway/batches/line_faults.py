"""Lines of a batch file that cannot be answered: the whole batch fails, or the line alone. Pure."""

from __future__ import annotations

from producers.gateway.records import LineError


class BadLine(Exception):
    """An invalid line: its batch fails before anything is computed."""

    def __init__(self, code: str, message: str, param: str | None = None) -> None:
        super().__init__(_printable(message))
        self.code = code
        self.param = None if param is None else _printable(param)

    def at(self, line: int) -> LineError:
        return LineError(code=self.code, line=line, message=str(self), param=self.param)


class Unserved(BadLine):
    """A valid line that asks for what is not served: it has an error, and the others their answers."""


def _printable(text: str) -> str:
    """The text with lone surrogates, which a name in a line may have, as escapes."""
    return text.encode("utf-8", "backslashreplace").decode()


def encodable(text: str, param: str) -> str:
    """Check that the text can be encoded as UTF-8: JSON may contain lone surrogates.

    Raises:
        BadLine: it cannot.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        raise BadLine("invalid_value", f"{param} is not valid Unicode", param) from None
    return text
