"""Post-processing of score maps: pure functions, (H, W) float32 in and out, higher = more anomalous."""
