"""The words of one text that numba compiles here and Triton on a GPU.

A program is a function ``(i, mine, N, ...)`` of a place i of N.  It reads and writes arrays by flat indices in the words
`get`, `read`, `put`, `add`, `where`, `most`, `least`, `exp` and `log`.  In Triton, see `kernadv.device.triton_programs`, i
is a block of places; `mine` is false for those beyond the last one, and `add` leaves one sum a block.  Branches are taken
for all places of a block, or for none.  Of what it writes it may read only its own places.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from numba.extending import intrinsic

from kernadv._jit import compiled

#: ln 2 in two parts, the first with so few digits that its multiples are exact.
LN2, LN2_REST = 0.693147180369123816490, 1.90821492927058770002e-10
_REAL = numba.float64
#: Bits of 1.0, and those of a mantissa.
ONE, MANTISSA = 0x3FF0000000000000, 0x000FFFFFFFFFFFFF


#: The loops over all places, by program.
LOOPS: dict[Callable[..., None], Callable[..., None]] = {}


def over(program: Any) -> Callable[[Any], Any]:
    """The decorated function calls the program for all places, one after the other."""

    def register(loop: Any) -> Any:
        LOOPS[program] = compiled(error_model="numpy")(loop)
        return LOOPS[program]

    return register


def scalar(function: Any) -> Any:
    """Compile a function of numbers, in the order of its text."""
    return numba.njit(fastmath={"contract"}, error_model="numpy")(function)


def word(function: Any) -> Any:
    """Compile a part of programs, which may take arrays; it becomes part of the loop that uses it."""
    return numba.njit(inline="always")(function)


# An array that is passed to a function is counted as in use, and an index may count from the end: both cost more than the
# arithmetic here.  These words are single instructions.
@intrinsic
def get(context: Any, x: Any, i: Any, mine: Any) -> Any:
    """The number of a place that is ours."""

    def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        x, i, mine = values
        first = context.get_constant(numba.intp, 0)
        return _load(context, builder, signature.args[0], x, builder.select(mine, i, first))

    return x.dtype(x, numba.intp, numba.boolean), code


@intrinsic
def read(context: Any, x: Any, k: Any) -> Any:
    """A number that all places share."""

    def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return _load(context, builder, signature.args[0], *values)

    return x.dtype(x, numba.intp), code


@intrinsic
def put(context: Any, x: Any, i: Any, value: Any, mine: Any) -> Any:
    """Store the number of a place that is ours."""

    def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        x, i, value, mine = values
        with builder.if_then(mine):
            _store(context, builder, signature.args[0], x, i, value)
        return context.get_dummy_value()

    return numba.void(x, numba.intp, x.dtype, numba.boolean), code


@intrinsic
def add(context: Any, sums: Any, k: Any, value: Any) -> Any:
    """Add the numbers of all places; 0 for those that are not ours."""

    def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        kind, (sums, k, value) = signature.args[0], values
        _store(context, builder, kind, sums, k, builder.fadd(_load(context, builder, kind, sums, k), value))
        return context.get_dummy_value()

    return numba.void(sums, numba.intp, sums.dtype), code


def _load(context: Any, builder: Any, kind: Any, x: Any, i: Any) -> Any:
    """The number of an array at an index."""
    cell = builder.gep(context.make_array(kind)(context, builder, x).data, [i], inbounds=True)
    return context.unpack_value(builder, kind.dtype, cell)


def _store(context: Any, builder: Any, kind: Any, x: Any, i: Any, value: Any) -> None:
    cell = builder.gep(context.make_array(kind)(context, builder, x).data, [i], inbounds=True)
    context.pack_value(builder, kind.dtype, value, cell)


@intrinsic
def where(context: Any, truth: Any, this: Any, that: Any) -> Any:
    """One of two."""
    return _REAL(numba.boolean, _REAL, _REAL), lambda context, builder, signature, values: builder.select(*values)


@intrinsic
def most(context: Any, a: Any, b: Any) -> Any:
    """The larger one."""
    return _REAL(_REAL, _REAL), _chosen(">=")


@intrinsic
def least(context: Any, a: Any, b: Any) -> Any:
    """The smaller one."""
    return _REAL(_REAL, _REAL), _chosen("<=")


def _chosen(order: str) -> Any:
    """The first of two numbers if they are in this order, else the second."""
    return lambda context, builder, signature, values: builder.select(builder.fcmp_ordered(order, *values), *values)


# exp and log of a library are calls, one number at a time; these become part of a loop, which works on several at a time
@scalar
def exp(x: Any) -> Any:
    """e^x, for x < 700, to 2 units in the last place: 2^k times Taylor's series at most ln(2) / 2 from 0.

    Below -700 it is that of -700.
    """
    x = -700.0 if x < -700.0 else x
    k = math.floor(x * 1.4426950408889634 + 0.5)
    r = (x - k * LN2) - k * LN2_REST
    p = 1.0 / 6227020800.0
    p = p * r + 1.0 / 479001600.0
    p = p * r + 1.0 / 39916800.0
    p = p * r + 1.0 / 3628800.0
    p = p * r + 1.0 / 362880.0
    p = p * r + 1.0 / 40320.0
    p = p * r + 1.0 / 5040.0
    p = p * r + 1.0 / 720.0
    p = p * r + 1.0 / 120.0
    p = p * r + 1.0 / 24.0
    p = p * r + 1.0 / 6.0
    p = p * r + 0.5
    p = p * r + 1.0
    p = p * r + 1.0
    return p * _as_float((np.int64(np.int32(k)) + 1023) << 52)


@scalar
def log(x: Any) -> Any:
    """ln x of a normal number above 0, to 2 units in the last place: 2 artanh((m - 1) / (m + 1)) and multiples of ln(2)."""
    bits = _as_bits(x)
    k = np.int32((bits >> 52) - 1023)
    m = _as_float((bits & MANTISSA) | ONE)
    large = m > 1.4142135623730951
    m = 0.5 * m if large else m
    e = np.float64(k) + (1.0 if large else 0.0)
    s = (m - 1.0) / (m + 1.0)
    t = s * s
    p = 1.0 / 21.0
    p = p * t + 1.0 / 19.0
    p = p * t + 1.0 / 17.0
    p = p * t + 1.0 / 15.0
    p = p * t + 1.0 / 13.0
    p = p * t + 1.0 / 11.0
    p = p * t + 1.0 / 9.0
    p = p * t + 1.0 / 7.0
    p = p * t + 1.0 / 5.0
    p = p * t + 1.0 / 3.0
    return e * LN2 + (2.0 * s + (2.0 * s * t * p + e * LN2_REST))


@intrinsic
def _as_float(context: Any, bits: Any) -> Any:
    """The float64 of these 64 bits."""
    return numba.float64(numba.int64), lambda context, builder, signature, values: builder.bitcast(
        values[0], context.get_value_type(numba.float64)
    )


@intrinsic
def _as_bits(context: Any, x: Any) -> Any:
    """The 64 bits of a float64."""
    return numba.int64(numba.float64), lambda context, builder, signature, values: builder.bitcast(
        values[0], context.get_value_type(numba.int64)
    )


if numba.config.DISABLE_JIT:  # without a compiler the text is plain Python, as for a debugger
    get = lambda x, i, mine: x[i if mine else 0]
    read = lambda x, k: x[k]
    put = lambda x, i, value, mine: x.__setitem__(i, value) if mine else None
    add = lambda sums, k, value: sums.__setitem__(k, sums[k] + value)
    where = lambda truth, this, that: this if truth else that
    most = lambda a, b: a if a >= b else b
    least = lambda a, b: a if a <= b else b
    exp, log = np.exp, np.log
