"""The one error of the template engine, with the text that clients see (spec 30, section 5.7)."""

from __future__ import annotations


class TemplateError(Exception):
    """A template cannot be parsed or rendered.

    ``kind`` is the class of the problem (``invalid operation``, ``unknown filter`` ...), ``detail`` its explanation
    (None when the kind says it all), ``line`` the 1-based line in the source, filled in by the innermost construct
    that fails.
    """

    prefix = "Template render error"

    def __init__(self, kind: str, detail: str | None = None, line: int = 0) -> None:
        super().__init__(kind, detail)
        self.kind = kind
        self.detail = detail
        self.line = line

    def __str__(self) -> str:
        text = f"{self.prefix}: {self.kind}"
        if self.detail is not None:
            text += f": {self.detail}"
        return f"{text} (in <string>:{self.line})" if self.line else text


class TemplateSyntaxError(TemplateError):
    """The source is no template of the dialect."""

    prefix = "Template parse error"

    def __init__(self, detail: str, line: int = 0) -> None:
        super().__init__("syntax error", detail, line)


class BadEscapeError(TemplateError):
    """A string literal holds an escape that denotes no character."""

    prefix = "Template parse error"

    def __init__(self, line: int = 0) -> None:
        super().__init__("bad string escape", None, line)


def invalid(detail: str | None = None) -> TemplateError:
    """An operation on operands that do not support it."""
    return TemplateError("invalid operation", detail)


def missing_argument() -> TemplateError:
    """A call with fewer arguments than the callee needs."""
    return TemplateError("missing argument")


def too_many_arguments(detail: str | None = None) -> TemplateError:
    """A call with an argument that the callee does not take."""
    return TemplateError("too many arguments", detail)
