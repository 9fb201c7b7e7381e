"""From a model and datasets to metrics: one loop, its configuration, callbacks."""
