"""Several services, one answer."""
