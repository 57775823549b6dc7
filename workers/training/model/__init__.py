"""The model of a training: made or loaded, adapted, made smaller, saved."""
