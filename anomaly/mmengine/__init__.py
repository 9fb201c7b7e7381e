"""Integration with mmengine: metrics inside its validation and test loops, and mmsegmentation's datasets."""
