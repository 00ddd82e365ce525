"""What batch and history on a device do, as torch operators: torch on the CPU, Triton on a GPU."""

import torch
from torch import Tensor

from kernadv.device import groups, table, visits
from kernadv.device.table import Found
from kernadv.device.visits import Visits
from kernadv.moments.dispatch import triton_module


def put_visits(held: Visits, rows: Tensor, now: Tensor, sums: Tensor, step: int, room: int) -> Tensor:
    """Add visits to a history, in place; see `kernadv.device.visits.put`."""
    return _put_visits(*held, rows, now, sums, step, room)


def enter_ids(keys: Tensor, rows: Tensor, used: Tensor, ids: Tensor, found: Found, wanted: Tensor) -> Tensor:
    """Take new ids into a sorted table, in place; see `kernadv.device.table.enter`."""
    return _enter_ids(keys, rows, used, ids, *found, wanted)


@torch.library.custom_op("kernadv::put_visits", mutates_args=("step", "n", "first", "second", "size", "newest"))
def _put_visits(
    step: Tensor, n: Tensor, first: Tensor, second: Tensor, size: Tensor, newest: Tensor,
    rows: Tensor, now: Tensor, sums: Tensor, at: int, room: int,
) -> Tensor:  # fmt: skip
    return visits.put(Visits(step, n, first, second, size, newest), rows, now, sums, at, room)


@_put_visits.register_kernel("cuda")
def _(step, n, first, second, size, newest, rows, now, sums, at, room):
    module = triton_module("kernadv.device.triton_visits") or visits
    return module.put(Visits(step, n, first, second, size, newest), rows, now, sums, at, room)


@_put_visits.register_fake
def _(step, n, first, second, size, newest, rows, now, sums, at, room):
    return torch.empty_like(rows)


@torch.library.custom_op("kernadv::enter_ids", mutates_args=("keys", "rows", "used"))
def _enter_ids(
    keys: Tensor, rows: Tensor, used: Tensor, ids: Tensor, row: Tensor, hit: Tensor, place: Tensor, wanted: Tensor
) -> Tensor:
    return table.enter(keys, rows, used, ids, Found(row, hit, place), wanted)


@_enter_ids.register_kernel("cuda")
def _(keys, rows, used, ids, row, hit, place, wanted):
    module = triton_module("kernadv.device.triton_table") or table
    return module.enter(keys, rows, used, ids, Found(row, hit, place), wanted)


@_enter_ids.register_fake
def _(keys, rows, used, ids, row, hit, place, wanted):
    return torch.empty_like(ids)


@torch.library.custom_op("kernadv::sum_of_others", mutates_args=())
def sum_of_groupmates(parts: Tensor, begin: Tensor, end: Tensor) -> Tensor:
    """Sums over the other rows of each row's group; see `kernadv.device.groups.sum_of_groupmates`."""
    return groups.sum_of_groupmates(parts, begin, end)


@sum_of_groupmates.register_kernel("cuda")
def _(parts, begin, end):
    module = triton_module("kernadv.device.triton_groups") or groups
    return module.sum_of_groupmates(parts, begin, end)


@sum_of_groupmates.register_fake
def _(parts, begin, end):
    return torch.empty_like(parts)
