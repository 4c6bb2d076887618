"""HTTP/1.1 for every role that serves it: bounded connections, shared fairly between client addresses."""
