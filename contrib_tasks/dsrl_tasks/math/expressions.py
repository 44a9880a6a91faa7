"""Compare two expressions with math-verify. Only the child process of ``comparison.py`` imports this module."""

from __future__ import annotations

import cmath
import logging
import re
from functools import lru_cache
from typing import Any

import sympy
from latex2sympy2_extended import NormalizationConfig
from math_verify import LatexExtractionConfig, parse, verify

# It warns at every call that its own time limit is off. The process has one.
logging.disable(logging.WARNING)
_CONFIG = LatexExtractionConfig(
    normalization_config=NormalizationConfig(
        basic_latex=True, units=False, malformed_operators=False, nits=False, boxed="none", equations=False
    )
)
_DECIMAL = re.compile(r"([0-9]*)\.([0-9]+)")


def are_equal(prediction: str, label: str) -> bool:
    """Return whether two expressions in LaTeX are equal."""
    left, right = _parse(prediction), _parse(label)
    if not left or not right or _differ(left[0], right[0]):
        return False
    return bool(verify(right, left, float_rounding=12, strict=True, timeout_seconds=None))


def _differ(left: Any, right: Any) -> bool:
    """Return whether two terms have clearly different values at one point: most wrong answers need no algebra."""
    if not isinstance(left, sympy.Expr) or not isinstance(right, sympy.Expr):
        return False
    symbols = sorted(left.free_symbols | right.free_symbols, key=str)
    point = {symbol: sympy.Rational(13 + 7 * number, 11) for number, symbol in enumerate(symbols)}
    try:
        a, b = (complex(term.evalf(15, subs=point)) for term in (left, right))
    except (TypeError, ValueError, OverflowError, ArithmeticError):
        return False  # it has no value there, or none that Python can hold
    return cmath.isfinite(a) and cmath.isfinite(b) and abs(a - b) > 1e-6 * max(1.0, abs(a), abs(b))


@lru_cache(maxsize=1000)
def _parse(text: str) -> list[Any]:
    # A decimal is exactly the number that it writes: 1.414 is not the root of 2.
    exact = _DECIMAL.sub(lambda m: rf"\frac{{{int(m[1] + m[2])}}}{{{10 ** len(m[2])}}}", text)
    expressions = parse(f"${exact}$", extraction_config=[_CONFIG], fallback_mode="no_fallback", parsing_timeout=None)
    # The last element is the text itself, which it compares too.
    return [expression for expression in expressions if not isinstance(expression, str)]


# The first use of the parser's tables takes a second, which is not to count as time of a comparison.
are_equal(r"\frac{\sqrt{2}}{2}+2x^{2}-\pi", r"\frac{1}{\sqrt{2}}+\log_{2}{3}\sin(x)")
are_equal("y=2x+3", "2x-y<5")
