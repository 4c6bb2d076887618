"""What every role needs to run as a process: a supervisor, an end that drains, health and metrics, structured logs."""
