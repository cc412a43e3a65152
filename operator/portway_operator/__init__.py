"""The control plane: reads Kubernetes objects and compiles them into the snapshot that proxies serve."""
