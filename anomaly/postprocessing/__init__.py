"""Post-processing of score maps: pure functions of ``(H, W)`` float32 maps; higher = more anomalous."""
