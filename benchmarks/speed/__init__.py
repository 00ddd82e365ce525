"""Speed and memory: pytest-benchmark suites, a group a case with ours and its peers in it, so that a ratio is of one run."""
