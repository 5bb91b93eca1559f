"""Tables in, answers out: verdicts, edges, what to use, and how far to trust it. Pure functions of tables."""
