"""Training with mmengine: the runner, hooks, a sampler, layer-wise learning rates and mixed precision on a CPU."""

from gmmseg.training.class_balanced_sampler import ClassBalancedSampler
from gmmseg.training.cpu_amp import CPUAmpOptimWrapper
from gmmseg.training.layer_decay import LayerDecayConstructor
from gmmseg.training.mixture_monitor_hook import MixtureMonitorHook
from gmmseg.training.runner import SafeRunner
from gmmseg.training.training_guard_hook import TrainingGuardHook

__all__ = [
    "CPUAmpOptimWrapper",
    "ClassBalancedSampler",
    "LayerDecayConstructor",
    "MixtureMonitorHook",
    "SafeRunner",
    "TrainingGuardHook",
]
