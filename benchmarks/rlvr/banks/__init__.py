"""Banks of many traces of the prompts of one step, and the errors of values and gradients on them."""
