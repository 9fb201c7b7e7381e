"""Parts of pasting: its settings, the objects that are cut out, and how one is blended into an image."""
