"""Charts to point at, for pages and Optuna Dashboard: plain data that plotly.js draws."""
