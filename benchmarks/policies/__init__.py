"""What a baseline does to a policy, in a simulator where pass rates and gradients are exact."""
