"""Parts of the synthetic street scenes: camera, light, surfaces, objects and lens."""
