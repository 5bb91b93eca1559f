"""Where results live: opening a database, what is stored in it and under which names, who holds a study, what is damaged."""
