"""mmengine's machinery, where the project needs it otherwise."""

from gmmseg.engine.class_balanced_sampler import ClassBalancedSampler
from gmmseg.engine.cpu_amp import CPUAmpOptimWrapper
from gmmseg.engine.mixture_monitor_hook import MixtureMonitorHook
from gmmseg.engine.runner import SafeRunner
from gmmseg.engine.training_guard_hook import TrainingGuardHook

__all__ = ["CPUAmpOptimWrapper", "ClassBalancedSampler", "MixtureMonitorHook", "SafeRunner", "TrainingGuardHook"]
