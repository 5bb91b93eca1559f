"""What ``lr-study admin`` does: list, show, export, import and delete studies."""
