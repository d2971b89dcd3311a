"""What the triggerer does while a task waits."""
