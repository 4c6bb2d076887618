"""What every role needs to run as a process: a supervisor, a draining shutdown, health and metrics, structured logs."""
