# The mixtures of the GMMSeg paper; gmmseg/settings.py describes each setting.
mixture = dict(
    num_components=5,
    embed_dim=64,
    memory_size=32_000,
    max_samples=20,
    em_interval=5,
    mean_momentum=0.999,
    std_momentum=0.0,
    sinkhorn_epsilon=0.05,
    sinkhorn_iterations=3,
    contrast_weight=0.01)
# Logs the state of the mixtures; docs/training.md describes the values.
custom_hooks = [dict(type='gmmseg.MixtureMonitorHook')]
