"""What ``make demo`` shows: simulated alerts of both surveys, sent through the real broker."""
