"""The command: see `run.py`."""

from benchmarks.gpu.run import main

main()
