"""The view that forwards; fetch()."""
