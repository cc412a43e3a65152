"""Layer 4: listeners of opaque ports and the relays that carry their bytes."""
