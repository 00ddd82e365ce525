"""Operators of kernel smoothing on a device: a reference in torch, and a fused kernel; imports torch."""
