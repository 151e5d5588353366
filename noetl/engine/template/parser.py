"""Parses template source into statements (spec 30, section 5.5)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from noetl.engine.template import lexer
from noetl.engine.template.expression_parser import ExpressionParser
from noetl.engine.template.nodes import (
    AutoEscape,
    Block,
    Call,
    CallBlock,
    Chain,
    Comparison,
    Conditional,
    Constant,
    Data,
    Do,
    Expression,
    Extends,
    Filter,
    FilterBlock,
    For,
    If,
    Include,
    Item,
    ListLiteral,
    Logical,
    Macro,
    MapLiteral,
    Negate,
    Not,
    Output,
    Set,
    SetBlock,
    Slice,
    Statement,
    Test,
    Variable,
    With,
)
from noetl.engine.template.stream import TokenStream

if TYPE_CHECKING:
    from collections.abc import Callable

_DESCRIPTIONS: dict[type[Expression], str] = {
    Variable: "variable",
    Constant: "constant",
    Slice: "slice",
    Not: "unary operator",
    Negate: "unary operator",
    Chain: "binary operator",
    Comparison: "binary operator",
    Logical: "binary operator",
    Conditional: "if expression",
    Filter: "filter expression",
    Test: "test expression",
    ListLiteral: "list literal",
    MapLiteral: "map literal",
}


def parse(source: str) -> list[Statement]:
    """Statements of ``source``. Raises TemplateSyntaxError, or BadEscapeError for a string literal."""
    return _StatementParser(TokenStream(source)).body()


class _StatementParser(ExpressionParser):
    """Reads statements from a token stream."""

    def __init__(self, stream: TokenStream) -> None:
        super().__init__(stream)
        self._in_macro = False
        self._blocks: set[str] = set()
        self._statements: dict[str, Callable[[int], Statement]] = {
            "for": self._for,
            "if": self._if,
            "with": self._with,
            "set": self._set,
            "autoescape": self._autoescape,
            "filter": self._filter_block,
            "block": self._block,
            "extends": lambda line: Extends(line, self.expression()),
            "include": self._include,
            "import": self._import,
            "from": self._from,
            "macro": self._macro,
            "call": self._call,
            "do": lambda line: Do(line, self._call_expression()),
        }

    def body(self, *end_words: str) -> list[Statement]:
        """Statements up to a block that starts with one of ``end_words`` (left in the stream), or to the end."""
        stream = self.stream
        statements: list[Statement] = []
        while True:
            token = stream.take()
            if token.kind == lexer.END:
                return statements
            if token.kind == lexer.DATA:
                statements.append(Data(token.line, token.value))
            elif token.kind == lexer.VARIABLE_START:
                statements.append(Output(token.line, self.expression()))
                stream.expect(lexer.VARIABLE_END)
            else:
                if stream.is_at(lexer.END):
                    stream.fail("unexpected end of input, expected keyword")
                if stream.is_word(*end_words):
                    return statements
                stream.enter()
                statements.append(self._statement())
                stream.leave()
                stream.expect(lexer.BLOCK_END)

    def _statement(self) -> Statement:
        token = self.stream.take()
        if token.kind != lexer.IDENTIFIER:
            self.stream.fail(f"unknown {token.kind}, expected statement")
        parse_statement = self._statements.get(token.value)
        if parse_statement is None:
            self.stream.fail(f"unknown statement {token.value}")
        return parse_statement(token.line)

    def _end_of_block(self) -> None:
        self.stream.expect(lexer.BLOCK_END)

    def _for(self, line: int) -> Statement:
        stream = self.stream
        target = self.assignment_target()
        stream.expect_word("in")
        collection = self.without_condition()
        condition = self.expression() if stream.skip_word("if") else None
        recursive = stream.skip_word("recursive")
        self._end_of_block()
        body = self.body("endfor", "else")
        otherwise: list[Statement] = []
        if stream.skip_word("else"):
            self._end_of_block()
            otherwise = self.body("endfor")
        stream.take()
        return For(line, target, collection, condition, recursive, body, otherwise)

    def _if(self, line: int) -> Statement:
        stream = self.stream
        branches: list[tuple[Expression, list[Statement]]] = []
        otherwise: list[Statement] = []
        while True:
            condition = self.without_condition()
            self._end_of_block()
            branches.append((condition, self.body("endif", "else", "elif")))
            word = stream.take().value
            if word == "else":
                self._end_of_block()
                otherwise = self.body("endif")
                stream.take()
            if word != "elif":
                return If(line, branches, otherwise)

    def _with(self, line: int) -> Statement:
        stream = self.stream
        assignments: list[tuple[Expression, Expression]] = []
        while not stream.is_at(lexer.BLOCK_END):
            if assignments:
                stream.expect("`,`", "comma")
            target = self._parenthesized_target() if stream.is_at("`(`") else self.assign_name()
            stream.expect("`=`", "assignment operator")
            assignments.append((target, self.expression()))
        self._end_of_block()
        body = self.body("endwith")
        stream.take()
        return With(line, assignments, body)

    def _parenthesized_target(self) -> Expression:
        self.stream.expect("`(`")
        target = self.assignment_target()
        self.stream.expect("`)`")
        return target

    def _set(self, line: int) -> Statement:
        stream = self.stream
        parenthesized = stream.is_at("`(`")
        target = self.assignment_target(dotted=True)
        if not parenthesized and (stream.is_at(lexer.BLOCK_END) or stream.is_at("`|`")):
            chain = self._filter_chain() if stream.skip("`|`") else None
            self._end_of_block()
            body = self.body("endset")
            stream.take()
            return SetBlock(line, target, chain, body)
        stream.expect("`=`", "assignment operator")
        return Set(line, target, self.expression())

    def _autoescape(self, line: int) -> Statement:
        mode = self.expression()
        self._end_of_block()
        body = self.body("endautoescape")
        self.stream.take()
        return AutoEscape(line, mode, body)

    def _filter_chain(self) -> Expression:
        stream = self.stream
        chain: Expression | None = None
        while not stream.is_at(lexer.BLOCK_END):
            if chain is not None:
                stream.expect("`|`")
            name = stream.expect(lexer.IDENTIFIER)
            chain = Filter(name.line, chain, name.value, self.optional_arguments())
        if chain is None:
            stream.fail("expected a filter")
        return chain

    def _filter_block(self, line: int) -> Statement:
        chain = self._filter_chain()
        self._end_of_block()
        body = self.body("endfilter")
        self.stream.take()
        return FilterBlock(line, chain, body)

    def _block(self, line: int) -> Statement:
        stream = self.stream
        if self._in_macro:
            stream.fail("block tags in macros are not allowed")
        name = stream.expect(lexer.IDENTIFIER).value
        if name in self._blocks:
            stream.fail(f"block '{name}' defined twice")
        self._blocks.add(name)
        self._end_of_block()
        body = self.body("endblock")
        stream.take()
        if stream.is_at(lexer.IDENTIFIER):
            trailing = stream.peek().value
            if trailing != name:
                stream.fail(f"mismatching name on block. Got `{trailing}`, expected `{name}`")
            stream.take()
        return Block(line, name, body)

    def _skip_context_words(self) -> None:
        if self.stream.skip_word("with", "without"):
            self.stream.expect_word("context", "missing keyword")

    def _include(self, line: int) -> Statement:
        name = self.expression()
        self._skip_context_words()
        ignore_missing = self.stream.skip_word("ignore")
        if ignore_missing:
            self.stream.expect_word("missing", "missing keyword")
            self._skip_context_words()
        return Include(line, name, ignore_missing)

    def _import(self, line: int) -> Statement:
        name = self.expression()
        self.stream.expect_word("as")
        self.expression()
        return Include(line, name, False)

    def _from(self, line: int) -> Statement:
        stream = self.stream
        name = self.expression()
        stream.expect_word("import")
        first = True
        while not stream.is_at(lexer.BLOCK_END):
            if not first:
                stream.expect("`,`")
                if stream.is_at(lexer.BLOCK_END):
                    break
            first = False
            self.assign_name()
            if stream.skip_word("as"):
                self.assign_name()
        return Include(line, name, False)

    def _parameters(self) -> list[tuple[str, Expression | None]]:
        stream = self.stream
        parameters: list[tuple[str, Expression | None]] = []
        defaults = False
        while not stream.skip("`)`"):
            if parameters:
                stream.expect("`,`")
                if stream.skip("`)`"):
                    break
            name = self.assign_name()
            assert isinstance(name, Variable)
            if defaults:
                stream.expect("`=`")
                parameters.append((name.name, self.expression()))
            elif stream.skip("`=`"):
                defaults = True
                parameters.append((name.name, self.expression()))
            else:
                parameters.append((name.name, None))
        return parameters

    def _macro_body(self, line: int, name: str, parameters: list[tuple[str, Expression | None]], end: str) -> Macro:
        self._end_of_block()
        outer, self._in_macro = self._in_macro, True
        body = self.body(end)
        self._in_macro = outer
        self.stream.take()
        return Macro(line, name, parameters, body)

    def _macro(self, line: int) -> Statement:
        name = self.stream.expect(lexer.IDENTIFIER).value
        self.stream.expect("`(`")
        return self._macro_body(line, name, self._parameters(), "endmacro")

    def _call(self, line: int) -> Statement:
        parameters = self._parameters() if self.stream.skip("`(`") else []
        call = self._call_expression()
        caller = self._macro_body(line, "caller", parameters, "endcall")
        return CallBlock(line, call, caller)

    def _call_expression(self) -> Call:
        node = self.expression()
        if not isinstance(node, Call):
            description = _DESCRIPTIONS.get(type(node)) or (
                "attribute lookup" if isinstance(node, Item) and node.dotted else "item lookup"
            )
            self.stream.fail(f"expected call expression in call block, got {description}")
        return node
