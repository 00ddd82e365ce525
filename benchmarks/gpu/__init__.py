"""The fused kernels on this machine's GPU: verified, then timed beside their peers."""
