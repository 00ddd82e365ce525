"""Operators of kernel smoothing on a device, each with a reference in torch and a fused kernel; imports torch."""
