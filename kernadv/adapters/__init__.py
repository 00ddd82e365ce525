"""Adapters of training frameworks: `kernadv.adapters.trl`, `.verl`, `.torchrl`, `.skyrl`, `.slime`.

Each is one module, which alone imports its framework; nothing is computed in them but sums over tokens.
"""

from kernadv.adapters._driver import Driver as Driver
from kernadv.adapters._process import at_step as at_step
from kernadv.adapters._process import use as use
