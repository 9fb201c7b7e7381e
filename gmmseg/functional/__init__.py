"""Pure functions for mixtures, without state."""

from gmmseg.functional.gaussian import diagonal_log_prob, gaussian_peak
from gmmseg.functional.moments import direction_and_variance
from gmmseg.functional.sinkhorn import scale_to_unit, sinkhorn_assign

__all__ = ["diagonal_log_prob", "gaussian_peak", "direction_and_variance", "scale_to_unit", "sinkhorn_assign"]
