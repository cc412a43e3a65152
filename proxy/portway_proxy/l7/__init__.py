"""Layer 7: HTTP from accept to endpoint and back."""
