"""Densities over the features of pixels: mixtures of Gaussians and nearest neighbours, in whitened coordinates."""
