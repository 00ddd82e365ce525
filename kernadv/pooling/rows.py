"""What the pool does for each group and each row, in the words of `kernadv.pooling._words`.

M is the number of filters, N of groups; what the prompts share comes in two arrays:

``shared``, (7,)
    The range of the rewards, low and high; `Running.summary`; the expected common level.
``filters``, (4, M)
    Weight, prior, walk and discount of each.
"""

from __future__ import annotations

import math

from kernadv.pooling._base import share_in
from kernadv.pooling._running import summed_up
from kernadv.pooling._words import add, get, least, log, most, over, put, read, where, word
from kernadv.pooling.beliefs import aged, carried, carried_back, odds_of
from kernadv.pooling.common import expectation
from kernadv.pooling.weights import weight_of

#: A trace counts as alone where the others of its group weigh less than this share of the group.
ALONE = 1e-9
#: Rewards further away than that many ranges are clipped.
FARTHEST = 1e100
#: What is not known.
NAN = math.nan
#: Below these, a variance and a number of rollouts are no numbers to divide by.
TINY, FEW = 1e-300, 1e-3


@word
def later(variance, gap, filters, m, M):
    """`aged` as of filter m."""
    return aged(variance, gap, read(filters, 2 * M + m), read(filters, 3 * M + m))


@word
def believed(i, mine, M, m, notes, known, offset, filters):
    """Logit and variance that filter m believed of place i at its newest visit; the prior where there is none."""
    at = i * (2 * M + 2) + 2 + m
    logit = where(known, get(notes, at, mine), offset)
    return logit, where(known, get(notes, at + M, mine), 4.0 / read(filters, M + m))


@word
def met(i, mine, N, M, last, step, first_group, notes, known, gap):
    """Of group i, 1 if anything is known of its prompt, else 0, and the gap; see `Query`.  last: (N,), 0 where it is new"""
    newest, at = get(last, i, mine), get(step, i, mine)
    there = (newest > 0) & (get(notes, i * (2 * M + 2) + 2 * M + 1, mine) > 0.0)
    put(known, i, where(there, 1.0, 0.0), mine)
    put(gap, i, where(there, at - newest, at - get(step, get(first_group, i, mine), mine)), mine)


@word
def prepared(i, mine, N, J, running, common, odds, weights, prior_odds, members, shared, filters):
    """What is shared, of filter i of N.  members: (3, N), prior, walk and discount"""
    count, seen, weight, mean = summed_up(running)
    first = mine & (i == 0)
    put(shared, i, read(running, 0), first)
    put(shared, i + 1, read(running, 1), first)
    put(shared, i + 2, count, first)
    put(shared, i + 3, seen, first)
    put(shared, i + 4, weight, first)
    put(shared, i + 5, mean, first)
    put(shared, i + 6, expectation(J, common, odds), first)
    put(filters, i, weight_of(i, mine, N, weights, prior_odds), mine)
    put(filters, N + i, get(members, i, mine), mine)
    put(filters, 2 * N + i, get(members, N + i, mine), mine)
    put(filters, 3 * N + i, get(members, 2 * N + i, mine), mine)


@word
def recalled(i, mine, N, M, notes, known, shared, out):
    """The notes of place i, in the present range; where that has not changed they stay as they are.  out: (N, 2 + 2 M)"""
    low, high, level = read(shared, 0), read(shared, 1), read(shared, 6)
    at = i * (2 * M + 2)
    before, behind = get(notes, at, mine), get(notes, at + 1, mine)
    stale = (get(known, i, mine) > 0.0) & ((before != low) | (behind != high))
    lower, upper = share_in(before, low, high), share_in(behind, low, high)
    there = carried_back(level + 0.0 * lower, lower, upper)
    for m in range(M):
        logit, variance = get(notes, at + 2 + m, mine), get(notes, at + 2 + M + m, mine)
        placed, slope = carried(logit + there, lower, upper)
        put(out, at + 2 + m, where(stale, placed - level, logit), mine)
        put(out, at + 2 + M + m, where(stale, variance * slope * slope, variance), mine)
    put(out, at, where(stale, low, before), mine)
    put(out, at + 1, where(stale, high, behind), mine)


@word
def foretold(i, mine, M, m, notes, known, offset, since, level, filters):
    """Mean of filter m's belief about place i, so many steps after its newest visit, and the rewards that it is worth."""
    logit, variance = believed(i, mine, M, m, notes, known, offset, filters)
    odds = odds_of(logit + level)
    return odds / (1.0 + odds), (2.0 + odds + 1.0 / odds) / later(variance, since, filters, m, M)


@word
def evidence(i, mine, N, M, notes, known, gap, offset, w, wz, shared, filters, out, sums):
    """What group i shows of the common level: score and information; at the expected one the value and its error.

    out: (4, N); sums: (2,), of score and information
    """
    there, since, start = get(known, i, mine) > 0.0, get(gap, i, mine), get(offset, i, mine)
    since = where(there, most(since, -since), 0.0)
    count, level = read(shared, 2), read(shared, 6)
    centre = 0.0 * since
    square = 0.0 * since
    for m in range(M):
        p, worth = foretold(i, mine, M, m, notes, there, start, since, level, filters)
        weight = read(filters, m)
        centre = centre + weight * p
        square = square + weight * (p * (p + (1.0 - p) / (worth + 1.0)))
    error, noise = most(square - centre * centre, 0.0), centre - square
    n = count * get(w, i, mine)
    slope = noise / most(error * n + noise, TINY)
    score, information = slope * (count * get(wz, i, mine) - n * centre), slope * noise * n
    put(out, i, score, mine)
    put(out, N + i, information, mine)
    put(out, 2 * N + i, centre, mine)
    put(out, 3 * N + i, error, mine)
    add(sums, 0, score)
    add(sums, 1, information)


@word
def forecast(i, mine, N, M, each, notes, known, gap, offset, level, told, filters, mean, worth, middle):
    """What the filters say of group i at its common level: mean and worth, 0 where nothing is told; and the mean by weight.

    told: (N,) if `each` is 1, else (1,); mean, worth: (N, M); middle: (N,)
    """
    there, since, start = get(known, i, mine) > 0.0, get(gap, i, mine), get(offset, i, mine)
    since = where(there, most(since, -since), 0.0)
    here, share = get(level, i, mine), get(told, i * each, mine)
    centre = 0.0 * since
    for m in range(M):
        p, nu = foretold(i, mine, M, m, notes, there, start, since, here, filters)
        centre = centre + read(filters, m) * p
        put(mean, i * M + m, p, mine)
        put(worth, i * M + m, share * nu, mine)
    put(middle, i, centre, mine)


@word
def joined(i, mine, N, M, one, group, mass, k, mean, worth, filters, out):
    """Mean and variance over the filters, as functions of the sum x of k w share over the other traces of the group.

    A filter says p = (nu p + x) / (nu + k W), with the variance p (1 - p) / (nu + k W + 1).
    k: (N,) if `one` is 1, else (1,)

    out: (8, N); the mean is the first plus the second times x.  The variance of the means is the third, twice the fourth and
    the fifth times 1, x and x^2; the mean of the variances the sixth, the seventh and minus the eighth times these.
    """
    at, told = get(group, i, mine) * M, get(k, i * one, mine) * get(mass, i, mine)
    a = 0.0 * told
    b = 0.0 * told
    for m in range(M):
        nu, weight = get(worth, at + m, mine), read(filters, m)
        bottom = nu + told
        gain = where(bottom > 0.0, 1.0 / where(bottom > 0.0, bottom, 1.0), 0.0)
        a = a + weight * (get(mean, at + m, mine) * nu * gain)
        b = b + weight * gain
    far = 0.0 * told
    tilt = 0.0 * told
    bend = 0.0 * told
    noise = 0.0 * told
    slope = 0.0 * told
    curve = 0.0 * told
    for m in range(M):
        nu, weight = get(worth, at + m, mine), read(filters, m)
        bottom = nu + told
        gain = where(bottom > 0.0, 1.0 / where(bottom > 0.0, bottom, 1.0), 0.0)
        level = get(mean, at + m, mine) * nu * gain
        off, turn, each = level - a, gain - b, weight / (bottom + 1.0)
        far = far + weight * off * off
        tilt = tilt + weight * off * turn
        bend = bend + weight * turn * turn
        noise = noise + each * level * (1.0 - level)
        slope = slope + each * gain * (1.0 - 2.0 * level)
        curve = curve + each * gain * gain
    put(out, i, a, mine)
    put(out, N + i, b, mine)
    put(out, 2 * N + i, far, mine)
    put(out, 3 * N + i, tilt, mine)
    put(out, 4 * N + i, bend, mine)
    put(out, 5 * N + i, noise, mine)
    put(out, 6 * N + i, slope, mine)
    put(out, 7 * N + i, curve, mine)


@word
def posterior(
    i, mine, N, U, one, each, shares, place, group, mass, total, k, weight, low, span, told, sums, shared, out
):
    """Value, variance and n_eff of row i from what its place says (`joined`, U places) and the other traces of its group.

    place: (N,) if `shares` is 1, else each row has its own; k, weight: (N,) if `one` is 1, else (1,); low, span, told: of
    each group if `each` is 1, else (1,)
    out: (3, N); NaN, NaN and 0 where nothing says anything.
    """
    at, g = i + shares * (get(place, i * shares, mine) - i), get(group, i, mine)
    level, gain = get(sums, at, mine), get(sums, U + at, mine)
    far, tilt, bend = get(sums, 2 * U + at, mine), get(sums, 3 * U + at, mine), get(sums, 4 * U + at, mine)
    noise, slope, curve = get(sums, 5 * U + at, mine), get(sums, 6 * U + at, mine), get(sums, 7 * U + at, mine)
    w, wz, count = get(mass, i, mine), get(total, i, mine), get(k, i * one, mine)
    bottom, wide = get(low, g * each, mine), get(span, g * each, mine)
    above = count * (wz - bottom * w)
    x = where(wide > 0.0, above / where(wide > 0.0, wide, 1.0), 0.0)
    x = most(least(x, FARTHEST), -FARTHEST)
    centre = level + gain * x
    within, shape = noise + x * (slope - curve * x), centre * (1.0 - centre)
    spread = most(within, -within) + most(far + x * (2.0 * tilt + bend * x), 0.0)
    n_eff = most(most(shape, -shape) / most(spread, TINY) - 1.0, FEW) / (count * get(weight, i * one, mine))
    mean = where(w > 0.0, wz / where(w > 0.0, w, 1.0), 0.0)
    value = where(get(told, g * each, mine) > 0.0, bottom + wide * level + gain * above, mean)
    defined = gain > 0.0
    put(out, i, where(defined, value, NAN), mine)
    put(out, N + i, where(defined & (gain * read(shared, 3) > 0.0), wide * wide * spread, NAN), mine)
    put(out, 2 * N + i, where(defined, n_eff, 0.0), mine)


@word
def updated(logit, variance, step, filters, m, M, level, heard, right, beside, within, aside, centre, square):
    """Logit, variance and loss of filter m with the rewards of a group, of which `right` of `heard` are 1; see `learned`."""
    grown = later(variance, most(step, -step), filters, m, M)
    odds = odds_of(logit + level)
    alpha, beta = (1.0 + odds) / grown, (1.0 + 1.0 / odds) / grown
    worth = alpha + beta
    rest = worth + beside
    far = (worth + heard) / rest
    off = (centre * worth - alpha + aside) / rest
    lost = within * far * far + square * off * off
    alpha = alpha + right
    beta = beta + (heard - right)
    after, spread = log(alpha / beta) - level, 1.0 / alpha + 1.0 / beta
    late = step < 0.0
    gain = where(late, variance / grown, 1.0)
    after = where(late, logit + gain * (after - logit), after)
    return after, where(late, variance - gain * gain * (grown - spread), spread), lost


@word
def learned(i, mine, N, M, chained, t, again, first_group, turn, notes, known, gap,
            offset, n, w, wz, ww, wwz, wwzz, www, shared, filters, out,
            ahead, seen, loss):  # fmt: skip
    """What the filters believe after group i, if it has turn t, at the first group of its prompt; adds their losses.

    At turn 0 every prompt gets a belief.  A late group shows what the prompt was: what the belief at that step gains, the
    one of today gains in proportion.  The loss is the sum over the traces of ``w^2 (z - V)^2`` in squared typical weights,
    with V from the past and the other traces of the group; what is left out is as heavy as a trace on average, by w^2.

    first_group, turn: (N,) if `chained` is 1, else each group is of a prompt of its own
    notes: what the turns before have written, if `again` is 1
    out: (N, 2 + 2 M), as `notes`, 0 where nothing is known; ahead, seen: (N,), steps of the prompt's newest visit beyond
    that before, and 1 if anything is known of it, else 0; loss: (M,)
    """
    f = i + chained * (get(first_group, i * chained, mine) - i)
    now = mine & (chained * get(turn, i * chained, mine) == t) & (get(n, i, mine) > 0.0)
    mine = now | (mine & (f == i) & (t == 0))
    there, since, start = get(known, i, mine) > 0.0, get(gap, i, mine), get(offset, i, mine)
    before = 0.0 * since
    if again > 0:
        there, before = get(seen, f, mine) > 0.0, get(ahead, f, mine)
    step = where(there, since - before, 0.0)
    low, high, k, typical, level = read(shared, 0), read(shared, 1), read(shared, 2), read(shared, 4), read(shared, 6)
    mass, right, square = get(w, i, mine), get(wz, i, mine), get(ww, i, mine)
    middle, top = get(wwz, i, mine), get(wwzz, i, mine)
    some_weight = square > 0.0
    safe = where(some_weight, square, 1.0)
    others = mass - where(some_weight, get(www, i, mine) / safe, 0.0)
    centre = where(some_weight, middle / safe, 0.0)  # the mean, by w^2
    # of a single trace what others show is rounding, which little worth magnifies
    several = others > mass * ALONE
    beside = where(several, k * others, 0.0)
    within = where(several, most(top - centre * middle, 0.0), 0.0)
    aside = where(several, k * (mass * centre - right), 0.0)
    heard = k * mass
    s = least(k * right, heard)
    told = there | (now & (mass > 0.0))
    at = f * (2 * M + 2)
    for m in range(M):
        logit, variance = believed(i + again * (f - i), mine, M, m, notes, there, start, filters)
        after, spread, lost = updated(
            logit, variance, step, filters, m, M, level, heard, s, beside, within, aside, centre, square
        )
        add(loss, m, where(now, lost / (typical * typical), 0.0))
        put(out, at + 2 + m, where(told, where(now, after, logit), 0.0), mine)
        put(out, at + 2 + M + m, where(told, where(now, spread, variance), 0.0), mine)
    put(out, at, where(told, low, 0.0), mine)
    put(out, at + 1, where(told, high, 0.0), mine)
    put(ahead, f, where(now, where(there, before + most(step, 0.0), since), before), mine)
    put(seen, f, where(told, 1.0, 0.0), mine)


@word
def traced(i, mine, N, V, mass, gap, level, filters, out, worth):
    """Rollouts that each of a prompt's V visits added to the belief of filter i, less what they lost since; its worth.

    gap: (V + 1,), steps before each visit and after the last.  out: (V, N); worth: (N,)
    """
    odds = odds_of(read(level, 0))
    shape, variance = 2.0 + odds + 1.0 / odds, 4.0 / get(filters, N + i, mine)
    for v in range(V + 1):
        before = variance
        variance = later(variance, read(gap, v), filters, i, N)
        for u in range(v):
            put(out, u * N + i, get(out, u * N + i, mine) * (before / variance), mine)
        if v < V:
            put(out, v * N + i, read(mass, v), mine)
            variance = variance * shape / (shape + read(mass, v) * variance)
    put(worth, i, shape / variance, mine)


@word
def ticked(i, mine, N, step, newest, mass, out):
    """After a batch of that step and that sum of weights: the newest step; 1 if it is later; steps since the one before.

    out: (3,)
    """
    before = read(newest, 0)
    some = read(mass, 0) > 0.0
    later_by = where(some, step - before, 0.0)
    put(out, i, before + most(later_by, 0.0), mine)
    put(out, i + 1, where(later_by > 0.0, 1.0, 0.0), mine)
    put(out, i + 2, later_by, mine)


@over(met)
def _met(N, M, last, step, first_group, notes, known, gap):
    for i in range(N):
        met(i, True, N, M, last, step, first_group, notes, known, gap)


@over(prepared)
def _prepared(N, J, running, common, odds, weights, prior_odds, members, shared, filters):
    for i in range(N):
        prepared(i, True, N, J, running, common, odds, weights, prior_odds, members, shared, filters)


@over(recalled)
def _recalled(N, M, notes, known, shared, out):
    for i in range(N):
        recalled(i, True, N, M, notes, known, shared, out)


@over(evidence)
def _evidence(N, M, notes, known, gap, offset, w, wz, shared, filters, out, sums):
    for i in range(N):
        evidence(i, True, N, M, notes, known, gap, offset, w, wz, shared, filters, out, sums)


@over(forecast)
def _forecast(N, M, each, notes, known, gap, offset, level, told, filters, mean, worth, middle):
    for i in range(N):
        forecast(i, True, N, M, each, notes, known, gap, offset, level, told, filters, mean, worth, middle)


@over(joined)
def _joined(N, M, one, group, mass, k, mean, worth, filters, out):
    for i in range(N):
        joined(i, True, N, M, one, group, mass, k, mean, worth, filters, out)


@over(posterior)
def _posterior(N, U, one, each, shares, place, group, mass, total, k, weight, low, span, told, sums, shared, out):
    for i in range(N):
        posterior(i, True, N, U, one, each, shares, place, group, mass, total, k, weight, low, span, told, sums,
                  shared, out)  # fmt: skip


@over(traced)
def _traced(N, V, mass, gap, level, filters, out, worth):
    for i in range(N):
        traced(i, True, N, V, mass, gap, level, filters, out, worth)


@over(ticked)
def _ticked(N, step, newest, mass, out):
    for i in range(N):
        ticked(i, True, N, step, newest, mass, out)


@over(learned)
def _learned(N, M, chained, t, again, first_group, turn, notes, known, gap, offset, n, w, wz, ww, wwz, wwzz, www, shared,
             filters, out, ahead, seen, loss):  # fmt: skip
    for i in range(N):
        learned(i, True, N, M, chained, t, again, first_group, turn, notes, known, gap, offset, n, w, wz, ww, wwz, wwzz, www,
                shared, filters, out, ahead, seen, loss)  # fmt: skip
