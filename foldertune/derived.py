"""Derived quantities: small expressions over settings and metrics, such as `rate / (1 - decay)`.

An expression has numbers, names, + - * / // % **, comparisons, `and`, `or`, `not`, and the functions of `FUNCTIONS`.
`model.width` is the name of a setting in a table. An expression comes from a study's file, which is data: its syntax is
checked with `ast` when the study is read, and the library simpleeval evaluates it, never Python's own `eval`. The
library belongs to the extra `report`; without it an expression has no value, unless it is a bare name.
"""

from __future__ import annotations

import ast
import functools
import importlib.util
import math
import operator
from collections.abc import Callable, Mapping
from typing import Any, TypeGuard

from foldertune.errors import did_you_mean

LONGEST = 500  # characters of an expression
FUNCTIONS: dict[str, Callable[..., float]] = {
    "abs": abs,
    "exp": math.exp,
    "log": math.log,
    "log10": math.log10,
    "log2": math.log2,
    "max": max,
    "min": min,
    "sqrt": math.sqrt,
}


def _of_numbers(operation: Callable[[float, float], float]) -> Callable[[Any, Any], float]:
    """The operation, restricted to numbers: for text, Python gives `text * 1e9` and `text % 5` another meaning."""

    def checked(a: Any, b: Any) -> float:
        if isinstance(a, str) or isinstance(b, str):
            raise TypeError("not a number")
        return operation(float(a), float(b))  # a huge power overflows at once for floats, but takes for ever for ints

    return checked


_OPERATORS: dict[type[ast.AST], Callable[..., Any]] = {
    ast.Add: _of_numbers(operator.add),
    ast.Sub: _of_numbers(operator.sub),
    ast.Mult: _of_numbers(operator.mul),
    ast.Div: _of_numbers(operator.truediv),
    ast.FloorDiv: _of_numbers(operator.floordiv),
    ast.Mod: _of_numbers(operator.mod),
    ast.Pow: _of_numbers(operator.pow),
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
    ast.Not: operator.not_,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
_PARTS = (ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.And, ast.Or, ast.Compare, ast.Call, ast.Name, ast.Load, ast.Constant)
_ALLOWED = (*_PARTS, *_OPERATORS)


def names_in(expression: str) -> set[str]:
    """The settings and metrics that an expression names. Raises ValueError that says what is wrong with it."""
    tree = _parse(expression)
    functions = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and id(node) not in functions}


def evaluate(expression: str, values: Mapping[str, Any]) -> float | None:
    """The value of an expression, given the values of its names.

    None if it has no value: a name has neither a number nor text, it divides by 0, or its result is not finite.
    """
    if not needs_library(expression):
        value = values.get(expression)
        return float(value) if _is_finite(value) else None
    evaluator = _evaluator()
    if evaluator is None:
        return None
    evaluator.names = values
    try:
        value = evaluator.eval(expression, _parse(expression))
    except (ArithmeticError, TypeError, ValueError, LookupError, RecursionError, _invalid()):
        return None
    return float(value) if _is_finite(value) else None


def needs_library(expression: str) -> bool:
    """Does this expression need simpleeval? A bare name does not."""
    return not all(part.isidentifier() for part in expression.split("."))


def library_is_there() -> bool:
    """Is simpleeval installed?"""
    return importlib.util.find_spec("simpleeval") is not None


def _is_finite(value: Any) -> TypeGuard[int | float]:
    try:
        return isinstance(value, int | float) and math.isfinite(value)
    except OverflowError:  # a whole number too large for a float
        return False


@functools.lru_cache(maxsize=1000)
def _parse(expression: str) -> ast.expr:
    """The syntax tree. Raises ValueError if it has a part that expressions may not have."""
    if len(expression) > LONGEST:
        raise ValueError(f"is longer than {LONGEST} characters")
    try:
        tree: ast.expr = _Dotted().visit(ast.parse(expression.strip(), mode="eval").body)
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        raise ValueError(f"is no expression: {getattr(error, 'msg', error)}") from None
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            _check_call(node)
        if not isinstance(node, _ALLOWED):
            raise ValueError(
                "may only have numbers, names, + - * / // % **, comparisons, and, or, not, "
                f"and the functions {', '.join(FUNCTIONS)}"
            )
        if isinstance(node, ast.Constant) and not isinstance(node.value, int | float | str):
            raise ValueError(f"contains {ast.unparse(node)}, which is neither a number nor text")
    return tree


class _Dotted(ast.NodeTransformer):
    """Makes `model.width` one name: that of a nested setting."""

    def visit_Attribute(self, node: ast.Attribute) -> ast.expr:
        outer = self.visit(node.value)
        return ast.Name(f"{outer.id}.{node.attr}", ast.Load()) if isinstance(outer, ast.Name) else node


def _check_call(node: ast.Call) -> None:
    name = ast.unparse(node.func)
    if name not in FUNCTIONS:
        hint = did_you_mean(name, FUNCTIONS) or f"; there are {', '.join(FUNCTIONS)}"
        raise ValueError(f"has no function '{name}'{hint}")
    if node.keywords or not node.args:
        raise ValueError(f"calls {name} without a value, or with a named one; write {name}(x)")


@functools.cache
def _evaluator() -> Any:
    """Simpleeval's evaluator, restricted to our operators and functions; None if simpleeval is not installed."""
    try:
        from simpleeval import SimpleEval
    except ImportError:
        return None
    return SimpleEval(operators=_OPERATORS, functions=FUNCTIONS, names={})


@functools.cache
def _invalid() -> type[Exception]:
    import simpleeval

    invalid: type[Exception] = simpleeval.InvalidExpression
    return invalid
