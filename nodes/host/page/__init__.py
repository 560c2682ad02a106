"""What the pack's JavaScript asks of the server."""
