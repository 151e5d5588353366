"""Parses expressions: precedence, postfix forms, literals (spec 30, section 5.5)."""

from __future__ import annotations

from noetl.engine.template import lexer
from noetl.engine.template.nodes import (
    Argument,
    Call,
    Chain,
    Comparison,
    Conditional,
    Constant,
    Expression,
    Filter,
    Item,
    ListLiteral,
    Logical,
    MapLiteral,
    Negate,
    Not,
    Slice,
    TargetList,
    Test,
    Variable,
)
from noetl.engine.template.stream import RESERVED_NAMES, TokenStream
from noetl.engine.template.values import NONE

_CONSTANTS = {"true": True, "True": True, "false": False, "False": False, "none": NONE, "None": NONE}
# Binary operators with their precedence, loosest first.
_OR, _AND, _NOT, _COMPARE, _ADD, _JOIN, _MULTIPLY, _POWER = range(8)
_OPERATORS: dict[str, tuple[int, str]] = {
    **{f"`{sign}`": (_COMPARE, sign) for sign in ("==", "!=", "<", "<=", ">", ">=")},
    "`+`": (_ADD, "+"),
    "`-`": (_ADD, "-"),
    "`~`": (_JOIN, "~"),
    "`*`": (_MULTIPLY, "*"),
    "`/`": (_MULTIPLY, "/"),
    "`//`": (_MULTIPLY, "//"),
    "`%`": (_MULTIPLY, "%"),
    "`**`": (_POWER, "**"),
}
_WORD_OPERATORS: dict[str, tuple[int, str]] = {
    "or": (_OR, "or"),
    "and": (_AND, "and"),
    "in": (_COMPARE, "in"),
    "not": (_COMPARE, "not in"),
}
_TEST_ARGUMENT_STARTS = frozenset(
    {lexer.IDENTIFIER, lexer.STRING, lexer.INTEGER, lexer.FLOAT, "`+`", "`-`", "`[`", "`{`"}
)
_MAX_ARGUMENTS = 2000


class ExpressionParser:
    """Reads expressions from a token stream."""

    def __init__(self, stream: TokenStream) -> None:
        self.stream = stream

    def expression(self) -> Expression:
        """A complete expression, including ``x if c else y``."""
        self.stream.enter()
        node = self._conditional()
        self.stream.leave()
        return node

    def _conditional(self) -> Expression:
        stream = self.stream
        line = stream.line
        node = self._operation(_OR)
        while stream.skip_word("if"):
            test = self._operation(_OR)
            other = self._conditional() if stream.skip_word("else") else None
            node = Conditional(line, test, node, other)
            line = stream.line
        return node

    def without_condition(self) -> Expression:
        """An expression that may be followed by a keyword ``if`` which does not belong to it."""
        return self._operation(_OR)

    def _operation(self, loosest: int) -> Expression:
        """Operands joined by operators that bind at least as tightly as ``loosest``."""
        stream = self.stream
        line = stream.peek().line
        negations = 0
        while loosest <= _NOT and stream.skip_word("not"):
            negations += 1
        node = self._operation(_COMPARE) if negations else self._unary()
        for _ in range(negations):
            node = Not(line, node)
        while (level := self._operator()[0]) >= loosest:
            rest: list[tuple[str, Expression]] = []
            while (found := self._operator())[0] == level:
                stream.take()
                if found[1] == "not in":
                    stream.expect_word("in")
                rest.append((found[1], self._operation(level + 1)))
            if level <= _AND:
                node = Logical(line, rest[0][0], [node, *(operand for _, operand in rest)])
            else:
                node = Comparison(line, node, rest) if level == _COMPARE else Chain(line, node, rest)
        return node

    def _operator(self) -> tuple[int, str]:
        """Precedence and name of the binary operator that comes next; the precedence is -1 when none does."""
        token = self.stream.peek()
        table, key = (_WORD_OPERATORS, token.value) if token.kind == lexer.IDENTIFIER else (_OPERATORS, token.kind)
        return table.get(key, (-1, ""))

    def _unary(self) -> Expression:
        return self._filters(self._postfix(self._sign()))

    def _sign(self) -> Expression:
        line = self.stream.peek().line
        signs = 0
        while self.stream.skip("`-`"):
            signs += 1
        node = self._primary()
        for _ in range(signs):
            node = Negate(line, node)
        return node

    def _postfix(self, node: Expression) -> Expression:
        stream = self.stream
        while True:
            line = stream.peek().line
            if stream.skip("`.`"):
                token = stream.take()
                if token.kind not in (lexer.IDENTIFIER, lexer.INTEGER):
                    stream.fail(f"unexpected {token.kind}, expected identifier or integer")
                node = Item(line, node, Constant(line, token.value), True)
            elif stream.skip("`[`"):
                node = self._subscript(node, line)
            elif stream.is_at("`(`"):
                node = Call(line, node, self.arguments())
            else:
                return node

    def _subscript(self, node: Expression, line: int) -> Expression:
        stream = self.stream
        start = stop = step = None
        is_slice = False
        if not stream.is_at("`:`"):
            start = self.expression()
        if stream.skip("`:`"):
            is_slice = True
            if not (stream.is_at("`]`") or stream.is_at("`:`")):
                stop = self.expression()
            if stream.skip("`:`") and not stream.is_at("`]`"):
                step = self.expression()
        stream.expect("`]`")
        if is_slice:
            return Slice(line, node, start, stop, step)
        assert start is not None
        return Item(line, node, start, False)

    def _filters(self, node: Expression) -> Expression:
        stream = self.stream
        while True:
            if stream.skip("`|`"):
                name = stream.expect(lexer.IDENTIFIER)
                node = Filter(name.line, node, name.value, self.optional_arguments())
            elif stream.skip_word("is"):
                negated = stream.skip_word("not")
                name = stream.expect(lexer.IDENTIFIER)
                node = Test(name.line, node, name.value, self._test_arguments())
                if negated:
                    node = Not(name.line, node)
            else:
                return node

    def _test_arguments(self) -> list[Argument]:
        stream = self.stream
        if stream.is_at("`(`"):
            return self.arguments()
        if stream.peek().kind not in _TEST_ARGUMENT_STARTS or stream.is_word("and", "or", "else", "is"):
            return []
        return [Argument(self._postfix(self._sign()))]

    def optional_arguments(self) -> list[Argument]:
        """Arguments in parentheses, if there are any."""
        return self.arguments() if self.stream.is_at("`(`") else []

    def arguments(self) -> list[Argument]:
        """``(a, b, *c, d=e, **f)``."""
        stream = self.stream
        stream.expect("`(`")
        arguments: list[Argument] = []
        keywords = False
        while not stream.skip("`)`"):
            if arguments:
                stream.expect("`,`")
                if stream.skip("`)`"):
                    break
            splat = "**" if stream.skip("`**`") else "*" if stream.skip("`*`") else ""
            value = self.expression()
            if splat:
                keywords = keywords or splat == "**"
                arguments.append(Argument(value, splat=splat))
            elif isinstance(value, Variable) and stream.skip("`=`"):
                keywords = True
                arguments.append(Argument(self.without_condition(), name=value.name))
            elif keywords:
                stream.fail("non-keyword arg after keyword arg")
            else:
                arguments.append(Argument(value))
            if len(arguments) > _MAX_ARGUMENTS:
                stream.fail("Too many arguments in function call")
        return arguments

    def _primary(self) -> Expression:
        stream = self.stream
        stream.enter()
        token = stream.take()
        line = token.line
        node: Expression
        if token.kind == lexer.IDENTIFIER:
            name = token.value
            node = Constant(line, _CONSTANTS[name]) if name in _CONSTANTS else Variable(line, name)
        elif token.kind == lexer.STRING:
            text = token.value
            while stream.is_at(lexer.STRING):
                text += stream.take().value
            node = Constant(line, text)
        elif token.kind in (lexer.INTEGER, lexer.FLOAT):
            node = Constant(line, token.value)
        elif token.kind == "`(`":
            node = self._parenthesis(line)
        elif token.kind == "`[`":
            node = ListLiteral(line, self._items("`]`"))
        elif token.kind == "`{`":
            node = self._map(line)
        elif token.kind == lexer.END:
            stream.fail("unexpected end of input, expected expression")
        else:
            stream.fail(f"unexpected {token.kind}")
        stream.leave()
        return node

    def _items(self, closing: str, items: list[Expression] | None = None) -> list[Expression]:
        stream = self.stream
        items = items if items is not None else []
        while not stream.skip(closing):
            if items:
                stream.expect("`,`")
                if stream.skip(closing):
                    break
            items.append(self.expression())
        return items

    def _map(self, line: int) -> Expression:
        stream = self.stream
        pairs: list[tuple[Expression, Expression]] = []
        while not stream.skip("`}`"):
            if pairs:
                stream.expect("`,`")
                if stream.skip("`}`"):
                    break
            key = self.expression()
            stream.expect("`:`")
            pairs.append((key, self.expression()))
        return MapLiteral(line, pairs)

    def _parenthesis(self, line: int) -> Expression:
        stream = self.stream
        if stream.skip("`)`"):
            return ListLiteral(line, [])
        node = self.expression()
        if stream.is_at("`,`"):
            return ListLiteral(line, self._items("`)`", [node]))
        stream.expect("`)`")
        return node

    def assign_name(self, dotted: bool = False) -> Expression:
        """A variable that is assigned to; with ``dotted`` also an attribute of one."""
        stream = self.stream
        token = stream.expect(lexer.IDENTIFIER)
        if token.value in RESERVED_NAMES:
            stream.fail(f"cannot assign to reserved variable name {token.value}")
        node: Expression = Variable(token.line, token.value)
        while dotted and stream.skip("`.`"):
            attribute = stream.expect(lexer.IDENTIFIER)
            node = Item(attribute.line, node, Constant(attribute.line, attribute.value), True)
        return node

    def assignment_target(self, dotted: bool = False) -> Expression:
        """One variable, or several with commas, nested in parentheses at will."""
        stream = self.stream
        line = stream.peek().line
        items: list[Expression] = []
        several = False
        while True:
            if items:
                stream.expect("`,`")
            if stream.is_word("in") or stream.peek().kind in ("`)`", lexer.VARIABLE_END, lexer.BLOCK_END):
                break
            if stream.skip("`(`"):
                stream.enter()
                items.append(self.assignment_target())
                stream.leave()
                stream.expect("`)`")
            else:
                items.append(self.assign_name(dotted))
            if not stream.is_at("`,`"):
                break
            several = True
        return items[0] if len(items) == 1 and not several else TargetList(line, items)
