"""On PYTHONPATH: OpenRLHF imports these packages, and what is run of it here does not use them."""

import sys
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

NAMES = ("vllm", "deepspeed", "flash_attn", "ring_flash_attn", "optimum", "pynvml", "bitsandbytes")


class Anything(type):
    """Every attribute is the class itself, so that it can be inherited from and called."""

    def __getattr__(cls, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return cls


class Nothing(metaclass=Anything):
    """Takes any arguments, and keeps none."""

    def __init__(self, *args, **kwargs):
        pass


class Module(ModuleType):
    """Has every name."""

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return Nothing


class Finder(MetaPathFinder, Loader):
    """Finds these packages, and all that is in them."""

    def find_spec(self, name, path=None, target=None):
        return ModuleSpec(name, self, is_package=True) if name.partition(".")[0] in NAMES else None

    def create_module(self, spec):
        return Module(spec.name)

    def exec_module(self, module):
        pass


sys.meta_path.append(Finder())
