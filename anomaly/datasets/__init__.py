"""Evaluation datasets: ``catalog`` lists them, one module describes each benchmark, and ``dataset`` reads frames."""
