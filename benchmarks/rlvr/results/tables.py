"""Every table of the page "Evidence" from the results in the repository.

Command: ``python -m benchmarks.rlvr.results.tables``; the page itself calls the same functions.
"""

from __future__ import annotations

from benchmarks.rlvr.banks import tokens
from benchmarks.rlvr.results import audit_check, gradient_tables, policy_tables, value_tables

SECTIONS = {
    "Values": value_tables.tables,
    "Gradients": gradient_tables.tables,
    "Policies": policy_tables.tables,
    "A baseline that moves along the trace": lambda: {
        "Second moments": tokens.table(),
        "Accuracy": policy_tables.along_the_trace(),
    },
    "The audit beside the truth": audit_check.tables,
}


def main() -> None:
    """Print all."""
    for section, make in SECTIONS.items():
        print(f"# {section}\n")
        for title, table in make().items():
            print(f"## {title}\n\n{table}\n")


if __name__ == "__main__":
    main()
