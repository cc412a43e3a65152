"""Says what becomes of a request, and why, by the code that serves the traffic."""
