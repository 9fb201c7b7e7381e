"""Pure functions for mixtures, without state; densities of Gaussians are in :mod:`anomaly.density.gaussian`."""

from gmmseg.functional.moments import direction_and_variance
from gmmseg.functional.sinkhorn import scale_to_unit, sinkhorn_assign

__all__ = ["direction_and_variance", "scale_to_unit", "sinkhorn_assign"]
