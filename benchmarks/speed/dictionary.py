"""The straightforward way: a dictionary of past rewards and a loop, as a training script would write it."""

from __future__ import annotations


class DictionaryEstimator:
    """KAE with a triangular kernel and a relative bandwidth, one prompt at a time in plain Python."""

    def __init__(self, h: float) -> None:
        self.h = h
        self.history: dict[str, list[tuple[int, float]]] = {}

    def advantages(self, prompt_ids: list[str], rewards: list[float], step: int) -> list[float]:
        """Rewards minus leave-one-out values; the batch mean where nothing is known."""
        width = step * self.h
        groups: dict[str, list[float]] = {}
        for prompt, reward in zip(prompt_ids, rewards, strict=True):
            groups.setdefault(prompt, []).append(reward)
        past: dict[str, tuple[float, float]] = {}
        for prompt in groups:
            top = bottom = 0.0
            for visit, reward in self.history.get(prompt, ()):
                weight = max(0.0, 1.0 - (step - visit) / width)
                top += weight * reward
                bottom += weight
            past[prompt] = top, bottom
        mean = sum(rewards) / len(rewards)
        out = []
        for prompt, reward in zip(prompt_ids, rewards, strict=True):
            top, bottom = past[prompt]
            own = groups[prompt]
            weight = bottom + len(own) - 1
            out.append(reward - (top + sum(own) - reward) / weight if weight > 0 else reward - mean)
        for prompt, reward in zip(prompt_ids, rewards, strict=True):
            self.history.setdefault(prompt, []).append((step, reward))
        return out
