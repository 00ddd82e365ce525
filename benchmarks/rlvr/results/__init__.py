"""What the runs and the banks say: numbers, tables and figures of the page "Evidence"."""
