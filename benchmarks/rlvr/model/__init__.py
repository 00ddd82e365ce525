"""The policy: a transformer over characters, what it samples, and the gradients of its log-probabilities."""
