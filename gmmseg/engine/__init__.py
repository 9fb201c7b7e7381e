"""mmengine's machinery, where the project needs it otherwise."""

from gmmseg.engine.runner import SafeRunner

__all__ = ["SafeRunner"]
