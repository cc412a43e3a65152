"""HTTP/2 (RFC 9113) without input or output: bytes in, calls of streams out, bytes to send in a list."""
