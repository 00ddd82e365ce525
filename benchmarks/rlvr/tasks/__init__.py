"""What the policy learns: problems, a teacher that writes traces of them, and a verifiable reward."""

from benchmarks.rlvr.tasks.base import Problem, Task
from benchmarks.rlvr.tasks.chain_sum import ChainSum
from benchmarks.rlvr.tasks.euclid import Euclid
from benchmarks.rlvr.tasks.lookup import Lookup

TASKS: dict[str, type[Task]] = {task.name: task for task in (ChainSum, Lookup, Euclid)}

__all__ = ["TASKS", "Problem", "Task"]
