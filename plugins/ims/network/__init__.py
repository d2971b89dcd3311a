"""Which hosts untrusted code and the service's own requests may reach, and the proxy that enforces it."""
