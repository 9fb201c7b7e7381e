"""Records of evaluations, score maps on disk, comparison and verification."""
