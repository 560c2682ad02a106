"""What tests and scripts share: the pack as a package, the host, checkpoints, photos."""
