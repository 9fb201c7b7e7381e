"""The parts of the generated street scenes: camera, light, surfaces, things, lens."""
