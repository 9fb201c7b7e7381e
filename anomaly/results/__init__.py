"""Records of evaluations, stored score maps, comparison and verification."""
