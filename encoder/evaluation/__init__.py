"""What a model is worth, measured beside the baselines a sceptic would ask for."""
