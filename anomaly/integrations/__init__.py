"""The only code of this package that knows mmseg and mmengine."""
