"""The token stream of the parsers: one token of look-ahead, positions for error texts."""

from __future__ import annotations

from typing import NoReturn

from noetl.engine.template import lexer
from noetl.engine.template.errors import TemplateError, TemplateSyntaxError
from noetl.engine.template.lexer import Token, tokenize

MAX_NESTING = 150
MAX_TOKENS = 100_000
"""More would take longer to compile than a request may block the others."""
RESERVED_NAMES = frozenset({"true", "True", "false", "False", "none", "None", "loop", "self"})


class TokenStream:
    """Tokens of one source; ``line`` is that of the last token taken. A lexical error surfaces when looked at."""

    __slots__ = ("_failure", "_taken", "_tokens", "current", "line", "nesting")

    def __init__(self, source: str) -> None:
        self._tokens = tokenize(source)
        self._failure: TemplateError | None = None
        self._taken = 0
        self.line = 1
        self.nesting = 0
        self.current = Token(lexer.END, None, 1)
        self._advance()

    def _advance(self) -> None:
        try:
            self.current = next(self._tokens, Token(lexer.END, None, self.current.line))
        except TemplateError as error:
            self._failure = error

    def peek(self) -> Token:
        """The next token; END at the end."""
        if self._failure is not None:
            raise self._failure
        return self.current

    def take(self) -> Token:
        """Consume and return the next token."""
        token = self.peek()
        if token.kind is not lexer.END:
            self.line = token.line
            self._taken += 1
            if self._taken > MAX_TOKENS:
                self.fail(f"template has more than {MAX_TOKENS} tokens")
            self._advance()
        return token

    def is_at(self, kind: str) -> bool:
        """Whether the next token is of ``kind``."""
        return self.peek().kind == kind

    def is_word(self, *words: str) -> bool:
        """Whether the next token is one of these identifiers."""
        token = self.peek()
        return token.kind == lexer.IDENTIFIER and token.value in words

    def skip(self, kind: str) -> bool:
        """Consume the next token if it is of ``kind``."""
        if self.is_at(kind):
            self.take()
            return True
        return False

    def skip_word(self, *words: str) -> bool:
        """Consume the next token if it is one of these identifiers."""
        if self.is_word(*words):
            self.take()
            return True
        return False

    def expect(self, kind: str, expectation: str | None = None) -> Token:
        """Consume a token of ``kind`` or raise."""
        token = self.take()
        if token.kind != kind:
            self.fail(f"unexpected {token.kind}, expected {expectation or kind}")
        return token

    def expect_word(self, word: str, expectation: str | None = None) -> None:
        """Consume the identifier ``word`` or raise."""
        token = self.take()
        if token.kind != lexer.IDENTIFIER or token.value != word:
            self.fail(f"unexpected {token.kind}, expected {expectation or word}")

    def fail(self, message: str) -> NoReturn:
        """Raise a syntax error at the last token taken."""
        raise TemplateSyntaxError(message, self.line)

    def enter(self) -> None:
        """Go one level deeper; syntax error beyond ``MAX_NESTING``."""
        self.nesting += 1
        if self.nesting > MAX_NESTING:
            self.fail("template exceeds maximum recursion limits")

    def leave(self) -> None:
        """Come back from ``enter``."""
        self.nesting -= 1
