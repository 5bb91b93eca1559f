"""Studies in Optuna Dashboard: what it shows of them, and the copy it is served from."""
