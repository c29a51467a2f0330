"""The demo: three services with one story, a gateway in front of them, and URLs to try (`python -m demo`)."""
