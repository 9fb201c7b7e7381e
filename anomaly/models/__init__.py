"""Networks as the evaluation asks them: what a prediction holds, and an adapter for each kind of network."""
