"""Where objects come from: YAML files, or a cluster."""
