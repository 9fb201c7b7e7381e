"""What all parts need, and which knows none of them: checks of values and names, files, threads."""
