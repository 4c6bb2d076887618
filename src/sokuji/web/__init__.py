"""HTTP/1.1 for every role that serves it: connections within bounds, by address."""
