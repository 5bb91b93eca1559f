"""Members trained in one fit: their weights stacked, each with its own learning rate and seed."""
