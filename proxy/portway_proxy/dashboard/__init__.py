"""The dashboard: what it shows of a proxy or a fleet, gathered while somebody looks and at no other time."""
