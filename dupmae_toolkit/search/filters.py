"""The language of filters: ``year >= 2020 and dept in ('sales', 'legal')``.

The syntax is that of Python's expressions. Python's own parser reads it, and nothing is ever
evaluated by Python: of the tree, only the few forms below are taken, and everything else is
refused. Before that, the text is cut into tokens, and only tokens that a filter can have reach the
parser, nested so little that its stack suffices.

    year == 2020 · != · < · <= · > · >= · 2000 <= year < 2010      numbers, strings, dates
    dept in ('sales', 'legal') · dept not in (…)
    'x' in tags · contains(tags, 'x')     an item of a list, or a part of a string
    startswith(name, 'x') · endswith(name, 'x')
    draft · not draft                     true or false
    dept is None · dept is not None · missing(dept)
    field('my field') == 3                any name
    … and … · … or … · not … · ( … )
"""

from __future__ import annotations

import ast
import io
import keyword
import math
import threading
import tokenize
import warnings
from dataclasses import dataclass
from typing import TypeAlias, Union

from dupmae_toolkit.errors import InputError

MAX_LENGTH = 10_000
MAX_TOKENS = 2_000
#: How deep brackets may be nested, and how many "not" may follow each other.
MAX_DEPTH, MAX_NOTS = 20, 4
EXAMPLE = "year >= 2020 and dept in ('sales', 'legal')"

Value: TypeAlias = bool | int | float | str
Node: TypeAlias = Union["Test", "Junction", "Negation"]


@dataclass(frozen=True, slots=True)
class Test:
    """A test of one field.

    operator: ``<``, ``<=``, ``>``, ``>=`` (one value), ``in`` (equal to one of the values),
    ``contains``, ``startswith``, ``endswith`` (one value), ``missing`` or ``true`` (none).
    """

    field: str
    operator: str
    values: tuple[Value, ...] = ()


@dataclass(frozen=True, slots=True)
class Junction:
    """Several conditions, joined by ``and`` or by ``or``."""

    operator: str
    parts: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Negation:
    """What holds where a condition is false; where it is unknown, this is unknown too."""

    part: Node


_WORDS = {"and", "or", "not", "in", "is", "None", "True", "False"}
_MARKS = {"(", ")", "[", "]", ",", "<", ">", "<=", ">=", "==", "!=", "-"}
#: What a minus may follow: it then belongs to a number, and subtracts nothing.
_BEFORE_MINUS = {"", "and", "or", "not", "in", "is", *_MARKS} - {")", "]", "-"}
#: What a filter cannot end with.
_UNFINISHED = {"and", "or", "not", "in", "is", "<", ">", "<=", ">=", "==", "!=", "-", ","}
#: Marks of other languages, and what to write.
_INSTEAD = {"=": "==", "&": "and", "&&": "and", "|": "or", "||": "or", "!": "not", "<>": "!="}
_MIRRORED = {"<": ">", "<=": ">=", ">": "<", ">=": "<=", "==": "==", "!=": "!="}
_ORDERS = {ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=", ast.Eq: "==", ast.NotEq: "!="}
_STRING_TESTS = ("contains", "startswith", "endswith")
_SPACE = (tokenize.NEWLINE, tokenize.ENDMARKER, tokenize.ERRORTOKEN)
_warnings_lock = threading.Lock()


def parse_filter(text: str) -> Node:
    """The tree of a filter; InputError, of one line, for anything that is not one."""
    if not isinstance(text, str):
        raise InputError(f"a filter is a string, as in {EXAMPLE!r}; not {type(text).__name__}")
    text = text.strip()
    if not text:
        raise InputError(f"the filter is empty; write one as {EXAMPLE!r}, or leave it out")
    if len(text) > MAX_LENGTH:
        raise InputError(
            f"the filter has {len(text):,} characters, more than {MAX_LENGTH:,}; many ids go into "
            "a file (--among, among=…)"
        )
    if len(text.splitlines()) > 1:
        raise InputError("filter: it has several lines; write it on one")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise _wrong("half a surrogate pair", error.start) from error
    _check_tokens(text)
    try:
        with _warnings_lock, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of unknown escapes, which stay as they are written
            tree = ast.parse(text, mode="eval")
    except SyntaxError as error:
        raise _wrong(f"{error.msg}", (error.offset or 1) - 1, f"write it as {EXAMPLE!r}") from error
    except (ValueError, RecursionError, MemoryError) as error:
        raise _wrong(f"cannot be read ({error})", 0) from error
    try:
        return _condition(tree.body)
    except _Fault as fault:
        node, message = fault.args
        place = len(text.encode()[: node.col_offset].decode("utf-8", "ignore"))
        raise _wrong(message, place) from None


class _Fault(Exception):  # noqa: N818
    """What is wrong with a node of the tree: the node, and the message."""


def _wrong(message: str, place: int, remedy: str = "") -> InputError:
    """place: the character, from 0."""
    end = f"; {remedy}" if remedy else ""
    return InputError(f"filter, character {place + 1}: {message}{end}")


def _check_tokens(text: str) -> None:
    """Raise InputError unless the text consists of tokens that a filter can have."""
    depth = nots = count = 0
    before = ""
    try:
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            place, word = token.start[1], token.string
            # Python 3.12 ends a line that is not closed with an empty token.
            if not word or (token.type in _SPACE and not word.strip()):
                continue
            count += 1
            nots = nots + 1 if word == "not" else 0
            depth += (word in ("(", "[")) - (word in (")", "]"))
            if depth < 0:
                raise _wrong("this bracket closes none", place)
            _check_token(token, before)
            if depth > MAX_DEPTH or nots > MAX_NOTS:
                raise _wrong("it is nested too deeply", place)
            if count > MAX_TOKENS:
                raise _wrong(f"it has more than {MAX_TOKENS:,} words", place)
            before = word
        if before in _UNFINISHED:
            raise _wrong(f"something is missing after {before}", len(text))
    except (tokenize.TokenError, SyntaxError) as error:
        raise InputError(
            f"filter: a bracket or a quotation mark is not closed; write it as {EXAMPLE!r}"
        ) from error


def _check_token(token: tokenize.TokenInfo, before: str) -> None:
    place, word = token.start[1], token.string
    if token.type == tokenize.NAME:
        if word in _WORDS:
            return
        if keyword.iskeyword(word):
            raise _wrong(f"{word!r} cannot stand alone; write field({word!r})", place)
        if word.lower() in {"null", *map(str.lower, _WORDS)}:
            right = {"true": "True", "false": "False", "none": "None", "null": "None"}
            word = word.lower()
            raise _wrong(
                f"write {right.get(word, word)}, or a field of this name as field(…)", place
            )
    elif token.type == tokenize.OP:
        if word in _INSTEAD:
            raise _wrong(f"write {_INSTEAD[word]} instead of {word}", place)
        if word == ".":
            raise _wrong("a name with a dot stands in quotes, as in field('a.b')", place)
        if word not in _MARKS:
            raise _wrong(f"{word!r} has no place in a filter", place)
        if word == "-" and before not in _BEFORE_MINUS:
            raise _wrong("a filter computes nothing; - stands only before a number", place)
    elif token.type == tokenize.STRING:
        if word[:1] not in "'\"" and word[:2].lower() not in ("r'", 'r"'):
            raise _wrong("only plain strings are allowed, as in 'sales'", place)
    elif token.type != tokenize.NUMBER:
        if word in _INSTEAD:
            raise _wrong(f"write {_INSTEAD[word]} instead of {word}", place)
        closed = "a quotation mark is not closed" if word[:1] in ("'", '"') else ""
        raise _wrong(closed or f"{word[:20]!r} has no place in a filter", place)


def _condition(node: ast.expr) -> Node:
    if isinstance(node, ast.BoolOp):
        operator = "and" if isinstance(node.op, ast.And) else "or"
        return Junction(operator, tuple(map(_condition, node.values)))
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        return Negation(_condition(node.operand))
    if isinstance(node, ast.Compare):
        sides = [node.left, *node.comparators]
        pairs = zip(sides, node.ops, sides[1:], strict=False)
        parts = tuple(_comparison(*pair) for pair in pairs)
        return parts[0] if len(parts) == 1 else Junction("and", parts)
    field = _field(node)
    if field is not None:
        return Test(field, "true")
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        return _call(node, node.func.id)
    raise _Fault(node, "a condition is expected, such as year >= 2020, and this is a value")


def _comparison(left: ast.expr, operator: ast.cmpop, right: ast.expr) -> Node:
    if isinstance(operator, ast.Is | ast.IsNot):
        test = Test(_needed(left), "missing")
        if not (isinstance(right, ast.Constant) and right.value is None):
            raise _Fault(right, "after is or is not stands None; compare with == and !=")
        return test if isinstance(operator, ast.Is) else Negation(test)
    if isinstance(operator, ast.In | ast.NotIn):
        test = _membership(left, right)
        return test if isinstance(operator, ast.In) else Negation(test)
    order = _ORDERS[type(operator)]
    field = _field(left)
    if field is None:
        field, left, right, order = _needed(right), right, left, _MIRRORED[order]
    value = _value(right)
    if order in ("==", "!="):
        test = Test(field, "in", (value,))
        return test if order == "==" else Negation(test)
    if isinstance(value, bool):
        raise _Fault(right, "True and False have no order; compare them with ==")
    return Test(field, order, (value,))


def _membership(left: ast.expr, right: ast.expr) -> Test:
    field = _field(right)
    if field is not None:
        return Test(field, "contains", (_value(left),))
    if isinstance(right, ast.Constant):
        one = ast.unparse(right)[:40]
        raise _Fault(right, f"after in stands a list of values; one alone is written [{one}]")
    if not isinstance(right, ast.Tuple | ast.List):
        raise _Fault(
            right,
            "after in stands a list of values, as in dept in ('sales', 'legal'), or a field, as "
            "in 'x' in tags",
        )
    return Test(_needed(left), "in", tuple(map(_value, right.elts)))


def _call(node: ast.Call, name: str) -> Test:
    if name not in (*_STRING_TESTS, "missing"):
        raise _Fault(
            node,
            f"there is no function {name!r}; there are field, missing, {', '.join(_STRING_TESTS)}",
        )
    wanted = 1 if name == "missing" else 2
    if node.keywords or len(node.args) != wanted:
        example = "missing(dept)" if wanted == 1 else f"{name}(name, 'x')"
        raise _Fault(node, f"write {example}")
    field = _needed(node.args[0])
    if name == "missing":
        return Test(field, name)
    value = _value(node.args[1])
    if name != "contains" and not isinstance(value, str):
        raise _Fault(node.args[1], f"{name} takes a string")
    return Test(field, name, (value,))


def _field(node: ast.expr) -> str | None:
    """The field that a node names; None for anything else."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "field":
        named = node.args[0] if len(node.args) == 1 and not node.keywords else None
        if isinstance(named, ast.Constant) and isinstance(named.value, str):
            return named.value
        raise _Fault(node, "write the name in quotes, as in field('my field')")
    return None


def _needed(node: ast.expr) -> str:
    field = _field(node)
    if field is None:
        raise _Fault(node, "a field is expected here; compare a field with a value")
    return field


def _value(node: ast.expr) -> Value:
    sign = 1
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        node, sign = node.operand, -1
    value = node.value if isinstance(node, ast.Constant) else None
    if isinstance(value, bool | str) and sign == 1:
        if isinstance(value, str) and any("\ud800" <= c <= "\udfff" for c in value):
            raise _Fault(node, "half a surrogate pair in a string")
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        if isinstance(value, float) and not math.isfinite(value):
            raise _Fault(node, "a number too large")
        return sign * value
    if isinstance(node, ast.Constant) and value is None:
        raise _Fault(node, "nothing equals None; write is None or is not None")
    if _field(node) is not None:
        raise _Fault(
            node,
            f"a field is compared with a value, not with a field; write strings in quotes, as in "
            f"'{ast.unparse(node)[:40]}'",
        )
    raise _Fault(node, "a number, a string, True or False is expected here")
