"""A detector of calls that make the host wait for a device, which also works without one.

`Forbidden` refuses what fetches numbers (``item``, ``tolist``, ``cpu``, truth of a tensor, ``nonzero``, masks as indices);
within torch's fake tensors, which hold no numbers at all, whatever would need one raises besides.
"""

from collections import Counter

import numpy as np
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from kernadv.device import history, state
from kernadv.device.batch import DeviceBatch

FETCH = {"item", "tolist", "cpu", "numpy", "__bool__", "__int__", "__float__", "__index__",
         "nonzero", "argwhere", "unique", "unique_consecutive", "masked_select", "equal", "allclose", "is_nonzero",
         "__array__", "repeat_interleave", "bincount"}  # fmt: skip


class Forbidden(TorchFunctionMode):
    """Raises on what fetches numbers; counts the other calls."""

    def __init__(self):
        super().__init__()
        self.calls = 0

    def __torch_function__(self, func, types, args=(), kwargs=None):
        name = getattr(func, "__name__", str(func))
        self.calls += 1
        if name in FETCH:
            raise AssertionError(f"{name} waits for the device")
        if name in ("__getitem__", "__setitem__"):
            index = args[1] if isinstance(args[1], tuple) else (args[1],)
            if any(isinstance(part, torch.Tensor) and part.dtype == torch.bool for part in index):
                raise AssertionError("a mask as an index waits for the device")
            if any(isinstance(part, list | np.ndarray) for part in index):
                raise AssertionError(
                    "an index of the host is copied from pageable memory: the device waits for the host"
                )
        if name == "to" and ("cpu" in map(str, args[1:])) and not args[0].is_cpu:
            raise AssertionError("to('cpu') waits for the device")
        if name == "tensor" or (name == "new_tensor"):
            raise AssertionError(f"{name} copies from pageable memory: the device waits for the host")
        return func(*args, **(kwargs or {}))


class Unanswered:
    """A `Bound` whose counter never comes back; fake tensors have no numbers to send."""

    def __init__(self, device):
        self.most = 0

    def add(self, count):
        self.most += count

    def ask(self, counter):
        torch.empty_like(counter).copy_(counter)


def unread(keys, z, tick=None, clock=(1,), weight=None):
    """A batch on a device as it is read against a history that holds nothing."""
    made = DeviceBatch(keys, z, tick, list(clock), history.DeviceHistory(keys.device), weight)
    made.kind = torch.float64
    return made


def leave_unanswered(monkeypatch):
    """From now on no counter comes back."""
    for module in (history, state):
        monkeypatch.setattr(module, "Bound", Unanswered)


def fake():
    """Tensors without numbers."""
    return FakeTensorMode()


class Dispatched(TorchDispatchMode):
    """Operators that launch something, by name: views and scalars do not."""

    def __init__(self):
        super().__init__()
        self.operators = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = str(func)
        if not any(part in name for part in ("view", "expand", "select", "slice", "unbind", "detach", "alias", "squeeze",
                                             "permute", "device", "scalar_tensor", "as_strided", "empty")):  # fmt: skip
            self.operators[name] += 1
        return func(*args, **(kwargs or {}))


#: Operators that have no deterministic form on a GPU, or need CUBLAS_WORKSPACE_CONFIG for it.
NOT_DETERMINISTIC = ("mm", "mv", "bmm", "addmm", "addmv", "baddbmm", "dot", "vdot", "linear", "einsum", "scatter_add",
                     "bincount", "histc", "median", "kthvalue", "put_", "cumsum")  # fmt: skip


class Deterministic(Dispatched):
    """Refuses what torch refuses on a GPU that was told to be deterministic; sums of whole numbers are."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = str(func).split(".")[1]
        whole = name == "cumsum" and not args[0].is_floating_point()
        if name.removesuffix("_") in NOT_DETERMINISTIC and not whole:
            raise AssertionError(f"{func} is not deterministic")
        return super().__torch_dispatch__(func, types, args, kwargs)
