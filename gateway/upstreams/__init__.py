"""Services: endpoints, health, limits, connections, attempts."""
