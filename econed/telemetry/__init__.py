"""What econed reports about itself: logs, access log, metrics."""
