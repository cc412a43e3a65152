"""The data plane: a proxy that serves what a snapshot says and is reconfigured without a reload."""
