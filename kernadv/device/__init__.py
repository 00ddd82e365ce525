"""The estimator where the rewards are, on a GPU; imports torch, so nothing here is imported before it is needed."""
